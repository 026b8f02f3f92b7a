//! The baton: whoever has it hears the workers, be it the driver's thread or one that waits for its result.
//!
//! The driver's thread gets it by a message of its own into the queue of results, which wakes whoever hears those.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use bequeath_os::Deadline;
use pyo3::prelude::*;

use super::answer_label::{AnswerLabel, Verdict};
use super::driver::PoolDriver;
use super::member::Briefly;
use super::wire::Parcel;

/// Who hears the workers.
#[derive(Default)]
pub struct Baton {
    taken_by: Mutex<Option<ThreadId>>,
    free: Condvar,
    /// The driver's thread wants it.
    wanted: AtomicBool,
}

impl Baton {
    fn taken_by(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.taken_by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolDriver {
    pub(super) fn try_baton(&self) -> bool {
        let mut taken_by = self.baton.taken_by();
        if taken_by.is_some() {
            return false;
        }
        *taken_by = Some(std::thread::current().id());
        true
    }

    /// Whether this thread has it, still: a signal handler, or what a pickle calls, may have waited for the pool's
    /// end in this very thread, and handed it over for that.
    pub(super) fn is_baton_here(&self) -> bool {
        *self.baton.taken_by() == Some(std::thread::current().id())
    }

    /// Before this thread waits for what the driver's thread does.
    pub(super) fn hand_baton_over(&self) {
        if self.is_baton_here() {
            self.give_baton_back();
            self.wake();
        }
    }

    /// For the driver's thread: at once, or, if it must, as soon as whoever has it gives it back.
    pub(super) fn take_baton(&self, py: Python<'_>, must: bool) -> bool {
        if self.try_baton() {
            return true;
        }
        if !must {
            return false;
        }
        let baton = &self.baton;
        baton.wanted.store(true, Ordering::SeqCst);
        self.nudge();
        py.detach(|| {
            let taken_by = baton.free.wait_while(baton.taken_by(), |by| by.is_some());
            *taken_by.unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current().id());
        });
        baton.wanted.store(false, Ordering::SeqCst);
        true
    }

    pub(super) fn is_baton_wanted(&self) -> bool {
        self.baton.wanted.load(Ordering::SeqCst)
    }

    /// From now on workers ring. False when something came before that.
    pub(super) fn give_baton_back(&self) -> bool {
        self.bell.about_to_sleep();
        // Without its cell: whoever was stopped with that in hand rings when it goes on.
        let nothing = self.is_deaf() || self.results.len_at_a_glance().unwrap_or(0) == 0;
        self.drop_baton();
        nothing
    }

    /// The same, and workers go on not to ring.
    pub(super) fn drop_baton(&self) {
        *self.baton.taken_by() = None;
        self.baton.free.notify_one();
    }

    /// Whoever hears the workers shall look around.
    pub(super) fn nudge(&self) {
        let label = AnswerLabel {
            task: 0,
            worker: 0,
            verdict: Verdict::Nudge,
            took: 0,
        };
        let mut parcel = Parcel::bare(&label.encode());
        if let Ok(mut prepared) = self.results.prepare(parcel.outgoing()) {
            // Without memory for a few bytes nothing else will work either; and who waits for the queue itself looks.
            let mut briefly = Briefly::default();
            let _ = self
                .results
                .send_prepared(&mut prepared, Deadline::PAST, &mut briefly);
        }
    }
}
