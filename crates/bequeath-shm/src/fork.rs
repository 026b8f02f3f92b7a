//! A forked child is a member with its own counts before `fork` returns in either process.
//!
//! The parent announces the child: a member entry that is pending, and one reference slot per object
//! that the parent holds, owned by that entry. The child claims the entry; from then on the slots are
//! its. If there is no child (fork failed, or it died first) the scavenger settles the entry like any
//! dead member's. Adopted blocks are private by then (`adopted.rs`).

use std::sync::atomic::Ordering::*;
use std::sync::{Arc, Weak};

use bequeath_sync::ProcessId;

use crate::adopted::AdoptedBlock;
use crate::broken::{self, Mistake};
use crate::local::Local;
use crate::members::Standing;
use crate::object::Entry;
use crate::runs::{MappedRuns, RememberedRun};
use crate::scavenger::now_seconds;
use crate::session::Session;
use crate::words::{self, MemberName};
use crate::{Error, Result};

/// What the parent prepared for a child. Made before a fork, given back after it in both processes.
pub struct ForkTicket {
    child: MemberName,
    parent: ProcessId,
    counted: Vec<(Arc<Entry>, u32)>,
    adopted: Vec<Arc<AdoptedBlock>>,
    runs: Vec<RememberedRun>,
}

/// A child that was announced, for [`Session::note_child`].
#[derive(Clone, Copy, Debug)]
pub struct Announced(MemberName);

impl ForkTicket {
    /// The child as its parent announced it.
    #[must_use]
    pub fn announced(&self) -> Announced {
        Announced(self.child)
    }
}

impl Session {
    /// Before a fork: makes adopted blocks private and counts everything once more, for the child.
    ///
    /// # Errors
    /// Out of memory or over the budget. The fork may still be done; the child then counts for itself
    /// with [`Session::join_forked_child`], without the guarantee that nothing was given back before.
    pub fn before_fork(&self) -> Result<ForkTicket> {
        self.me()?;
        let parent = ProcessId::current();
        self.keep_adopted()?;
        let child = self
            .space()
            .join(parent, Standing::Preparing, now_seconds())?;
        let mut local = self.local();
        let runs = local.runs.freeze();
        let entries: Vec<_> = local.entries.values().filter_map(Weak::upgrade).collect();
        let adopted = local.adopted.values().filter_map(Weak::upgrade).collect();
        drop(local);
        let mut ticket = ForkTicket {
            child,
            parent,
            counted: Vec::new(),
            adopted,
            runs,
        };
        let whose = if broken::is(Mistake::ChildCountedForParent) {
            self.me()?
        } else {
            child
        };
        for entry in entries {
            match self.count_for(words::owned(whose), entry.reference) {
                Ok(index) => ticket.counted.push((entry, index)),
                Err(error) => {
                    self.after_fork_parent(ticket, None);
                    return Err(error);
                }
            }
        }
        // From here on there may be a child, whatever becomes of us.
        self.space()
            .change_standing(child, Standing::Preparing, Standing::Pending);
        Ok(ticket)
    }

    /// After a fork, in the parent: `child` is what fork returned, `None` if it failed.
    pub fn after_fork_parent(&self, ticket: ForkTicket, child: Option<u32>) {
        self.local().runs.thaw();
        match child {
            Some(pid) => self.note_child(ticket.announced(), pid),
            None => self.withdraw(&ticket),
        }
    }

    /// The same where the child's number is not known yet; tell it with [`Session::note_child`].
    pub fn after_fork_parent_unknown(&self, ticket: ForkTicket) {
        self.local().runs.thaw();
        drop(ticket);
    }

    /// Notes an announced child's number, so that its death is known even if it never claims.
    pub fn note_child(&self, child: Announced, pid: u32) {
        let Announced(name) = child;
        // Only while it is this child's entry: a later user of it is known by its own claim.
        let same = self
            .space()
            .see(name.index)
            .is_some_and(|seen| seen.name == name);
        if let (true, Some(process), Ok(member)) =
            (same, ProcessId::of(pid), self.space().member(name.index))
        {
            member.note.store(process.to_bits(), Release);
        }
    }

    /// An announced child that there will never be: the fork failed. What was counted for it is given back now,
    /// and not when its time is over.
    pub fn no_child(&self, child: Announced) {
        self.space()
            .change_standing(child.0, Standing::Pending, Standing::Settling);
        self.scavenge();
    }

    fn withdraw(&self, ticket: &ForkTicket) {
        let (name, word) = (ticket.child, words::owned(ticket.child));
        for before in [Standing::Pending, Standing::Preparing] {
            self.space()
                .change_standing(name, before, Standing::Settling);
        }
        for (_, index) in &ticket.counted {
            self.release_slot(*index, word);
        }
        let seen = self.space().see(name.index);
        if let Some(seen) = seen.filter(|seen| seen.identity == Some(ticket.parent)) {
            self.space()
                .change_standing(name, Standing::Settling, Standing::Free);
            self.space().clear_identity(seen);
        }
    }

    /// After a fork, in the child: claims what the parent counted.
    ///
    /// # Errors
    /// [`Error::TicketExpired`] when others took the child for dead and gave the counts back
    /// meanwhile; it has then joined anew and counted again what was still alive. [`Error::ForeignSession`] in
    /// another PID namespace: whatever is left of the session here raises the same.
    pub fn after_fork_child(&self, ticket: ForkTicket) -> Result<()> {
        self.mend_tables(&ticket);
        self.arrive(Some(ticket.parent))?;
        let member = self.space().member(ticket.child.index)?;
        let (parent, me) = (ticket.parent.to_bits(), ProcessId::current().to_bits());
        let claimed = member
            .identity
            .compare_exchange(parent, me, AcqRel, Relaxed)
            .is_ok()
            && self
                .space()
                .change_standing(ticket.child, Standing::Pending, Standing::Live);
        if !claimed {
            self.join_forked_child()?;
            return Err(Error::TicketExpired);
        }
        self.become_member(ticket.child);
        for (entry, index) in &ticket.counted {
            entry.slot.store(*index, Relaxed);
        }
        self.count_late_entries(&ticket);
        Ok(())
    }

    fn mend_tables(&self, ticket: &ForkTicket) {
        if self.local_tables().are_whole() {
            self.local().runs.thaw();
            return;
        }
        let entry =
            |(entry, _): &(Arc<Entry>, u32)| (entry.reference.offset, Arc::downgrade(entry));
        let adopted = |block: &Arc<AdoptedBlock>| (block.offset(), Arc::downgrade(block));
        self.local_tables().replace(Local {
            entries: ticket.counted.iter().map(entry).collect(),
            runs: MappedRuns::rebuild(&ticket.runs),
            adopted: ticket.adopted.iter().map(adopted).collect(),
        });
    }

    /// What another thread of the parent opened after the counting: counted now, by the child itself.
    fn count_late_entries(&self, ticket: &ForkTicket) {
        let entries: Vec<_> = self
            .local()
            .entries
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        if entries.len() > ticket.counted.len() {
            let known: std::collections::HashSet<_> = ticket
                .counted
                .iter()
                .map(|(entry, _)| entry.reference)
                .collect();
            for entry in entries
                .iter()
                .filter(|entry| !known.contains(&entry.reference))
            {
                self.recount(entry);
            }
        }
    }

    fn recount(&self, entry: &Entry) {
        // What died meanwhile keeps a slot that is nobody's: closing it does nothing.
        let counted = self
            .me()
            .and_then(|me| self.count_for(words::owned(me), entry.reference));
        entry.slot.store(counted.unwrap_or(u32::MAX), Relaxed);
    }

    /// In a child of a fork without ticket (a template's child, or a fork that no hook saw): joins as
    /// a fresh member and counts everything that its parent held and that is still alive.
    ///
    /// # Errors
    /// Out of memory, or [`Error::ForeignSession`].
    pub fn join_forked_child(&self) -> Result<()> {
        self.arrive(None)?;
        if !self.local_tables().are_whole() {
            self.local_tables().replace(Local::default());
        }
        let me = self.space().join(ProcessId::current(), Standing::Live, 0)?;
        self.become_member(me);
        let entries: Vec<_> = self
            .local()
            .entries
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        entries.iter().for_each(|entry| self.recount(entry));
        Ok(())
    }
}
