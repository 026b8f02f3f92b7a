//! A forked child is a member with its own counts before `fork` returns in either process.
//!
//! The parent announces the child: a member entry that is pending, and one reference slot per object
//! that the parent holds, owned by that entry. The child claims the entry; from then on the slots are
//! its. If there is no child (fork failed, or it died first) the scavenger settles the entry like any
//! dead member's. While the fork is under way this process's tables are locked, so that the child's
//! copy of them is whole; adopted blocks are private by then (`adopted.rs`).

use std::sync::atomic::Ordering::*;
use std::sync::{Arc, MutexGuard};

use bequeath_sync::ProcessId;

use crate::members::Standing;
use crate::object::Entry;
use crate::scavenger::now_seconds;
use crate::session::{Local, Session};
use crate::words::{self, MemberName};
use crate::{Error, Result};

/// What the parent prepared for a child. Made before a fork, given back after it in both processes.
pub struct ForkTicket<'a> {
    /// Held over the fork by the thread that forks, in both processes.
    local: MutexGuard<'a, Local>,
    child: MemberName,
    parent: ProcessId,
    counted: Vec<(Arc<Entry>, u32)>,
}

impl Session {
    /// Before a fork: makes adopted blocks private and counts everything once more, for the child.
    ///
    /// # Errors
    /// Out of memory or over the budget. The fork may still be done; the child then counts for itself
    /// with [`Session::join_forked_child`], without the guarantee that nothing was given back before.
    pub fn before_fork(&self) -> Result<ForkTicket<'_>> {
        self.me()?;
        let parent = ProcessId::current();
        let local = self.keep_adopted()?;
        let child = self
            .space()
            .join(parent, Standing::Pending, now_seconds())?;
        let mut ticket = ForkTicket {
            local,
            child,
            parent,
            counted: Vec::new(),
        };
        let entries: Vec<_> = ticket
            .local
            .entries
            .values()
            .filter_map(std::sync::Weak::upgrade)
            .collect();
        let word = words::owned(child);
        for entry in entries {
            match self.count_for(word, entry.reference) {
                Ok(index) => ticket.counted.push((entry, index)),
                Err(error) => {
                    // Entries drop outside the lock, or their closing would wait for it.
                    self.after_fork_parent(ticket, None);
                    drop(entry);
                    return Err(error);
                }
            }
        }
        Ok(ticket)
    }

    /// After a fork, in the parent: `child` is what fork returned, `None` if it failed.
    pub fn after_fork_parent(&self, ticket: ForkTicket<'_>, child: Option<u32>) {
        let ForkTicket {
            local,
            child: name,
            parent,
            counted,
        } = ticket;
        drop(local);
        match child.map(|pid| (pid, ProcessId::of(pid))) {
            Some((_, Some(process))) => {
                if let Ok(member) = self.space().member(name.index) {
                    member.note.store(process.to_bits(), Release);
                }
            }
            // Not to be seen: if it claimed its entry it is known by that.
            Some((_, None)) => {}
            None => {
                let word = words::owned(name);
                self.space()
                    .change_standing(name, Standing::Pending, Standing::Settling);
                counted
                    .iter()
                    .for_each(|(_, index)| self.release_slot(*index, word));
                if let Some(seen) = self
                    .space()
                    .see(name.index)
                    .filter(|seen| seen.identity == Some(parent))
                {
                    self.space().clear_identity(seen);
                    self.space()
                        .change_standing(name, Standing::Settling, Standing::Free);
                }
            }
        }
        drop(counted);
    }

    /// After a fork, in the child: claims what the parent counted.
    ///
    /// # Errors
    /// [`Error::TicketExpired`] when the parent died and others gave the counts back meanwhile; the
    /// child has then joined anew and counted again what was still alive.
    pub fn after_fork_child(&self, ticket: ForkTicket<'_>) -> Result<()> {
        let ForkTicket {
            local,
            child,
            parent,
            counted,
        } = ticket;
        drop(local);
        let me = ProcessId::current();
        let member = self.space().member(child.index)?;
        let claimed = member
            .identity
            .compare_exchange(parent.to_bits(), me.to_bits(), AcqRel, Relaxed)
            .is_ok()
            && self
                .space()
                .change_standing(child, Standing::Pending, Standing::Live);
        if !claimed {
            self.join_forked_child()?;
            return Err(Error::TicketExpired);
        }
        self.become_member(child);
        for (entry, index) in &counted {
            entry.slot.store(*index, Relaxed);
        }
        Ok(())
    }

    /// In a child of a fork without ticket (a template's child, or a fork that no hook saw): joins as
    /// a fresh member and counts everything that its parent held and that is still alive.
    ///
    /// # Errors
    /// Out of memory.
    pub fn join_forked_child(&self) -> Result<()> {
        let me = self.space().join(ProcessId::current(), Standing::Live, 0)?;
        self.become_member(me);
        let entries: Vec<_> = self
            .local()
            .entries
            .values()
            .filter_map(std::sync::Weak::upgrade)
            .collect();
        for entry in &entries {
            // What died meanwhile keeps a slot that is nobody's: closing it does nothing.
            let index = self
                .count_for(words::owned(me), entry.reference)
                .unwrap_or(u32::MAX);
            entry.slot.store(index, Relaxed);
        }
        Ok(())
    }
}
