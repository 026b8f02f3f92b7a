//! What can go wrong with a queue, one variant per thing a caller could do something about.

use bequeath_shm::Maker;

/// Result of everything about queues.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a message could not be sent or received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The queue held as many messages as it may until the deadline.
    #[error("the queue is full")]
    Full,
    /// The queue held no message until the deadline.
    #[error("the queue is empty")]
    Empty,
    /// The queue was closed for everybody.
    #[error("the queue is closed")]
    Closed,
    /// A wait other than for room or a message met its deadline.
    #[error("the deadline passed")]
    TimedOut,
    /// The caller's interrupt ended a wait.
    #[error("interrupted")]
    Interrupted,
    /// `task_done` was called more often than there were messages.
    #[error("task_done() called too many times")]
    TooManyDone,
    /// The session's memory has no room for the message.
    #[error("queue {queue} holds {queued} bytes in {count} messages; {source}: no room for a message of {message} bytes")]
    Budget {
        /// Where the queue was made, and by whom.
        queue: Maker,
        /// Bytes of the message.
        message: u64,
        /// Messages in the queue.
        count: u64,
        /// Bytes of payload in the queue.
        queued: u64,
        /// The limit that was met.
        source: bequeath_shm::Error,
    },
    /// A message may carry so many descriptors and no more.
    #[error("{count} descriptors are too many for one message, {limit} are allowed")]
    TooManyDescriptors {
        /// In the message.
        count: usize,
        /// Most per message.
        limit: usize,
    },
    /// This process had no room for the message's descriptors; the message stays in the queue.
    #[error("the message carries {count} descriptors and this process has no room for them")]
    NoRoomForDescriptors {
        /// In the message.
        count: usize,
    },
    /// The descriptors that the message carried are gone: the queue's socket was emptied by something else.
    #[error("the descriptors of a message are gone")]
    DescriptorsLost,
    /// The session was joined without its board, through which processes find each other's descriptors.
    #[error(
        "this process joined the session without the descriptors that let queues carry descriptors"
    )]
    NoBoard,
    /// Shared memory holds what no queue writes.
    #[error("the queue's memory is corrupted: {0}")]
    Corrupted(&'static str),
    /// The session could not do it.
    #[error(transparent)]
    Session(#[from] bequeath_shm::Error),
    /// A system call failed.
    #[error(transparent)]
    Os(#[from] bequeath_os::Error),
}

impl From<bequeath_sync::Interrupted> for Error {
    fn from(_: bequeath_sync::Interrupted) -> Self {
        Self::Interrupted
    }
}

impl From<bequeath_sync::Error> for Error {
    fn from(error: bequeath_sync::Error) -> Self {
        match error {
            bequeath_sync::Error::TimedOut => Self::TimedOut,
            _ => Self::Interrupted,
        }
    }
}
