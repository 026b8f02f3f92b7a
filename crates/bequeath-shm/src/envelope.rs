#![allow(unsafe_code)]
//! Envelopes: one block that carries everything a message needs, moved as one.
//!
//! Payload bytes, further blocks and references hang on the envelope: whoever owns the envelope owns
//! them, so that moving a message is one change of one word. A part's own owner word names the
//! envelope with its generation; an entry of the envelope's lists counts only if the word agrees, so
//! lists made of lies free nothing that is not the envelope's.
//!
//! ```text
//! head (64 bytes) | blocks: name, length each | references: slot each | payload, 64-byte aligned
//! ```
//!
//! # Safety invariants
//! Head and lists are read and written as `AtomicU64`s inside the block's mapped, backed bytes; every
//! number read from them is checked against the block's length before it is used.

use std::os::fd::{AsFd, OwnedFd};

use bequeath_os::{memfd, Errno};
use bequeath_sync::atomic::{AtomicU64, Ordering::*};

use crate::arena::Place;
use crate::block::{Block, BlockName, Incoming, Outgoing, ENVELOPE};
use crate::broken::{self, Mistake};
use crate::layout::round_up;
use crate::object::AnyHandle;
use crate::reference::Reference;
use crate::session::Session;
use crate::words::{self, Owner, IN_KERNEL, IN_KERNEL_UNSEEN};
use crate::{Error, Result};

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

const HEAD_WORDS: usize = 8;
const TAG: usize = 0;
const PAYLOAD_AT: usize = 1;
const PAYLOAD: usize = 2;
const BLOCK_ROOM: usize = 3;
const BLOCKS: usize = 4;
const REFERENCE_ROOM: usize = 5;
const REFERENCES: usize = 6;

/// The head and lists of an envelope in mapped memory, bounds known.
#[derive(Clone, Copy)]
struct Lists<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Lists<'a> {
    /// The words of the first `bytes` bytes at `address`.
    ///
    /// # Safety
    /// They are mapped and backed as long as `'a` lasts.
    unsafe fn at(address: *mut u8, bytes: usize) -> Self {
        let first = address.cast::<AtomicU64>();
        // SAFETY: mapped by the caller's word, aligned to at least 256, and atomics may be shared.
        let words = unsafe { std::slice::from_raw_parts(first, bytes / 8) };
        Self { words }
    }

    fn get(self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |word| word.load(Relaxed))
    }

    fn set(self, index: usize, value: u64) {
        if let Some(word) = self.words.get(index) {
            word.store(value, Release);
        }
    }

    fn block_at(self, index: usize) -> usize {
        HEAD_WORDS + 2 * index
    }

    fn reference_at(self, index: usize) -> usize {
        HEAD_WORDS
            .saturating_add((self.get(BLOCK_ROOM) as usize).saturating_mul(2))
            .saturating_add(index)
    }

    /// How many entries of a list there are, as far as the envelope could hold them.
    fn len(self, used: usize) -> usize {
        (self.get(used) as usize).min(self.words.len())
    }

    fn blocks(self) -> impl Iterator<Item = BlockName> + 'a {
        (0..self.len(BLOCKS))
            .filter_map(move |index| BlockName::from_bits(self.get(self.block_at(index))))
    }

    fn references(self) -> impl Iterator<Item = u32> + 'a {
        let slot = move |index| self.get(self.reference_at(index)).checked_sub(1);
        (0..self.len(REFERENCES)).filter_map(move |index| u32::try_from(slot(index)?).ok())
    }
}

/// A message's carrier, owned by this process; dropping it frees all that it carries.
///
/// # After fork
/// Stays the parent's, as a block does.
///
/// # If a peer dies
/// An envelope of the dead is freed with all that hangs on it; one that is committed in a queue stays
/// there whole.
pub struct Envelope {
    block: Block,
    /// What hangs on a received envelope, mapped until it is taken.
    mapped: Vec<MappedPart>,
    /// Bytes of objects that it refers to, mapped until the references are taken.
    objects: Vec<MappedPart>,
}

impl Envelope {
    /// An empty envelope with this much room.
    ///
    /// # Errors
    /// Over the budget or out of memory.
    pub fn new(session: &Session, room: Room) -> Result<Self> {
        let lists = (HEAD_WORDS as u64)
            .saturating_add((room.blocks as u64).saturating_mul(2))
            .saturating_add(room.references as u64)
            .saturating_mul(8);
        let payload_at = round_up(lists.min(1 << 40), 64);
        let len = payload_at.saturating_add(room.payload as u64);
        let block = session.allocate(usize::try_from(len).unwrap_or(usize::MAX))?;
        let this = Self {
            block,
            mapped: Vec::new(),
            objects: Vec::new(),
        };
        let head = this.lists();
        head.set(TAG, 0);
        head.set(PAYLOAD_AT, payload_at);
        head.set(PAYLOAD, room.payload as u64);
        head.set(BLOCK_ROOM, room.blocks as u64);
        head.set(BLOCKS, 0);
        head.set(REFERENCE_ROOM, room.references as u64);
        head.set(REFERENCES, 0);
        this.block.mark_envelope();
        Ok(this)
    }

    fn lists(&self) -> Lists<'_> {
        // SAFETY: the block's bytes are mapped and backed as long as it lives.
        unsafe { Lists::at(self.block.as_ptr(), self.block.len()) }
    }

    /// A word of the sender's choice (which block is the payload, which kind of message).
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.lists().get(TAG)
    }

    /// Sets the word.
    pub fn set_tag(&mut self, tag: u64) {
        self.lists().set(TAG, tag);
    }

    fn payload_range(&self) -> (usize, usize) {
        let (at, len) = (self.lists().get(PAYLOAD_AT), self.lists().get(PAYLOAD));
        let total = self.block.len() as u64;
        let at = at.min(total);
        (at as usize, len.min(total - at) as usize)
    }

    /// The payload: first byte and length; 64-byte aligned.
    #[must_use]
    pub fn payload(&self) -> (*mut u8, usize) {
        let (at, len) = self.payload_range();
        (self.block.as_ptr().wrapping_add(at), len)
    }

    /// Copies `bytes` into the payload at `at`; false (and no copy) when they do not fit.
    pub fn write_payload(&mut self, at: usize, bytes: &[u8]) -> bool {
        let (start, len) = self.payload_range();
        at.checked_add(bytes.len()).is_some_and(|end| end <= len)
            && self.block.write_at(start + at, bytes)
    }

    /// Copies payload bytes out; false when the range lies outside.
    pub fn read_payload(&self, at: usize, into: &mut [u8]) -> bool {
        let (start, len) = self.payload_range();
        at.checked_add(into.len()).is_some_and(|end| end <= len)
            && self.block.read_at(start + at, into)
    }

    /// Hangs a block on it (its `len` goes along).
    ///
    /// # Errors
    /// `TableFull`; the block is freed.
    pub fn attach_block(&mut self, block: Block) -> Result<()> {
        let lists = self.lists();
        let (index, room) = (lists.len(BLOCKS), lists.get(BLOCK_ROOM));
        if index as u64 >= room {
            return Err(Error::TableFull {
                what: "blocks of an envelope",
                limit: room,
            });
        }
        if broken::is(Mistake::PartBeforeListed) {
            let (name, len) = (block.name(), block.len());
            block.become_part(self.name());
            lists.set(lists.block_at(index), name.to_bits());
            lists.set(lists.block_at(index) + 1, len as u64);
            lists.set(BLOCKS, index as u64 + 1);
            return Ok(());
        }
        // Listed first: a block that is listed and not yet a part is freed by itself after a death.
        lists.set(lists.block_at(index), block.name().to_bits());
        lists.set(lists.block_at(index) + 1, block.len() as u64);
        lists.set(BLOCKS, index as u64 + 1);
        block.become_part(self.name());
        Ok(())
    }

    /// Counts a further reference to the object and hangs it on the envelope.
    ///
    /// # Errors
    /// `TableFull`, or no room in the session's table of references.
    pub fn attach_reference(&mut self, handle: &AnyHandle) -> Result<()> {
        let lists = self.lists();
        let (index, room) = (lists.len(REFERENCES), lists.get(REFERENCE_ROOM));
        if index as u64 >= room {
            return Err(Error::TableFull {
                what: "references of an envelope",
                limit: room,
            });
        }
        let session = self.block.session();
        let mine = words::owned(session.me()?);
        let slot = session.count_for(mine, handle.reference())?;
        lists.set(lists.reference_at(index), u64::from(slot) + 1);
        lists.set(REFERENCES, index as u64 + 1);
        let owner = &session.space().reference_slot(slot)?.owner;
        let _ = owner.compare_exchange(mine, words::part(self.name()), Release, Relaxed);
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> BlockName {
        self.block.name()
    }

    /// The first step of moving it into the object `via`; see [`Block::prepare`].
    #[must_use]
    pub fn prepare(self, via: Reference) -> Outgoing {
        self.block.prepare(via)
    }

    /// The envelope that was prepared and not committed.
    #[must_use]
    pub fn take_back(outgoing: Outgoing) -> Self {
        Self {
            block: outgoing.take_back(),
            mapped: Vec::new(),
            objects: Vec::new(),
        }
    }

    /// Takes an envelope out of the object `via`, under its cell and before its commit. All that it
    /// carries is mapped before this returns, so that nothing can fail after the commit.
    ///
    /// # Errors
    /// `Stale`/`Corrupted`, or out of memory; nothing has changed then.
    pub fn claim(session: &Session, name: BlockName, via: Reference) -> Result<IncomingEnvelope> {
        let incoming = Block::claim(session, name, via)?;
        let block = incoming.block();
        // SAFETY: the claimed block is mapped and backed as long as `incoming` lives.
        let lists = unsafe { Lists::at(block.as_ptr(), block.len()) };
        let mut mapped = Vec::new();
        for part in lists.blocks() {
            let place = session.space().place(part.offset)?;
            session.map_place(
                &place,
                (place.slot.length.load(Relaxed) & !ENVELOPE).clamp(1, place.size),
            )?;
            mapped.push(MappedPart {
                session: session.clone(),
                offset: part.offset,
                is_run: place.pool.is_none(),
            });
        }
        // The objects likewise: those with many bytes behind them need address space, too. (One that is
        // no object any more is told of when it is taken: it must not keep the rest of the queue back.)
        let mut objects = Vec::new();
        for index in lists.references() {
            match session.map_referenced(index) {
                Ok(None) => {}
                Ok(Some(offset)) => objects.push(MappedPart {
                    session: session.clone(),
                    offset,
                    is_run: true,
                }),
                Err(error @ (Error::Os(_) | Error::OutOfMemory { .. })) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(IncomingEnvelope {
            incoming,
            mapped,
            objects,
        })
    }

    /// Puts it in the hands of the kernel: the descriptor must travel with the name. When the last
    /// copy of the descriptor is closed unclaimed (an unread message destroyed), the envelope is
    /// freed by the next scavenging.
    ///
    /// Without procfs no descriptor can hold a lock of its own: an envelope whose message is destroyed
    /// is then kept until the session ends.
    ///
    /// # Errors
    /// Out of descriptors; the envelope is freed.
    pub fn into_kernel_token(self) -> Result<(BlockName, OwnedFd)> {
        let (name, session) = (self.name(), self.block.session().clone());
        let arena = session.descriptor()?;
        let (token, word) = match memfd::reopen(arena) {
            Ok(token) => {
                memfd::hold_range(token.as_fd(), name.offset)?;
                (token, IN_KERNEL)
            }
            Err(error) if matches!(error.errno, Errno::MFILE | Errno::NFILE) => {
                return Err(error.into());
            }
            Err(_) => (memfd::duplicate(arena)?, IN_KERNEL_UNSEEN),
        };
        let mine = words::owned(session.me()?);
        let place = session.space().place(name.offset)?;
        // Held before it says so: a death in between leaves an envelope of the dead, which is freed.
        let done = place
            .slot
            .owner
            .compare_exchange(mine, word, AcqRel, Relaxed);
        done.map_err(|_| Error::Stale(name.as_reference()))?;
        Ok((name, token))
    }

    /// The receiving end of [`Envelope::into_kernel_token`]; closes the descriptor.
    ///
    /// # Errors
    /// `Stale`/`Corrupted` for a forged name or a foreign descriptor.
    pub fn from_kernel_token(session: &Session, name: BlockName, token: OwnedFd) -> Result<Self> {
        if memfd::identity(&token)? != memfd::identity(session.descriptor()?)? {
            return Err(Error::NotASession("a token of another session"));
        }
        let mine = words::owned(session.me()?);
        let place = session.space().place(name.offset)?;
        let same = place.slot.generation.load(Acquire) == name.generation;
        let word = match place.slot.owner.load(Acquire) {
            IN_KERNEL_UNSEEN => IN_KERNEL_UNSEEN,
            _ => IN_KERNEL,
        };
        // The token's lock, ours as long as it is open, keeps scavengers away until the word is changed.
        if !same
            || place
                .slot
                .owner
                .compare_exchange(word, mine, AcqRel, Relaxed)
                .is_err()
        {
            return Err(Error::Stale(name.as_reference()));
        }
        let block = Block::at_place(session, &place).inspect_err(|_| {
            let _ = place
                .slot
                .owner
                .compare_exchange(mine, word, AcqRel, Relaxed);
        })?;
        Ok(Self {
            block,
            mapped: Vec::new(),
            objects: Vec::new(),
        })
    }

    /// Takes the attached blocks, in order.
    ///
    /// # Errors
    /// Only for an envelope that did not come through [`Envelope::claim`]: out of memory. Blocks that
    /// were not taken stay attached.
    pub fn take_blocks(&mut self) -> Result<Vec<Block>> {
        let name = self.name();
        let blocks = self
            .lists()
            .blocks()
            .map(|part| Block::from_part(self.block.session(), part, name))
            .collect();
        self.mapped.clear();
        blocks
    }

    /// Takes the attached references as handles of this process, in order.
    ///
    /// # Errors
    /// `Stale`/`Corrupted` when the envelope's lists are no honest member's.
    pub fn take_references(&mut self) -> Result<Vec<AnyHandle>> {
        let session = self.block.session();
        let (mine, part) = (words::owned(session.me()?), words::part(self.name()));
        let mut handles = Vec::new();
        for index in self.lists().references() {
            let slot = session.space().reference_slot(index)?;
            if slot
                .owner
                .compare_exchange(part, mine, AcqRel, Relaxed)
                .is_err()
            {
                return Err(Error::Corrupted("a reference that is not the envelope's"));
            }
            handles.push(session.handle_for(index)?);
        }
        self.objects.clear();
        Ok(handles)
    }
}

/// A mapping of an attached run, held until the blocks are taken.
struct MappedPart {
    session: Session,
    offset: u64,
    is_run: bool,
}

impl Drop for MappedPart {
    fn drop(&mut self) {
        self.session.unmap_place(self.offset, self.is_run);
    }
}

/// An envelope between `claim` and the object's commit; dropping it (not committed) puts it back.
pub struct IncomingEnvelope {
    incoming: Incoming,
    mapped: Vec<MappedPart>,
    objects: Vec<MappedPart>,
}

impl IncomingEnvelope {
    /// After the commit: it is this process's now.
    #[must_use]
    pub fn accept(self) -> Envelope {
        Envelope {
            block: self.incoming.accept(),
            mapped: self.mapped,
            objects: self.objects,
        }
    }
}

/// Frees what hangs on an envelope whose place this process owns.
pub(crate) fn release_parts(session: &Session, place: &Place<'_>) {
    let name = BlockName {
        offset: place.offset,
        generation: place.slot.generation.load(Relaxed),
    };
    let Ok(block) = Block::at_place(session, place) else {
        return;
    };
    // The place is freed by the caller; here the block only gives access to its bytes.
    let block = Borrowed(std::mem::ManuallyDrop::new(block));
    // SAFETY: mapped and backed as long as `block` lives.
    let lists = unsafe { Lists::at(block.0.as_ptr(), block.0.len()) };
    let part = words::part(name);
    let Some(mine) = session.my_word() else {
        return;
    };
    for name in lists.blocks() {
        let Ok(place) = session.space().place(name.offset) else {
            continue;
        };
        if place
            .slot
            .owner
            .compare_exchange(part, mine, AcqRel, Relaxed)
            .is_ok()
        {
            session.free_place(&place, mine);
        }
    }
    for index in lists.references() {
        session.release_slot(index, part);
    }
}

/// A block whose drop only undoes the mapping.
struct Borrowed(std::mem::ManuallyDrop<Block>);

impl Drop for Borrowed {
    fn drop(&mut self) {
        let block = &self.0;
        block
            .session()
            .unmap_place(block.name().offset, block.is_run());
        // SAFETY: the block is not used again; a clone-free move out of its session ends its count.
        let session = unsafe { std::ptr::read(block.session()) };
        drop(session);
    }
}

/// Whether an owner word says that a place is travelling through the kernel.
pub(crate) fn is_in_kernel(word: u64) -> bool {
    matches!(words::parse(word), Owner::InKernel)
}
