//! Giving back what the dead held. Run by whoever proves a death, when memory is short, and on
//! reaping a child; any number of processes may do it at once, and any of them may die doing it.
//!
//! Everything is found by looking, nothing is remembered: slots and references owned by a member whose
//! process is dead. Each is settled by the same compare-and-swaps that the living use; the member's
//! entry becomes free only when nothing of its is left.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::*;

use bequeath_os::memfd;
use bequeath_sync::ProcessId;

use crate::arena::Place;
use crate::block::BlockName;
use crate::broken::{self, Mistake};
use crate::envelope::is_in_kernel;
use crate::layout::{holds_objects, PAGE};
use crate::members::{Seen, Standing};
use crate::reference::Reference;
use crate::registry::Verdict;
use crate::session::Session;
use crate::words::{self, MemberName, Owner};

/// A child that was announced, whose number nobody noted, and that has claimed nothing for this long,
/// is taken for dead. (One that was only stopped finds its ticket expired and counts anew what still
/// lives.)
const PENDING_SECONDS: u64 = 60;

/// Whether members are dead, asked once each.
struct Verdicts<'a> {
    session: &'a Session,
    known: HashMap<MemberName, bool>,
}

impl Verdicts<'_> {
    fn is_gone(&mut self, name: MemberName) -> bool {
        *self
            .known
            .entry(name)
            .or_insert_with(|| self.session.is_gone(name))
    }
}

impl Session {
    /// Gives back what the dead held; returns how many dead members were settled.
    pub fn scavenge(&self) -> usize {
        let dead: Vec<Seen> = self
            .space()
            .members()
            .filter(|seen| is_dead(*seen))
            .collect();
        self.settle(&dead)
    }

    /// Whether the process with this number is a member and alive.
    #[must_use]
    pub fn has_member(&self, pid: u32) -> bool {
        let is_it = |seen: &Seen| seen.identity.is_some_and(|identity| identity.pid() == pid);
        let live = |seen: &Seen| seen.standing == Standing::Live && is_it(seen);
        let found = self.space().members().find(live);
        found.is_some_and(|seen| !is_dead(seen))
    }

    /// As [`scavenge`](Self::scavenge), for one process that the caller knows to be dead (it was reaped).
    pub fn reap(&self, process: ProcessId) -> usize {
        self.settle_some(|identity| identity == process)
    }

    /// The same for a process of which only the number is left. A later process with that number is
    /// alive, and not touched.
    pub fn reap_pid(&self, pid: u32) -> usize {
        self.settle_some(|identity| identity.pid() == pid)
    }

    fn settle_some(&self, is_it: impl Fn(ProcessId) -> bool) -> usize {
        let its = |seen: &Seen| seen.identity.is_some_and(&is_it) || seen.note.is_some_and(&is_it);
        let dead: Vec<Seen> = self
            .space()
            .members()
            .filter(its)
            .filter(|seen| is_dead(*seen))
            .collect();
        if dead.is_empty() {
            0
        } else {
            self.settle(&dead)
        }
    }

    /// Whether owner words with this name are a dead member's.
    pub(crate) fn is_gone(&self, name: MemberName) -> bool {
        if self.my_word() == Some(words::owned(name)) {
            return false; // whatever the table says
        }
        match self.space().see(name.index) {
            // The entry went on to another generation: this one was settled.
            Some(seen) if seen.name != name => true,
            Some(seen) => is_dead(seen) || matches!(seen.standing, Standing::Free | Standing::Left),
            None => false,
        }
    }

    fn settle(&self, dead: &[Seen]) -> usize {
        let Ok(me) = self.me() else { return 0 };
        let mine = words::owned(me);
        for seen in dead
            .iter()
            .filter(|seen| seen.standing == Standing::Pending)
        {
            // From here on a late child finds its ticket expired.
            self.space()
                .change_standing(seen.name, Standing::Pending, Standing::Settling);
        }
        let mut verdicts = Verdicts {
            session: self,
            known: HashMap::new(),
        };
        self.space().settle_intents();
        let complete = self.settle_places(&mut verdicts, mine);
        self.settle_references(&mut verdicts);
        if !complete {
            return 0;
        }
        dead.iter()
            .filter(|seen| self.forget_member(**seen))
            .count()
    }

    fn forget_member(&self, seen: Seen) -> bool {
        if let (Standing::Live, Some(process)) = (seen.standing, seen.identity) {
            // Its parent, who learns the cause, may come later.
            self.space().note_death(&seen, process, None);
        }
        match seen.standing {
            Standing::Leaving => {
                self.space()
                    .change_standing(seen.name, Standing::Leaving, Standing::Left)
            }
            Standing::Pending | Standing::Settling => {
                self.space().clear_identity(seen);
                self.space()
                    .change_standing(seen.name, Standing::Settling, Standing::Free)
            }
            Standing::Live | Standing::Preparing => {
                let freed = self
                    .space()
                    .change_standing(seen.name, seen.standing, Standing::Free);
                // Free already: by a cleaner who may have died before the next step.
                let is_free = |now: Seen| now.name == seen.name && now.standing == Standing::Free;
                if freed || self.space().see(seen.name.index).is_some_and(is_free) {
                    self.space().clear_identity(seen);
                }
                freed
            }
            Standing::Free => {
                self.space().clear_identity(seen);
                false
            }
            Standing::Left | Standing::Unknown => false,
        }
    }

    /// True when nothing had to be left for later.
    fn settle_places(&self, verdicts: &mut Verdicts<'_>, mine: u64) -> bool {
        let mut complete = true;
        let (mut warm_slots, mut warm_runs) = (0_i64, 0_i64);
        self.space().for_each_place(|place| {
            let word = place.slot.owner.load(Acquire);
            match words::parse(word) {
                Owner::Free { warm: true } => {
                    let bytes = i64::from(place.slot.backed.load(Relaxed)) * PAGE as i64;
                    let total = if place.pool.is_some() {
                        &mut warm_slots
                    } else {
                        &mut warm_runs
                    };
                    *total = total.saturating_add(bytes);
                }
                // (A word of the dead stays until it is settled, and with it the use of the extent.)
                Owner::Owned(name) | Owner::Outgoing(name)
                    if verdicts.is_gone(name) && self.space().is_current(&place) =>
                {
                    complete &= self.settle_place(&place, word, mine);
                }
                Owner::InKernel if is_in_kernel(word) && self.space().is_current(&place) => {
                    self.settle_token(&place, mine);
                }
                _ => {}
            }
        });
        // What deaths made of the estimates is put right.
        self.space().header().warm_slots.store(warm_slots, Relaxed);
        self.space().header().warm_runs.store(warm_runs, Relaxed);
        complete
    }

    /// A place whose owner is dead.
    fn settle_place(&self, place: &Place<'_>, word: u64, mine: u64) -> bool {
        if place.pool.is_some_and(holds_objects) {
            self.settle_object(place, word, mine);
            return true;
        }
        let name = BlockName {
            offset: place.offset,
            generation: place.slot.generation.load(Relaxed),
        };
        let via = place.slot.via.load(Acquire);
        let verdict = if via == 0 {
            Verdict::DoesNot
        } else {
            self.ask(via, name)
        };
        match (verdict, Reference::from_bits(via)) {
            (Verdict::Unclear, _) => return false,
            (Verdict::Refers, Some(object)) => {
                let _ =
                    place
                        .slot
                        .owner
                        .compare_exchange(word, words::queued(object), AcqRel, Relaxed);
            }
            _ => {
                if place
                    .slot
                    .owner
                    .compare_exchange(word, mine, AcqRel, Relaxed)
                    .is_ok()
                {
                    self.free_place_of_the_dead(place, mine);
                }
            }
        }
        true
    }

    fn settle_object(&self, place: &Place<'_>, word: u64, mine: u64) {
        if place
            .slot
            .owner
            .compare_exchange(word, mine, AcqRel, Relaxed)
            .is_ok()
        {
            self.settle_owned_object(place, mine);
            if let Ok(standing) = self.space().object_standing(place.offset) {
                // Its last reference may have gone while the slot was ours, and found it taken.
                self.destroy_object(Reference {
                    offset: place.offset,
                    generation: standing.generation,
                });
            }
        }
    }

    /// An envelope in the kernel's hands, unless the kernel destroyed the message.
    fn settle_token(&self, place: &Place<'_>, mine: u64) {
        let Ok(fd) = self.descriptor() else { return };
        if memfd::is_range_held(fd.as_fd(), place.offset).unwrap_or(true) {
            return;
        }
        if place
            .slot
            .owner
            .compare_exchange(words::IN_KERNEL, mine, AcqRel, Relaxed)
            .is_ok()
        {
            self.free_place(place, mine);
        }
    }

    fn settle_references(&self, verdicts: &mut Verdicts<'_>) {
        self.space().for_each_reference(|index, slot| {
            let word = slot.owner.load(Acquire);
            if let Owner::Owned(name) = words::parse(word) {
                if verdicts.is_gone(name) {
                    self.release_slot(index, word);
                }
            }
        });
    }
}

/// Whether what stands in this entry is owed by nobody alive.
fn is_dead(seen: Seen) -> bool {
    let Some(identity) = seen.identity else {
        return false;
    };
    if broken::is(Mistake::NoDeathCheck) {
        return identity != ProcessId::current();
    }
    match seen.standing {
        Standing::Settling => true,
        Standing::Pending => match seen.note {
            Some(child) => child.is_dead(),
            None => now_seconds().saturating_sub(seen.stamp) > PENDING_SECONDS,
        },
        Standing::Left | Standing::Unknown => false,
        Standing::Free | Standing::Live | Standing::Leaving | Standing::Preparing => {
            identity.is_dead()
        }
    }
}

/// The monotonic clock in seconds, the same for all processes of the machine.
pub(crate) fn now_seconds() -> u64 {
    bequeath_os::Deadline::now().as_nanos() / 1_000_000_000
}
