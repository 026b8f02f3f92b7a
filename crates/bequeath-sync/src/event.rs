//! `Event`: a flag that any number of processes wait for.

use bequeath_os::Deadline;

use crate::broken::{self, Mistake};
use crate::cell::Cell;
use crate::error::{Error, Result};
use crate::park::Interrupt;
use crate::seen::{self, EventSeen};
use crate::wait_word::{WaitOutcome, WaitWord};
use crate::waiting::Waiting;

/// A flag between processes. All zero is a cleared event.
///
/// # After fork
/// Valid in both processes.
///
/// # If a peer dies
/// A setter: the flag was set, and everybody woken, or neither. A waiter: nothing happens to anybody.
#[repr(C)]
#[derive(Debug)]
pub struct Event {
    cell: Cell<2>,
    set: WaitWord,
}

/// The words of the state: the flag, and how often it was set. The count tells a waiter that the
/// event was set for it, even if somebody cleared it before the waiter looked.
const FLAG: usize = 0;
const TIMES: usize = 1;

impl Event {
    /// A cleared event.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cell: Cell::new(),
            set: WaitWord::new(),
        }
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.cell.lock().state()[FLAG] != 0
    }

    /// Sets it and wakes everybody.
    pub fn set(&self) {
        let mut guard = self.cell.lock();
        let [flag, mut times] = guard.state();
        if flag == 0 && broken::is(Mistake::ToldBeforeSet) {
            times = times.wrapping_add(1);
            guard.stage([0, times]);
            guard.commit_and_wake(&self.set, u32::MAX);
            guard = self.cell.lock();
        }
        if flag == 0 {
            guard.stage([1, times.wrapping_add(1)]);
            guard.commit_and_wake(&self.set, u32::MAX);
        }
    }

    /// Clears it.
    pub fn clear(&self) {
        let mut guard = self.cell.lock();
        let [flag, times] = guard.state();
        if flag != 0 {
            guard.stage([0, times]);
            guard.commit();
        }
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// [`Error::TimedOut`] and [`Error::Interrupted`].
    pub fn wait(&self, deadline: Deadline, interrupt: &mut dyn Interrupt) -> Result<()> {
        let mut guard = self.cell.lock_until(deadline, interrupt)?;
        let before = guard.state();
        let mut now = before;
        let mut waiting = Waiting::new();
        while now[FLAG] == 0 && now[TIMES] == before[TIMES] {
            if deadline.is_past() {
                return Err(Error::TimedOut);
            }
            match guard.wait_as(&self.set, deadline, &mut waiting) {
                WaitOutcome::Woken | WaitOutcome::TimedOut => {}
                WaitOutcome::Slice | WaitOutcome::Interrupted => interrupt.check()?,
            }
            guard = self.cell.lock();
            now = guard.state();
        }
        Ok(())
    }

    /// What a copy of an event's words says; `None` when it is too short.
    #[must_use]
    pub fn read(words: &[u64]) -> Option<EventSeen> {
        let (state, cell_held_by) = seen::cell::<2>(words)?;
        Some(EventSeen {
            set: state[FLAG] != 0,
            times: state[TIMES],
            cell_held_by,
        })
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}
