//! Envelopes: one block that carries everything a message needs, moved as one.
//!
//! Payload bytes, further blocks and references all hang on the envelope: whoever owns the
//! envelope owns them, so that moving a message is one change of one word.

use std::os::fd::OwnedFd;

use crate::block::{Block, BlockName, Outgoing};
use crate::object::AnyHandle;
use crate::reference::Reference;
use crate::session::Session;
use crate::Result;

/// How much an envelope has to hold; fixed when it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Payload bytes inside the envelope itself.
    pub payload: usize,
    /// Blocks to attach.
    pub blocks: usize,
    /// References to attach.
    pub references: usize,
}

/// A message's carrier, owned by this process; dropping it frees all that it carries.
pub struct Envelope {
    block: Block,
}

impl Envelope {
    /// An empty envelope with this much room.
    ///
    /// # Errors
    /// Over the budget or out of memory.
    pub fn new(session: &Session, room: Room) -> Result<Self> {
        let _ = (session, room);
        unimplemented!()
    }

    /// A word of the sender's choice (which block is the payload, which kind of message).
    #[must_use]
    pub fn tag(&self) -> u64 {
        unimplemented!()
    }

    /// Sets the word.
    pub fn set_tag(&mut self, tag: u64) {
        let _ = tag;
        unimplemented!()
    }

    /// The payload: first byte and length; 64-byte aligned.
    #[must_use]
    pub fn payload(&self) -> (*mut u8, usize) {
        unimplemented!()
    }

    /// Copies `bytes` into the payload at `at`; false (and no copy) when they do not fit.
    pub fn write_payload(&mut self, at: usize, bytes: &[u8]) -> bool {
        self.block.write_at(at, bytes)
    }

    /// Copies payload bytes out; false when the range lies outside.
    pub fn read_payload(&self, at: usize, into: &mut [u8]) -> bool {
        self.block.read_at(at, into)
    }

    /// Hangs a block on it (its `len` goes along). Fails, giving it back, when there is no room.
    ///
    /// # Errors
    /// `TableFull`; the block is freed.
    pub fn attach_block(&mut self, block: Block) -> Result<()> {
        let _ = block;
        unimplemented!()
    }

    /// Counts a further reference to the object and hangs it on the envelope.
    ///
    /// # Errors
    /// `TableFull`, or no room in the session's table of references.
    pub fn attach_reference(&mut self, handle: &AnyHandle) -> Result<()> {
        let _ = handle;
        unimplemented!()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> BlockName {
        self.block.name()
    }

    /// First step of moving it into the object `via`; see [`Block::prepare`].
    #[must_use]
    pub fn prepare(self, via: Reference) -> Outgoing {
        self.block.prepare(via)
    }

    /// Takes an envelope out of the object `via`, under its cell and before its commit. All that it
    /// carries is mapped before this returns, so that nothing can fail after the commit.
    ///
    /// # Errors
    /// `Stale`/`Corrupted`, or out of memory; nothing has changed then.
    pub fn claim(session: &Session, name: BlockName, via: Reference) -> Result<IncomingEnvelope> {
        let _ = (session, name, via);
        unimplemented!()
    }

    /// Puts it in the hands of the kernel: the descriptor must travel with the name. When the last
    /// copy of the descriptor is closed unclaimed (an unread message destroyed), the envelope is freed.
    ///
    /// # Errors
    /// Without procfs or out of descriptors; the envelope comes back freed.
    pub fn into_kernel_token(self) -> Result<(BlockName, OwnedFd)> {
        unimplemented!()
    }

    /// The receiving end of [`Envelope::into_kernel_token`]; closes the descriptor.
    ///
    /// # Errors
    /// `Stale`/`Corrupted` for a forged name or a foreign descriptor.
    pub fn from_kernel_token(session: &Session, name: BlockName, token: OwnedFd) -> Result<Self> {
        let _ = (session, name, token);
        unimplemented!()
    }

    /// Takes the attached blocks, in order.
    ///
    /// # Errors
    /// Only for an envelope that did not come through [`Envelope::claim`]: out of memory.
    pub fn take_blocks(&mut self) -> Result<Vec<Block>> {
        unimplemented!()
    }

    /// Takes the attached references as handles of this process, in order.
    ///
    /// # Errors
    /// Out of memory.
    pub fn take_references(&mut self) -> Result<Vec<AnyHandle>> {
        unimplemented!()
    }
}

/// An envelope between `claim` and the object's commit; dropping it (not committed) puts it back.
pub struct IncomingEnvelope {
    envelope: Envelope,
}

impl IncomingEnvelope {
    /// After the commit: it is this process's now.
    #[must_use]
    pub fn accept(self) -> Envelope {
        self.envelope
    }
}
