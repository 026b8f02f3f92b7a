//! The end of a pool: how it is asked for, who waits for it, and what the interpreter's own end leaves out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_pool::Event;
use pyo3::prelude::*;

use crate::blocking;
use crate::error::EngineError;

use super::books::Step;
use super::driver::PoolDriver;
use super::signalled;

/// A waiting thread looks so often whether a signal handler is to run.
const SLICE: Duration = Duration::from_millis(100);

/// How far a pool's end has come.
#[derive(Default)]
pub struct Ending {
    /// No worker is left.
    ended: AtomicBool,
    /// And all is told.
    finished: Mutex<bool>,
    told_finished: Condvar,
    /// The thread in which the interpreter ends, once it does.
    left_off_by: Mutex<Option<ThreadId>>,
}

impl Ending {
    fn finished(&self) -> MutexGuard<'_, bool> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left_off_by(&self) -> MutexGuard<'_, Option<ThreadId>> {
        let by = self.left_off_by.lock();
        by.unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolDriver {
    pub(super) fn end(&self, py: Python<'_>, event: Event) -> PyResult<()> {
        self.check_home()?;
        self.happen(py, event);
        self.wake();
        signalled::raise()
    }

    /// Terminates without anybody's being told.
    pub(super) fn end_untold(&self, py: Python<'_>) -> PyResult<()> {
        self.check_home()?;
        *self.ending.left_off_by() = Some(std::thread::current().id());
        let mut steps = Vec::new();
        self.books().note(Event::Terminated, &mut steps);
        self.carry_out(py, without_settling(steps));
        self.wake();
        signalled::raise()
    }

    /// Whether the interpreter ends, and will end this thread, too.
    pub(super) fn is_left_off_here(&self) -> bool {
        let by = *self.ending.left_off_by();
        by.is_some_and(|by| by != std::thread::current().id())
    }

    /// Waits until all is over; false when the deadline passed first.
    pub(super) fn wait_for_end(&self, py: Python<'_>, deadline: Deadline) -> PyResult<bool> {
        self.hand_baton_over();
        loop {
            let slice = deadline.earlier(Deadline::after(SLICE));
            let finished = blocking::wait(py, "pool", |_| {
                let finished = self.ending.finished();
                let left = slice.remaining().unwrap_or(SLICE);
                let waited =
                    self.ending
                        .told_finished
                        .wait_timeout_while(finished, left, |finished| !*finished);
                Ok::<_, EngineError>(*waited.unwrap_or_else(PoisonError::into_inner).0)
            })?;
            if finished || deadline.is_past() {
                return Ok(finished);
            }
            py.check_signals()?;
        }
    }

    /// No worker is left: the driver's thread ends when all is told.
    pub(super) fn note_end(&self) {
        self.ending.ended.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ending.ended.load(Ordering::SeqCst)
    }

    /// The driver's thread hears and tells nothing more.
    pub(super) fn finish(&self) {
        self.waking.end();
        let dead = self.last_dead().take();
        drop(dead);
        *self.ending.finished() = true;
        self.ending.told_finished.notify_all();
    }

    pub(super) fn is_finished(&self) -> bool {
        *self.ending.finished()
    }
}

/// What follows without anybody's being told.
pub fn without_settling(steps: Vec<Step>) -> Vec<Step> {
    let keep = |step: &Step| !matches!(step, Step::Settle(..));
    steps.into_iter().filter(keep).collect()
}
