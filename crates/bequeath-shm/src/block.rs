//! Blocks: pooled room for payloads, each with exactly one owner.

use crate::reference::Reference;
pub use crate::reference::BlockName;
use crate::session::Session;
use crate::{Adopted, Result};

/// A piece of the arena that this process owns; dropping it gives it back.
pub struct Block {
    session: Session,
    name: BlockName,
}

// SAFETY note: a block is moved between threads like a Vec.
impl Block {
    /// First byte; at least 64-byte aligned (4096 from 4 KiB on).
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        unimplemented!()
    }

    /// Bytes in use, as given to `allocate` or `set_len`.
    #[must_use]
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether no byte is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that may be written without growing.
    #[must_use]
    pub fn capacity(&self) -> usize {
        unimplemented!()
    }

    /// Declares how many bytes are in use; at most the capacity (larger values are clamped).
    pub fn set_len(&mut self, len: usize) {
        let _ = len;
        unimplemented!()
    }

    /// Its name: what a record stores.
    #[must_use]
    pub fn name(&self) -> BlockName {
        self.name
    }

    /// The session it lives in.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Copies `bytes` in at `at`; the range must lie within the capacity, else nothing is copied and
    /// false returned.
    pub fn write_at(&mut self, at: usize, bytes: &[u8]) -> bool {
        let _ = (at, bytes);
        unimplemented!()
    }

    /// Copies bytes out; false when the range does not lie within the capacity.
    pub fn read_at(&self, at: usize, into: &mut [u8]) -> bool {
        let _ = (at, into);
        unimplemented!()
    }

    /// Becomes private writable memory in place (decision 4).
    #[must_use]
    pub fn adopt(self) -> Adopted {
        unimplemented!()
    }

    /// First step of moving it into the object `via`: from now on its fate after a death is what the
    /// committed state of `via` says. Dropping the result (not committed) frees the block.
    #[must_use]
    pub fn prepare(self, via: Reference) -> Outgoing {
        let _ = via;
        unimplemented!()
    }

    /// Takes a block out of the object `via`, under that object's cell and before its commit.
    ///
    /// # Errors
    /// `Stale`/`Corrupted` when `name` is not a block that `via` can hold; out of memory when it cannot
    /// be mapped. Nothing has changed then.
    pub fn claim(session: &Session, name: BlockName, via: Reference) -> Result<Incoming> {
        let _ = (session, name, via);
        unimplemented!()
    }

    /// Address of a block that stays where it is (KEPT by an object), such as a queue's segment:
    /// first byte and capacity, mapped as long as the session lives in this process for blocks of at most 1 MiB.
    ///
    /// # Errors
    /// `Stale`/`Corrupted`, or out of memory.
    pub fn peek(session: &Session, name: BlockName) -> Result<(*mut u8, usize)> {
        let _ = (session, name);
        unimplemented!()
    }
}

/// A block or envelope on its way into an object: between `prepare` and the object's commit.
pub struct Outgoing {
    session: Session,
    name: BlockName,
}

impl Outgoing {
    /// What the object's state has to store.
    #[must_use]
    pub fn name(&self) -> BlockName {
        self.name
    }

    /// After the commit: it is queued in the object now. (Losing this call to a kill is harmless.)
    pub fn settle_queued(self) {
        unimplemented!()
    }

    /// After the commit: the object keeps it (segments, bodies).
    pub fn settle_kept(self) {
        unimplemented!()
    }

    /// Not committed: this process's again.
    #[must_use]
    pub fn take_back(self) -> Block {
        let _ = &self.session;
        unimplemented!()
    }
}

/// A block on its way out of an object: between `claim` and the object's commit. Dropping it
/// (not committed) puts it back.
pub struct Incoming {
    session: Session,
}

impl Incoming {
    /// After the commit: it is this process's now.
    #[must_use]
    pub fn accept(self) -> Block {
        let _ = &self.session;
        unimplemented!()
    }
}
