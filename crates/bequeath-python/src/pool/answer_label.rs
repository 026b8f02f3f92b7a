//! What is said of a message from a worker: which task it answers, and how.

use bequeath_channel::Message;

use super::wire::{label_of, trailer, Trailer};

/// What became of a task, or of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// The pickle is the result.
    Returned = 0,
    /// It is the packed exception.
    Raised = 1,
    /// The parent's interrupt ended it.
    Interrupted = 2,
    /// No task: the initializer is done.
    Ready = 3,
    /// No task: the initializer raised this.
    NotReady = 4,
    /// No task, and no worker: the parent's thread asks the one that hears the workers to look around.
    Nudge = 5,
}

impl Verdict {
    fn from_byte(byte: u64) -> Option<Self> {
        [
            Self::Returned,
            Self::Raised,
            Self::Interrupted,
            Self::Ready,
            Self::NotReady,
            Self::Nudge,
        ]
        .into_iter()
        .find(|verdict| *verdict as u64 == byte)
    }
}

/// Behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerLabel {
    pub task: u64,
    pub worker: u32,
    pub verdict: Verdict,
    /// Nanoseconds from its beginning to here.
    pub took: u64,
}

impl AnswerLabel {
    pub fn encode(self) -> Trailer {
        trailer([
            self.task,
            u64::from(self.worker),
            self.verdict as u64,
            self.took,
        ])
    }

    /// Takes the label off a message; none when no worker of ours sent it.
    pub fn take(message: &mut Message) -> Option<Self> {
        let [task, worker, verdict, took] = label_of(message)?;
        Some(Self {
            task,
            worker: u32::try_from(worker).ok()?,
            verdict: Verdict::from_byte(verdict)?,
            took,
        })
    }
}
