//! Answers that cannot be received as they are. One whose descriptors this process has no room for is its task's
//! error; behind one that cannot be read at all nothing can be heard any more, and the pool is broken.

use std::sync::atomic::Ordering;

use bequeath_channel::{Error, Message};
use bequeath_pool::Event;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::EngineError;

use super::act::Later;
use super::answer_label::{AnswerLabel, Verdict};
use super::driver::PoolDriver;

impl PoolDriver {
    /// Whether there is no hearing any more.
    pub(super) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }

    /// The oldest answer could not be received, for this reason.
    pub(super) fn cannot_receive(&self, py: Python<'_>, message: &mut Message, error: Error) {
        let is_short = matches!(
            error,
            Error::NoRoomForDescriptors { .. } | Error::DescriptorsLost
        );
        let error = PyErr::from(EngineError::from(error));
        if is_short && self.results.recv_without_descriptors(message).is_ok() {
            self.hear_of_loss(py, message, error);
        } else {
            self.go_deaf(py, error);
        }
    }

    /// Its label is there, what it says is not.
    fn hear_of_loss(&self, py: Python<'_>, message: &mut Message, error: PyErr) {
        let Some(label) = AnswerLabel::take(message) else {
            return self.go_deaf(py, malformed());
        };
        let event = match label.verdict {
            Verdict::Nudge => return,
            Verdict::Ready => Event::Ready(label.worker),
            Verdict::NotReady => {
                self.set_cause(py, error);
                self.happen(py, Event::InitializerFailed(label.worker));
                return;
            }
            Verdict::Returned | Verdict::Raised | Verdict::Interrupted => Event::Answered {
                worker: label.worker,
                task: label.task,
                took: label.took,
            },
        };
        if let Some(closing) = self.happen(py, event) {
            let error = error.into_value(py).into_any();
            self.leave(Later::Fail(closing, error));
        }
    }

    /// Nothing can be heard any more.
    pub(super) fn go_deaf(&self, py: Python<'_>, error: PyErr) {
        if !self.deaf.swap(true, Ordering::Relaxed) {
            self.set_cause(py, error);
            self.happen(py, Event::Unreadable);
        }
    }

    /// Why the pool is about to be broken.
    pub(super) fn set_cause(&self, py: Python<'_>, error: PyErr) {
        let former = self.cause().replace(error.into_value(py).into_any());
        drop(former);
    }
}

/// What is said of a message that no worker or pool of ours has written.
pub(super) fn malformed() -> PyErr {
    PyValueError::new_err("the message is malformed: shared memory was written by something else")
}
