//! The session: the processes of one tree and the memory that they share.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::block::Block;
use crate::object::{AnyHandle, Handle, Object};
use crate::reference::Reference;
use crate::Result;

/// What a new session is to be like.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Fixed size of the arena in bytes; default 1 TiB or what RLIMIT_FSIZE allows.
    pub size: Option<u64>,
    /// Memory budget in bytes; default: half of what the limits leave, or `BEQUEATH_MEMORY_LIMIT`.
    pub limit: Option<u64>,
}

pub(crate) struct Inner {}

/// This process's membership in a session; clones share it.
#[derive(Clone)]
pub struct Session(#[allow(dead_code)] Arc<Inner>);

/// Figures of a session, for people and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes of pages that the arena has, by the kernel's count.
    pub used: u64,
    /// The budget.
    pub limit: u64,
    /// Fixed size of the arena.
    pub size: u64,
    /// Bytes of free blocks whose pages are kept for reuse (approximate).
    pub warm: u64,
    /// Processes that are members now.
    pub members: u64,
    /// References that are counted now, of processes and envelopes.
    pub references: u64,
}

impl Session {
    /// Makes a session with this process as its first member.
    ///
    /// # Errors
    /// Without memory files, under too small an RLIMIT_FSIZE, out of descriptors or memory.
    pub fn create(options: &Options) -> Result<Self> {
        let _ = options;
        unimplemented!()
    }

    /// Joins the session whose arena this descriptor is.
    ///
    /// # Errors
    /// [`Error::NotASession`](crate::Error::NotASession), [`ForeignSession`](crate::Error::ForeignSession), [`Corrupted`](crate::Error::Corrupted).
    pub fn attach(descriptor: OwnedFd) -> Result<Self> {
        let _ = descriptor;
        unimplemented!()
    }

    /// The session that this process uses by default, if it has one yet.
    #[must_use]
    pub fn current() -> Option<Self> {
        unimplemented!()
    }

    /// Makes this the process's default session.
    pub fn set_current(&self) {
        unimplemented!()
    }

    /// The arena's descriptor, after checking that the number still means it.
    ///
    /// # Errors
    /// [`DescriptorLost`](crate::Error::DescriptorLost).
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        unimplemented!()
    }

    /// A block of at least `len` bytes with undefined content.
    ///
    /// # Errors
    /// Over the budget or out of memory.
    pub fn allocate(&self, len: usize) -> Result<Block> {
        let _ = len;
        unimplemented!()
    }

    /// Makes an object: zeroed, then `initialise`d before anybody can see it.
    ///
    /// # Errors
    /// Over the budget or out of memory.
    pub fn create_object<T: Object>(&self, initialise: impl FnOnce(&T)) -> Result<Handle<T>> {
        self.create_sized(0, initialise)
    }

    /// The same with `extra` zeroed bytes behind the body ([`Handle::extra`]).
    ///
    /// # Errors
    /// Over the budget or out of memory.
    pub fn create_sized<T: Object>(&self, extra: usize, initialise: impl FnOnce(&T)) -> Result<Handle<T>> {
        let _ = (extra, initialise);
        unimplemented!()
    }

    /// Takes a reference to an object that somebody holds.
    ///
    /// # Errors
    /// [`Stale`](crate::Error::Stale) for one that is gone or forged, [`WrongKind`](crate::Error::WrongKind).
    pub fn open<T: Object>(&self, reference: Reference) -> Result<Handle<T>> {
        let _ = reference;
        unimplemented!()
    }

    /// The same without knowing the type.
    ///
    /// # Errors
    /// [`Stale`](crate::Error::Stale).
    pub fn open_any(&self, reference: Reference) -> Result<AnyHandle> {
        let _ = reference;
        unimplemented!()
    }

    /// Figures of this moment.
    ///
    /// # Errors
    /// When the descriptor is lost.
    pub fn usage(&self) -> Result<Usage> {
        unimplemented!()
    }

    /// The memory budget in bytes, the same for all members.
    #[must_use]
    pub fn limit(&self) -> u64 {
        unimplemented!()
    }

    /// Changes the budget for all members.
    pub fn set_limit(&self, bytes: u64) {
        let _ = bytes;
        unimplemented!()
    }

    /// A cell in the session's header that serialises access to the board, the socket pair through which
    /// the channel's queues share their descriptors; all zero at the start.
    #[must_use]
    pub fn board_cell(&self) -> &bequeath_sync::Cell<1> {
        unimplemented!()
    }

    /// Gives back what the dead held; returns how many dead members were settled.
    pub fn scavenge(&self) -> usize {
        unimplemented!()
    }
}
