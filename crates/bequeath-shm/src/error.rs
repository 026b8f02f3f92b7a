//! What can go wrong in a session, one variant per thing a caller could do something about.

use crate::budget::LimitSource;
use crate::reference::Reference;

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a session could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The session's memory budget would be exceeded.
    #[error(
        "limit {limit} (from {from}): {used} bytes of shared memory in use, {needed} more needed"
    )]
    Budget {
        /// Bytes that were asked for.
        needed: u64,
        /// Bytes that the arena has now.
        used: u64,
        /// The budget: `BEQUEATH_MEMORY_LIMIT` or `Session::set_limit`.
        limit: u64,
        /// What set it.
        from: LimitSource,
    },
    /// The kernel had no memory or no room for the arena to grow.
    #[error("the kernel has no memory for {needed} more bytes of shared memory: {source}")]
    OutOfMemory {
        /// Bytes that were asked for.
        needed: u64,
        /// The call that failed.
        source: bequeath_os::Error,
    },
    /// The arena's address range is used up (only with a small `RLIMIT_FSIZE`).
    #[error("limit {size} (from {from}): no free range of {needed} bytes in the shared memory")]
    ArenaFull {
        /// Bytes that were asked for.
        needed: u64,
        /// Fixed size of the arena.
        size: u64,
        /// What set it.
        from: LimitSource,
    },
    /// The file size limit leaves no room for an arena at all.
    #[error("an arena needs at least {needed} bytes, RLIMIT_FSIZE allows {allowed}")]
    FileSizeLimit {
        /// Smallest possible arena.
        needed: u64,
        /// What the limit allows.
        allowed: u64,
    },
    /// A request that no arena can meet, such as a length beyond the address space.
    #[error("limit {room} (from {from}): {needed} bytes are more than the shared memory can hold")]
    TooLarge {
        /// Bytes that were asked for.
        needed: u64,
        /// The most that there can be.
        room: u64,
        /// What set it.
        from: LimitSource,
    },
    /// A table of fixed size is full.
    #[error("the session's table of {what} is full ({limit} entries)")]
    TableFull {
        /// What it holds.
        what: &'static str,
        /// How many fit.
        limit: u64,
    },
    /// The object or block named by a reference is gone, or never was.
    #[error("{0} names nothing that is alive: it is stale or forged")]
    Stale(Reference),
    /// The object exists, and is of another kind.
    #[error("{reference} is of kind {found}, not {wanted}")]
    WrongKind {
        /// Which object.
        reference: Reference,
        /// Its kind.
        found: u32,
        /// The kind asked for.
        wanted: u32,
    },
    /// Shared memory holds values that no member of the session writes.
    #[error("the session's memory is corrupted: {0}")]
    Corrupted(&'static str),
    /// The descriptor is not a session's arena, or of another layout.
    #[error("not a session of this version of bequeath: {0}")]
    NotASession(&'static str),
    /// The descriptor is an arena that this process must not join.
    #[error("this process cannot join the session: {0}")]
    ForeignSession(&'static str),
    /// The program closed the arena's descriptor (`os.closerange`), or replaced it.
    #[error("the session's descriptor {fd} was closed or replaced by this program")]
    DescriptorLost {
        /// The number that it had.
        fd: i32,
    },
    /// A forked child came too late: its references were already given back.
    #[error("this forked child's references were given back before it claimed them")]
    TicketExpired,
    /// A system call failed.
    #[error(transparent)]
    Os(#[from] bequeath_os::Error),
}

impl Error {
    /// Whether it says that there is no memory for what was asked: less may still be had, and more once
    /// something was given back.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(
            self,
            Self::Budget { .. }
                | Self::OutOfMemory { .. }
                | Self::ArenaFull { .. }
                | Self::TooLarge { .. }
        )
    }

    /// Whether it is RLIMIT_FSIZE that leaves no room: nothing that is given back will make enough.
    #[must_use]
    pub fn is_for_file_size(&self) -> bool {
        matches!(
            self,
            Self::Budget {
                from: LimitSource::FileSize,
                ..
            } | Self::ArenaFull {
                from: LimitSource::FileSize,
                ..
            } | Self::TooLarge {
                from: LimitSource::FileSize,
                ..
            }
        )
    }
}
