//! What can go wrong on a connection, one variant per thing that a caller could do something about.

use bequeath_sync::{Interrupted, ProcessId};

/// Result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a message could not be sent or received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The other end is closed and everything it sent was taken.
    #[error("the other end of the connection is closed")]
    Ended,
    /// The other end was closed in the middle of a message.
    #[error("got end of file during message")]
    EndedInside,
    /// The message is longer than the caller allowed; the rest of the stream cannot be read.
    #[error("bad message length")]
    TooLong {
        /// Bytes of the message.
        length: u64,
    },
    /// The bytes are no frame: somebody else writes to this descriptor.
    #[error("what was received is no frame of multiprocessing")]
    Malformed,
    /// A frame names blocks or handles of a session, and this process has no part in it.
    #[error("the message is for members of the session of process {sender}")]
    NotForUs {
        /// Who sent it.
        sender: u32,
    },
    /// The envelope was lost together with its sender.
    #[error("a message of process {sender} was lost: {reason}")]
    Lost {
        /// Who sent it.
        sender: u32,
        /// What the session said about the envelope.
        #[source]
        reason: bequeath_shm::Error,
    },
    /// This process had no room for the descriptors of the message, which stays unread.
    #[error("the next message carries {carried} descriptors and this process is out of them: {source}; the message stays unread")]
    OutOfDescriptors {
        /// Descriptors that the message carries.
        carried: usize,
        /// EMFILE.
        source: bequeath_os::Error,
    },
    /// More descriptors than one message can carry.
    #[error("a message on a connection can carry {limit} descriptors, not {found}")]
    TooManyDescriptors {
        /// Descriptors in the message.
        found: usize,
        /// The kernel's limit, less our own.
        limit: usize,
    },
    /// Descriptors and shared objects cannot go through a pipe or over a network.
    #[error("this connection cannot carry descriptors or shared objects: {0}")]
    CannotCarry(&'static str),
    /// The session refused (memory, mostly).
    #[error(transparent)]
    Session(#[from] bequeath_shm::Error),
    /// A signal handler asked to stop waiting.
    #[error("interrupted")]
    Interrupted,
    /// A system call failed.
    #[error(transparent)]
    Os(#[from] bequeath_os::Error),
}

impl From<Interrupted> for Error {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}

impl Error {
    /// The number of a process whose identity came in a frame; 0 for rubbish.
    pub(crate) fn pid_of(bits: u64) -> u32 {
        ProcessId::from_bits(bits).map_or(0, ProcessId::pid)
    }
}
