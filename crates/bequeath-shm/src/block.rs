#![allow(unsafe_code)]
//! Blocks: pooled room for payloads, each with exactly one owner.
//!
//! A block is a slot or a run whose owner word names this process. Moving it into an object and out
//! again is two steps around the object's commit: before, the word says "mine, and that object
//! decides"; after, it says what the commit made true. A death in between leaves the question to the
//! scavenger, who asks the object.
//!
//! # Safety invariants
//! - `address..address + capacity` of a block is mapped, backed by pages, and stays so until its drop.
//! - While the owner word names this process no honest member touches the bytes; a dishonest one can
//!   only make the copies here wrong, since they are raw copies and nothing in them is trusted.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::*;

use bequeath_os::mapping::page_size;

use crate::adopted::Adopted;
use crate::arena::Place;
use crate::broken::{self, Mistake};
use crate::envelope;
use crate::reference::Reference;
use crate::session::Session;
use crate::words::{self, Owner};
use crate::{Error, Result};

pub use crate::reference::BlockName;

/// Marks the length of a slot that holds an envelope.
pub(crate) const ENVELOPE: u64 = 1 << 63;

/// A piece of the arena that this process owns; dropping it gives it back.
///
/// # After fork
/// Stays the parent's; the child's copy of this value does nothing when it is dropped.
///
/// # If a peer dies
/// What a dead process owned is free again once its death is known.
pub struct Block {
    session: Session,
    name: BlockName,
    address: NonNull<u8>,
    capacity: usize,
    len: usize,
    run: bool,
}

// SAFETY: a block is owned memory, like a vector's.
unsafe impl Send for Block {}
// SAFETY: shared borrows only copy bytes out.
unsafe impl Sync for Block {}

impl Session {
    /// A block of at least `len` bytes with undefined content.
    ///
    /// # Errors
    /// Over the budget or out of memory.
    pub fn allocate(&self, len: usize) -> Result<Block> {
        self.allocate_with(len).map(|(block, _)| block)
    }

    /// The same with all bytes zero.
    ///
    /// # Errors
    /// Over the budget or out of memory.
    pub fn allocate_zeroed(&self, len: usize) -> Result<Block> {
        let (block, used_before) = self.allocate_with(len)?;
        // Fresh pages are zero already; touching them here would only cost twice.
        let stale = used_before.min(block.capacity);
        // SAFETY: within the block's capacity, which is mapped and owned.
        unsafe { block.address.write_bytes(0, stale) };
        Ok(block)
    }

    /// A block, and how many of its first bytes may have been used before.
    fn allocate_with(&self, len: usize) -> Result<(Block, usize)> {
        match self.try_allocate(len as u64) {
            Err(error) if error.is_out_of_memory() => {
                // Before giving up: what the dead hold, and what is only kept for speed.
                self.scavenge();
                self.space().trim(words::owned(self.me()?));
                self.try_allocate(len as u64)
            }
            done => done,
        }
    }

    fn try_allocate(&self, len: u64) -> Result<(Block, usize)> {
        let word = words::owned(self.me()?);
        let space = self.space();
        let place = match space.geometry.pool_for(len, false) {
            Some(pool) => space.take_slot(pool, word)?,
            None => space.take_run(len, word)?,
        };
        let small = place.size < crate::layout::PAGE;
        let backed = u64::from(place.slot.backed.load(Relaxed)) * crate::layout::PAGE;
        let used_before = if small { place.size } else { backed };
        let made = space
            .back_place(&place, len)
            .and_then(|()| self.map_place(&place, len));
        let address = made.inspect_err(|_| space.release(&place, word))?;
        place.slot.length.store(len, Relaxed);
        let name = BlockName {
            offset: place.offset,
            generation: place.slot.generation.load(Relaxed),
        };
        let capacity = self
            .backed_capacity(&place)
            .min(self.mapped_capacity(&place, len)) as usize;
        let block = Block {
            session: self.clone(),
            name,
            address,
            capacity,
            len: len as usize,
            run: place.pool.is_none(),
        };
        Ok((block, used_before as usize))
    }

    /// Bytes that surely have pages.
    fn backed_capacity(&self, place: &Place<'_>) -> u64 {
        if place.size < crate::layout::PAGE {
            return place.size;
        }
        place
            .size
            .min(u64::from(place.slot.backed.load(Relaxed)) * crate::layout::PAGE)
    }

    fn mapped_capacity(&self, place: &Place<'_>, len: u64) -> u64 {
        if place.pool.is_some() {
            place.size
        } else {
            len.next_multiple_of(self.space().geometry.extent())
        }
    }

    /// The address of a place; a run's mapping is counted as in use.
    pub(crate) fn map_place(&self, place: &Place<'_>, len: u64) -> Result<NonNull<u8>> {
        match place.pool {
            Some(_) => self.space().at(place.offset),
            None => self.local().runs.enter(self.space(), place.offset, len),
        }
    }

    pub(crate) fn unmap_place(&self, offset: u64, is_run: bool) {
        if is_run {
            self.local().runs.leave(offset);
        }
    }

    /// Whether a run is said to hold more than the whole arena has pages for, by the kernel's count: who
    /// believed that would map, read and copy until memory is gone.
    pub(crate) fn is_absurd(&self, place: &Place<'_>, len: u64) -> Result<bool> {
        Ok(place.pool.is_none() && len > self.space().used()?)
    }

    /// The block in an owned place whose length and content come from another process.
    fn block_at(&self, place: &Place<'_>, name: BlockName) -> Result<Block> {
        let len = place.slot.length.load(Relaxed) & !ENVELOPE;
        let capacity = self.backed_capacity(place);
        if len > capacity || self.is_absurd(place, len)? {
            return Err(Error::Corrupted("a block longer than its pages"));
        }
        let address = self.map_place(place, len.max(1))?;
        let capacity = capacity.min(self.mapped_capacity(place, len.max(1)));
        Ok(Block {
            session: self.clone(),
            name,
            address,
            capacity: capacity as usize,
            len: len as usize,
            run: place.pool.is_none(),
        })
    }
}

impl Block {
    /// First byte; 256-byte aligned (4096 from 4 KiB on).
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// Bytes in use, as given to `allocate` or `set_len`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that may be written without growing.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Declares how many bytes are in use; at most the capacity (larger values are clamped).
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.capacity);
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

    fn has(&self, at: usize, len: usize) -> bool {
        at.checked_add(len).is_some_and(|end| end <= self.capacity)
    }

    /// Copies `bytes` in at `at`; the range must lie within the capacity, else nothing is copied and
    /// false returned.
    pub fn write_at(&mut self, at: usize, bytes: &[u8]) -> bool {
        if !self.has(at, bytes.len()) {
            return false;
        }
        // SAFETY: `at` is within the capacity.
        let to = unsafe { self.address.as_ptr().add(at) };
        // SAFETY: the range is mapped, ours, and no Rust slice overlaps shared memory.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        true
    }

    /// Copies bytes out; false when the range does not lie within the capacity.
    pub fn read_at(&self, at: usize, into: &mut [u8]) -> bool {
        if !self.has(at, into.len()) {
            return false;
        }
        // SAFETY: `at` is within the capacity.
        let from = unsafe { self.address.as_ptr().add(at) };
        // SAFETY: the range is mapped, and no Rust slice overlaps shared memory.
        unsafe { from.copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) };
        true
    }

    /// Becomes private writable memory in place.
    #[must_use]
    pub fn adopt(self) -> Adopted {
        Adopted::new(self)
    }

    /// The first step of moving it into the object `via`: from now on its fate after a death is what
    /// the committed state of `via` says. Dropping the result (not committed) frees the block.
    #[must_use]
    pub fn prepare(self, via: Reference) -> Outgoing {
        let (session, name) = (self.session.clone(), self.name);
        let mut word = 0;
        if let (Ok(place), Some(mine)) = (session.space().place(name.offset), session.my_word()) {
            let length = place.slot.length.load(Relaxed) & ENVELOPE | self.len as u64;
            place.slot.length.store(length, Relaxed);
            if !broken::is(Mistake::MovesWithoutVia) {
                place.slot.via.store(via.to_bits(), Release);
            }
            if let Owner::Owned(me) = words::parse(mine) {
                word = words::outgoing(me, session.next_sequence());
                let _ = place
                    .slot
                    .owner
                    .compare_exchange(mine, word, Release, Relaxed);
            }
        }
        Outgoing {
            block: ManuallyDrop::new(self),
            via,
            word,
        }
    }

    /// Takes a block out of the object `via`, under that object's cell and before its commit.
    ///
    /// # Errors
    /// `Stale`/`Corrupted` when `name` is not a block that `via` can hold; out of memory when it cannot
    /// be mapped. Nothing has changed then.
    pub fn claim(session: &Session, name: BlockName, via: Reference) -> Result<Incoming> {
        let mine = words::owned(session.me()?);
        let place = session.space().place(name.offset)?;
        let slot = place.slot;
        if slot.generation.load(Acquire) != name.generation {
            return Err(Error::Stale(name.as_reference()));
        }
        let before = slot.owner.load(Acquire);
        let admitted = match words::parse(before) {
            Owner::Queued => before == words::queued(via),
            Owner::Kept => before == words::kept(via),
            // Its sender has committed (we see it in the object) and not come to say so yet.
            Owner::Outgoing(_) | Owner::Owned(_) => slot.via.load(Acquire) == via.to_bits(),
            _ => false,
        };
        if !admitted {
            return Err(Error::Stale(name.as_reference()));
        }
        // Mapped before it is taken: afterwards nothing may fail.
        let block = ManuallyDrop::new(session.block_at(&place, name)?);
        // The sender's settling and a scavenger's verdict may come in between; both say the same.
        let mut before = before;
        loop {
            slot.via.store(via.to_bits(), Relaxed);
            match slot.owner.compare_exchange(before, mine, AcqRel, Acquire) {
                Ok(_) => return Ok(Incoming { block, via }),
                Err(now) if now == words::queued(via) || now == words::kept(via) => before = now,
                Err(_) => {
                    ManuallyDrop::into_inner(block).leave_alone();
                    return Err(Error::Stale(name.as_reference()));
                }
            }
        }
    }

    /// Address and capacity of a block that stays where it is (kept by an object), such as a queue's
    /// segment. Only for blocks of at most 1 MiB, whose memory stays mapped as long as the session
    /// lives in this process.
    ///
    /// # Errors
    /// `Stale`/`Corrupted`, or out of memory.
    pub fn peek(session: &Session, name: BlockName) -> Result<(*mut u8, usize)> {
        let place = session.space().place(name.offset)?;
        let stays = matches!(place.pool, Some(pool) if !crate::layout::holds_objects(pool));
        if place.slot.generation.load(Acquire) != name.generation || !stays {
            return Err(Error::Stale(name.as_reference()));
        }
        let address = session.space().at(place.offset)?;
        Ok((address.as_ptr(), session.backed_capacity(&place) as usize))
    }

    /// Hangs it on an envelope: from now on it shares the envelope's fate.
    pub(crate) fn become_part(self, envelope: BlockName) -> bool {
        let this = ManuallyDrop::new(self);
        this.session.unmap_place(this.name.offset, this.is_run());
        let Ok(place) = this.session.space().place(this.name.offset) else {
            return false;
        };
        place.slot.length.store(this.len as u64, Relaxed);
        let done = this.session.my_word().is_some_and(|mine| {
            place
                .slot
                .owner
                .compare_exchange(mine, words::part(envelope), Release, Relaxed)
                .is_ok()
        });
        // SAFETY: `this` is not used again, and the session is what has to be dropped of it.
        drop(unsafe { std::ptr::read(&this.session) });
        done
    }

    /// Takes a part off an envelope that this process owns; mapped already if `address` is given.
    pub(crate) fn from_part(
        session: &Session,
        name: BlockName,
        envelope: BlockName,
    ) -> Result<Self> {
        let mine = words::owned(session.me()?);
        let place = session.space().place(name.offset)?;
        let part = words::part(envelope);
        if place.slot.owner.load(Acquire) != part {
            return Err(Error::Stale(name.as_reference()));
        }
        let block = ManuallyDrop::new(session.block_at(&place, name)?);
        place.slot.via.store(0, Relaxed);
        if place
            .slot
            .owner
            .compare_exchange(part, mine, AcqRel, Relaxed)
            .is_err()
        {
            ManuallyDrop::into_inner(block).leave_alone();
            return Err(Error::Stale(name.as_reference()));
        }
        Ok(ManuallyDrop::into_inner(block))
    }

    pub(crate) fn is_run(&self) -> bool {
        self.run
    }

    /// Ends the value of a block that turned out to be somebody else's: its place is not touched.
    fn leave_alone(self) {
        let this = ManuallyDrop::new(self);
        this.session.unmap_place(this.name.offset, this.is_run());
        // SAFETY: `this` is not used again, and the session is what has to be dropped of it.
        drop(unsafe { std::ptr::read(&this.session) });
    }

    /// The block in a place that this process has just taken over as owner.
    pub(crate) fn at_place(session: &Session, place: &Place<'_>) -> Result<Self> {
        let name = BlockName {
            offset: place.offset,
            generation: place.slot.generation.load(Relaxed),
        };
        session.block_at(place, name)
    }

    pub(crate) fn mark_envelope(&self) {
        if let Ok(place) = self.session.space().place(self.name.offset) {
            place.slot.length.store(self.len as u64 | ENVELOPE, Relaxed);
        }
    }
}

impl Session {
    /// The same for a place whose owner died: it may have given it pages that it never counted.
    pub(crate) fn free_place_of_the_dead(&self, place: &Place<'_>, word: u64) {
        if place.slot.length.load(Relaxed) & ENVELOPE != 0 {
            envelope::release_parts(self, place);
            place.slot.length.store(0, Relaxed);
        }
        if !place.keeps_its_pages() {
            place.slot.backed.store(0, Relaxed);
            let _ = self.space().punch(place.offset, place.size);
        }
        self.space().release(place, word);
    }

    /// Frees an owned place with everything that hangs on it.
    pub(crate) fn free_place(&self, place: &Place<'_>, word: u64) {
        if place.slot.length.load(Relaxed) & ENVELOPE != 0 {
            envelope::release_parts(self, place);
            place.slot.length.store(0, Relaxed);
        }
        self.space().release(place, word);
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.session.unmap_place(self.name.offset, self.is_run());
        if let (Ok(place), Some(word)) = (
            self.session.space().place(self.name.offset),
            self.session.my_word(),
        ) {
            if place.slot.generation.load(Relaxed) == self.name.generation
                && place.slot.owner.load(Acquire) == word
            {
                self.session.free_place(&place, word);
            }
        }
    }
}

/// A block or envelope on its way into an object: between `prepare` and the object's commit.
/// Dropping it means that it was not committed, and frees it.
pub struct Outgoing {
    block: ManuallyDrop<Block>,
    via: Reference,
    word: u64,
}

impl Outgoing {
    /// What the object's state has to store.
    #[must_use]
    pub fn name(&self) -> BlockName {
        self.block.name
    }

    /// After the commit: it is queued in the object now. (Losing this call to a kill is harmless.)
    pub fn settle_queued(self) {
        let word = words::queued(self.via);
        self.settle(word);
    }

    /// After the commit: the object keeps it (segments, bodies).
    pub fn settle_kept(self) {
        let word = words::kept(self.via);
        self.settle(word);
    }

    fn settle(mut self, word: u64) {
        // Whoever received it meanwhile has changed the word: then there is nothing to say any more.
        self.exchange(word);
        self.word = 0;
    }

    fn exchange(&self, word: u64) -> bool {
        let Ok(place) = self.block.session.space().place(self.block.name.offset) else {
            return false;
        };
        place
            .slot
            .owner
            .compare_exchange(self.word, word, AcqRel, Relaxed)
            .is_ok()
    }

    /// Not committed: this process's again.
    #[must_use]
    pub fn take_back(mut self) -> Block {
        if let Some(mine) = self.block.session.my_word() {
            self.exchange(mine);
        }
        self.word = 0;
        // SAFETY: the word 0 tells the drop that the block has been taken out.
        let block = unsafe { std::ptr::read(&*self.block) };
        std::mem::forget(self);
        block
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let mine = self.block.session.my_word();
        if self.word != 0 && mine.is_some_and(|mine| self.exchange(mine)) {
            // SAFETY: dropped once, here; it frees the place, which is owned again.
            unsafe { ManuallyDrop::drop(&mut self.block) };
            return;
        }
        let block = &self.block;
        block.session.unmap_place(block.name.offset, block.is_run());
        // SAFETY: the block is not used again; its session is what has to be dropped of it.
        drop(unsafe { std::ptr::read(&block.session) });
    }
}

/// A block on its way out of an object: between `claim` and the object's commit. Dropping it
/// (not committed) puts it back.
pub struct Incoming {
    block: ManuallyDrop<Block>,
    via: Reference,
}

impl Incoming {
    /// After the commit: it is this process's now.
    #[must_use]
    pub fn accept(self) -> Block {
        if let Ok(place) = self.block.session.space().place(self.block.name.offset) {
            place.slot.via.store(0, Release);
        }
        // SAFETY: `self` is forgotten next, so the block has one owner.
        let block = unsafe { std::ptr::read(&*self.block) };
        std::mem::forget(self);
        block
    }

    pub(crate) fn block(&self) -> &Block {
        &self.block
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let block = &self.block;
        if let (Ok(place), Some(mine)) = (
            block.session.space().place(block.name.offset),
            block.session.my_word(),
        ) {
            let _ =
                place
                    .slot
                    .owner
                    .compare_exchange(mine, words::queued(self.via), AcqRel, Relaxed);
        }
        block.session.unmap_place(block.name.offset, block.is_run());
        // SAFETY: the block is not used again; its session is what has to be dropped of it.
        drop(unsafe { std::ptr::read(&block.session) });
    }
}

impl Block {
    /// Hands the block to an object that lives already and names it: kept from here on.
    pub(crate) fn settle_with(&self, keeper: Reference) {
        if let (Ok(place), Some(mine)) = (
            self.session.space().place(self.name.offset),
            self.session.my_word(),
        ) {
            place.slot.length.store(self.len as u64, Relaxed);
            place.slot.via.store(keeper.to_bits(), Release);
            let _ = place
                .slot
                .owner
                .compare_exchange(mine, words::kept(keeper), AcqRel, Relaxed);
        }
    }

    /// Whether [`Block::adopt`] can make the very bytes private: whole pages. The kernel's may be larger than the
    /// arena's, and one that two blocks share cannot be private.
    #[must_use]
    pub fn adopts_in_place(&self) -> bool {
        let page = page_size();
        self.address.as_ptr().addr() % page == 0 && self.capacity % page == 0
    }
}
