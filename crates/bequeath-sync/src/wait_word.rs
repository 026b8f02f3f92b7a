//! Where processes sleep until something is committed: an event word, and a count of who sleeps.
//!
//! Both are hints in the right direction: the event word changes at least with each commit that
//! wakes, and the count is never too low. The crate's README argues each step.

use bequeath_os::futex::Wait;
use bequeath_os::Deadline;

use crate::atomic::{AtomicU32, Ordering};
use crate::park;
use crate::spinning;
use crate::waiting::Waiting;

/// A place to sleep until somebody commits with [`Guard::commit_and_wake`](crate::Guard::commit_and_wake). All zero is valid.
///
/// # After fork
/// Valid in both processes.
///
/// # If a peer dies
/// A dead sleeper leaves the count too high; after some wakes that found nobody it is forgotten.
#[repr(C)]
#[derive(Debug)]
pub struct WaitWord {
    pub(crate) event: AtomicU32,
    /// How many sleep here (low half) in which counting period (high half). A hint: never too low.
    sleepers: AtomicU32,
}

/// Why [`Guard::wait`](crate::Guard::wait) came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitOutcome {
    /// Somebody woke us, or the wait word had changed already: look again.
    Woken,
    /// The deadline came: look a last time.
    TimedOut,
    /// A slice passed: check for signals, then look again.
    Slice,
    /// A signal arrived: as after a slice, since with frequent signals no slice ever passes.
    Interrupted,
}

const _: () = assert!(cfg!(loom) || core::mem::size_of::<WaitWord>() == 8);

impl WaitWord {
    const COUNT: u32 = 0xffff;

    /// Nobody sleeps here.
    #[must_use]
    pub fn new() -> Self {
        Self {
            event: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
        }
    }

    /// Whether anybody may sleep here. Exact enough under the cell: never falsely no.
    #[must_use]
    #[inline]
    pub fn has_sleepers(&self) -> bool {
        self.sleepers.load(Ordering::Relaxed) & Self::COUNT != 0
    }

    /// How many are registered as sleepers: not too few, but the dead may be among them.
    #[must_use]
    pub fn sleepers(&self) -> u32 {
        self.sleepers.load(Ordering::Relaxed) & Self::COUNT
    }

    /// Wakes everyone without a cell, for whoever knows that a sleeper should look again (a process
    /// that reaped a child pokes what the child had open).
    pub fn poke(&self) {
        self.event.fetch_add(1, Ordering::Relaxed);
        park::wake(&self.event, u32::MAX);
    }

    pub(crate) fn sleep(
        &self,
        expected: u32,
        deadline: Deadline,
        slice: core::time::Duration,
        alone: bool,
        waiting: &mut Waiting,
    ) -> WaitOutcome {
        // One at most looks, whoever else waits: a wake is for one, and the others would look in vain.
        if alone && spinning::look(|| self.event.load(Ordering::Relaxed) != expected) {
            return WaitOutcome::Woken;
        }
        waiting.on(&self.event);
        match park::wait(
            &self.event,
            expected,
            Deadline::after(slice).earlier(deadline),
        ) {
            Wait::Woken | Wait::Changed => WaitOutcome::Woken,
            Wait::Interrupted => WaitOutcome::Interrupted,
            Wait::TimedOut if deadline.is_past() => WaitOutcome::TimedOut,
            Wait::TimedOut => WaitOutcome::Slice,
        }
    }

    /// Under the cell: counts us in, and says in which period, and whether nobody else is counted.
    pub(crate) fn register(&self) -> (u32, bool) {
        // A full count stays full: better a needless wake than a sleeper nobody knows of.
        let add = |old: u32| {
            if old & Self::COUNT == Self::COUNT {
                old
            } else {
                old + 1
            }
        };
        let old = self
            .sleepers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(add(old)));
        let old = old.unwrap_or_else(|old| old);
        (old & !Self::COUNT, old & Self::COUNT == 0)
    }

    /// Without the cell: counts us out, unless the period we were counted in is over.
    pub(crate) fn deregister(&self, period: u32) {
        let _ = self
            .sleepers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                let count = old & Self::COUNT;
                (old & !Self::COUNT == period && count != 0 && count != Self::COUNT)
                    .then(|| old - 1)
            });
    }

    /// Under the cell: begins a new period with nobody in it.
    pub(crate) fn forget_sleepers(&self) {
        let next = |old: u32| (old & !Self::COUNT).wrapping_add(Self::COUNT + 1);
        let _ = self
            .sleepers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(next(old)));
    }
}

impl Default for WaitWord {
    fn default() -> Self {
        Self::new()
    }
}

/// Consecutive wakes of this process that found nobody. One count for all objects is enough: it only
/// decides when to look more closely.
pub(crate) mod misses {
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

    static MISSES: AtomicU32 = AtomicU32::new(0);
    const MANY: u32 = 8;

    pub(crate) fn are_many() -> bool {
        // A model must do the same each time, whatever other runs did.
        let many = !crate::atomic::IS_MODEL && MISSES.load(Relaxed) >= MANY;
        if many {
            MISSES.store(0, Relaxed);
        }
        many
    }

    pub(crate) fn note(woken: usize) {
        if woken == 0 {
            MISSES.fetch_add(1, Relaxed);
        } else {
            MISSES.store(0, Relaxed);
        }
    }
}
