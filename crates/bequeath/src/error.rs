//! What can go wrong, one variant per thing a caller could do something about.

use bequeath_process::ExitStatus;

use crate::dead::DeadProcess;

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done.
///
/// ```
/// use bequeath::{Error, Session};
/// // `init` was not called, so nothing can be started: the copy would run this `main` again.
/// let session = Session::new()?;
/// let refused = session.spawn(|n: u32| n + 1, 1).map(|_| ()).unwrap_err();
/// assert!(matches!(refused, Error::NotInitialised));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `bequeath::init()` must be the first statement of `main` before anything can be started.
    #[error("call bequeath::init() first in main: a started copy of this program becomes the worker there")]
    NotInitialised,
    /// The function is not code of this program (it lies in a library loaded at run time).
    #[error(
        "the function at {address:#x} is not code of this program, so a copy of it cannot find it"
    )]
    ForeignFunction {
        /// Where it lies in this process.
        address: usize,
    },
    /// A value could not be encoded.
    #[error("cannot encode {what}: {reason}")]
    Encode {
        /// Its type.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// Bytes could not be decoded as the type asked for.
    #[error("cannot decode {what}: {reason}")]
    Decode {
        /// The type.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The object belongs to another session than the channel that was to carry it.
    #[error(
        "{what} objects of another session cannot cross: its processes do not share that memory"
    )]
    AnotherSession {
        /// The type of the object.
        what: &'static str,
    },
    /// The worker died before it gave a result.
    #[error("worker {name} (pid {pid}) died: {status}")]
    Died {
        /// The worker's name.
        name: String,
        /// Its number.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
    },
    /// The worker's function panicked.
    #[error("worker {name} (pid {pid}) panicked: {message}")]
    Panicked {
        /// The worker's name.
        name: String,
        /// Its number.
        pid: u32,
        /// What the panic said.
        message: String,
    },
    /// The worker could not take its arguments or could not hand back its result.
    #[error("worker {name} (pid {pid}) failed: {message}")]
    Failed {
        /// The worker's name.
        name: String,
        /// Its number.
        pid: u32,
        /// What it said.
        message: String,
    },
    /// The deadline came first.
    #[error("timed out")]
    TimedOut,
    /// The queue has no room now.
    #[error("the queue is full")]
    Full,
    /// The queue has no message now.
    #[error("the queue is empty")]
    Empty,
    /// The queue was closed.
    #[error("the queue is closed")]
    Closed,
    /// The holder of a lock died while it held the lock.
    #[error("the holder of the lock died: {0}")]
    Abandoned(DeadProcess),
    /// The barrier is broken: a party timed out, died or aborted it.
    #[error("the barrier is broken")]
    BrokenBarrier,
    /// The bytes are not what a peer of this version sends.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// The session refused.
    #[error(transparent)]
    Session(#[from] bequeath_shm::Error),
    /// A lock or another primitive refused.
    #[error(transparent)]
    Sync(bequeath_sync::Error),
    /// A queue refused.
    #[error(transparent)]
    Queue(bequeath_channel::Error),
    /// A process could not be started or watched.
    #[error(transparent)]
    Process(#[from] bequeath_process::Error),
    /// A system call failed.
    #[error(transparent)]
    Os(#[from] bequeath_os::Error),
}

impl From<bequeath_sync::Error> for Error {
    fn from(error: bequeath_sync::Error) -> Self {
        match error {
            bequeath_sync::Error::TimedOut => Self::TimedOut,
            bequeath_sync::Error::Broken => Self::BrokenBarrier,
            bequeath_sync::Error::Abandoned(holder) => {
                Self::Abandoned(crate::dead::describe(holder.process.pid()))
            }
            other => Self::Sync(other),
        }
    }
}

impl From<bequeath_channel::Error> for Error {
    fn from(error: bequeath_channel::Error) -> Self {
        match error {
            bequeath_channel::Error::Full => Self::Full,
            bequeath_channel::Error::Empty => Self::Empty,
            bequeath_channel::Error::Closed => Self::Closed,
            bequeath_channel::Error::TimedOut => Self::TimedOut,
            bequeath_channel::Error::Session(error) => Self::Session(error),
            bequeath_channel::Error::Os(error) => Self::Os(error),
            other => Self::Queue(other),
        }
    }
}
