//! How operations on a queue wait: for the cell, and for a message or room.

use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_sync::waiting::Waiting;
use bequeath_sync::{Cell, Guard, Interrupt, Interrupted, WaitOutcome, WaitWord};

use crate::error::{Error, Result};
use crate::state::WORDS;

/// A cell is held for less than a microsecond unless its owner was stopped: a deadline that is already past still waits so long for it.
const GRACE: Duration = Duration::from_secs(1);

/// Gives up once both the deadline and the grace are over.
struct Patience<'a> {
    deadline: Deadline,
    grace: Option<Deadline>,
    inner: &'a mut dyn Interrupt,
    over: bool,
}

impl Interrupt for Patience<'_> {
    fn check(&mut self) -> Result<(), Interrupted> {
        self.inner.check()?;
        let grace = *self.grace.get_or_insert_with(|| Deadline::after(GRACE));
        self.over = self.deadline.is_past() && grace.is_past();
        if self.over {
            Err(Interrupted)
        } else {
            Ok(())
        }
    }
}

/// Locks the cell; `late` when its owner is stopped and the deadline passes.
#[inline]
pub(crate) fn lock<'a>(
    cell: &'a Cell<WORDS>,
    deadline: Deadline,
    interrupt: &mut dyn Interrupt,
    late: Error,
) -> Result<Guard<'a, WORDS>> {
    let mut patience = Patience {
        deadline,
        grace: None,
        inner: interrupt,
        over: false,
    };
    match cell.lock_until(Deadline::NEVER, &mut patience) {
        Ok(guard) => Ok(guard),
        Err(_) if patience.over => Err(late),
        Err(_) => Err(Error::Interrupted),
    }
}

/// Unlocks and sleeps once; the caller looks again, whether somebody woke it (true) or not. `late` when the deadline
/// had passed before.
pub(crate) fn sleep(
    guard: Guard<'_, WORDS>,
    on: &WaitWord,
    deadline: Deadline,
    interrupt: &mut dyn Interrupt,
    late: Error,
    waiting: &mut Waiting,
) -> Result<bool> {
    if deadline.is_past() {
        return Err(late);
    }
    let outcome = guard.wait_as(on, deadline, waiting);
    match outcome {
        // After the deadline the caller looks a last time, then comes here with a deadline that is past.
        WaitOutcome::Woken | WaitOutcome::TimedOut => {}
        WaitOutcome::Slice | WaitOutcome::Interrupted => interrupt.check()?,
    }
    Ok(outcome == WaitOutcome::Woken)
}
