//! What can go wrong when one waits for others.

use crate::owner::ProcessId;
use crate::park::Interrupted;

/// Who holds, or held, something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub process: ProcessId,
    /// It is gone, but ended in order: what it held counts as still held.
    pub exited_in_order: bool,
}

/// Why an operation did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The deadline came first.
    #[error("the deadline came before it could be acquired")]
    TimedOut,
    /// The caller's [`Interrupt`](crate::Interrupt) asked to stop; nothing is held.
    #[error("interrupted while waiting")]
    Interrupted,
    /// The holder was killed. The lock is *not* held by the caller.
    #[error("the holder, process {}, was killed while it held the lock", .0.process.pid())]
    Abandoned(Holder),
    /// Released more often than acquired.
    #[error("released too many times")]
    NotHeld,
    /// A recursive lock may be released only by the thread that holds it.
    #[error("not held by this thread of this process")]
    NotOwner,
    /// `recover` found nothing to recover from.
    #[error("the lock is not abandoned")]
    NotAbandoned,
    /// A recursive lock was acquired more often than can be counted.
    #[error("acquired recursively too many times")]
    TooDeep,
    /// A semaphore's first value is over its maximum, or a barrier has no parties.
    #[error("value {value} is outside 0 to {limit}")]
    OutOfRange {
        /// What was asked.
        value: u64,
        /// The most that is possible.
        limit: u64,
    },
    /// A lock's word says what no lock writes; `recover` makes a lock of it again.
    #[error("the session's memory is corrupted: a lock that is neither free nor held by anybody")]
    Corrupted,
    /// The barrier is broken: a party timed out, died, aborted it, or it was reset.
    #[error("the barrier is broken")]
    Broken,
}

/// What this crate's functions return.
pub type Result<T> = core::result::Result<T, Error>;

impl From<Interrupted> for Error {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}
