//! How far a call may be read ahead whose elements come from an iterator: not further than workers are kept busy by, nor
//! than whoever takes the results follows. An input that does not fit into memory never has to.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use crate::blocking;
use crate::error::{EngineError, Result};

/// A thread that waits for room looks so often at what workers can take by now.
const SLICE: Duration = Duration::from_millis(100);

/// What is known of one call.
#[derive(Default)]
pub struct Room {
    known: Mutex<Known>,
    more: Condvar,
}

#[derive(Default)]
struct Known {
    done: u64,
    taken: u64,
    /// Somebody asks for results: it is worth waiting for that.
    asked: bool,
    lifted: bool,
    stopped: bool,
    /// Nobody can ask for results any more.
    let_go: bool,
    /// When as many are done, and as many taken, the thread that feeds the call is woken; none while it does not wait.
    wanted: Option<(u64, u64)>,
}

/// How many tasks there may be that are not done, and whose results nobody has taken.
#[derive(Clone, Copy)]
struct Bound {
    undone: u64,
    untaken: u64,
}

impl Known {
    fn bound(&self, capacity: u64, buffersize: Option<u64>) -> Bound {
        let untaken = match buffersize {
            _ if self.lifted => u64::MAX,
            Some(size) => size,
            None if self.asked => 2 * capacity,
            None => u64::MAX,
        };
        Bound {
            undone: capacity,
            untaken,
        }
    }

    /// Whether no more tasks are wanted.
    fn is_over(&self, buffersize: Option<u64>) -> bool {
        self.stopped || self.let_go && (self.asked || buffersize.is_some())
    }

    fn room(&self, submitted: u64, bound: Bound) -> u64 {
        let undone = bound.undone.saturating_sub(submitted - self.done);
        let untaken = bound.untaken.saturating_sub(submitted - self.taken);
        undone.min(untaken)
    }

    /// Whether the thread that feeds the call has to be woken.
    fn wakes(&mut self) -> bool {
        let enough = |(done, taken)| self.done >= done && self.taken >= taken;
        let wakes = self.stopped || self.let_go || self.lifted || self.wanted.is_some_and(enough);
        wakes && self.wanted.take().is_some()
    }
}

impl Room {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        change(&mut known);
        if known.wakes() {
            drop(known);
            self.more.notify_all();
        }
    }

    /// One task more is done.
    pub fn note_done(&self) {
        self.note(|known| known.done += 1);
    }

    /// Somebody asked for a result, and got one or did not.
    pub fn note_asked(&self, taken: bool) {
        self.note(|known| {
            known.asked = true;
            known.taken += u64::from(taken);
        });
    }

    /// Results need not be taken any more.
    pub fn lift(&self) {
        self.note(|known| known.lifted = true);
    }

    /// Nobody will ask for results, or for more of them.
    pub fn let_go(&self) {
        self.note(|known| known.let_go = true);
    }

    /// No more tasks are wanted.
    pub fn stop(&self) {
        self.note(|known| known.stopped = true);
    }

    /// Waits until there is room; how much. Zero when no more is wanted.
    ///
    /// # Errors
    /// What a signal handler raised.
    pub fn wait(
        &self,
        py: Python<'_>,
        submitted: u64,
        capacity: u64,
        buffersize: Option<u64>,
    ) -> Result<u64> {
        {
            let known = self.known();
            let room = known.room(submitted, known.bound(capacity, buffersize));
            let over = known.is_over(buffersize);
            if over || room > 0 {
                return Ok(if over { 0 } else { room });
            }
        }
        blocking::wait(py, "room for more tasks", |signals| loop {
            let mut known = self.known();
            let bound = known.bound(capacity, buffersize);
            let room = known.room(submitted, bound);
            let over = known.is_over(buffersize);
            if over || room > 0 {
                return Ok::<_, EngineError>(if over { 0 } else { room });
            }
            // Not at the first place that is free: a switch of threads for each task would be all that happens.
            let half = |bound: u64| submitted.saturating_sub(bound / 2);
            known.wanted = Some((half(bound.undone), half(bound.untaken)));
            let waited = self.more.wait_timeout(known, SLICE);
            waited.unwrap_or_else(PoisonError::into_inner).0.wanted = None;
            if signals.check().is_err() {
                return Ok(0);
            }
        })
    }
}
