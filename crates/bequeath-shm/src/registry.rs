#![allow(unsafe_code)]
//! Making, opening, closing and destroying shared objects.
//!
//! Objects live in slots of extents that hold objects only, for ever: the cell before the body is a
//! cell whatever becomes of the object, so that a stale reference can be refused under its lock. The
//! life of a slot, each step with what a death after it leaves:
//!
//! 1. slot owned by the maker, body written (owned by a dead member, count 0: freed);
//! 2. cell committed with count 1 and the next generation (count > 0: marked as an object, and the
//!    maker's reference, being the dead's, is given back);
//! 3. slot marked as an object;
//! 4. the last reference commits count 0 and "dying" (its slot is still pending: found by it);
//! 5. slot owned by the destroyer, the kind's hook called (owned by the dead and dying: called again);
//! 6. "dying" cleared (owned by the dead, count 0: freed); slot freed.
//!
//! # Safety invariants
//! Bytes of a body are written by raw copies only while this process owns the slot and nobody can
//! have opened the object.

use std::cell::RefCell;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::sync::Arc;

use crate::arena::Place;
use crate::block::{Block, BlockName};
use crate::layout::{round_up, CLASSES, OBJECT_HEADER};
use crate::object::{hooks, typed, AnyHandle, Entry, Handle, Object};
use crate::reference::Reference;
use crate::session::Session;
use crate::site::Site;
use crate::words::{self, Owner, OBJECT};
use crate::{Error, Result};

/// Extra bytes live behind the body up to this size of the whole, else in a block of their own.
const INLINE: u64 = 2048;

/// First byte and length.
type Bytes = (NonNull<u8>, usize);

/// What an object says about a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Refers,
    DoesNot,
    /// A living process is destroying the object: ask again later.
    Unclear,
}

bequeath_sync::atomic::process_local! {
    /// While this thread takes an object apart: the objects inside that wait for their turn.
    static WAITING: RefCell<Option<Vec<u64>>> = const { RefCell::new(None) };
}

/// The outermost destruction of this thread.
struct Turn;

impl Turn {
    fn begin() -> Self {
        let _ = WAITING.try_with(|waiting| *waiting.borrow_mut() = Some(Vec::new()));
        Self
    }

    fn next(&self) -> Option<u64> {
        let next = WAITING.try_with(|waiting| waiting.borrow_mut().as_mut()?.pop());
        next.ok().flatten()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = WAITING.try_with(|waiting| *waiting.borrow_mut() = None);
    }
}

impl Session {
    /// Makes an object: zeroed, then `initialise`d before anybody can see it.
    ///
    /// # Errors
    /// Over the budget or out of memory.
    #[track_caller]
    pub fn create_object<T: Object>(&self, initialise: impl FnOnce(&T)) -> Result<Handle<T>> {
        self.create_sized(0, initialise)
    }

    /// The same with `extra` zeroed bytes behind the body ([`Handle::extra`]).
    ///
    /// # Errors
    /// Over the budget or out of memory.
    #[track_caller]
    pub fn create_sized<T: Object>(
        &self,
        extra: usize,
        initialise: impl FnOnce(&T),
    ) -> Result<Handle<T>> {
        const { assert!(OBJECT_HEADER + size_of::<T>() as u64 <= 16_384) };
        hooks::register::<T>();
        let site = Site::now(Location::caller());
        let mine = words::owned(self.me()?);
        let body_length = round_up(size_of::<T>() as u64, 16);
        let inline = OBJECT_HEADER
            .saturating_add(body_length)
            .saturating_add(extra as u64);
        let is_inline = inline <= INLINE;
        let len = if is_inline {
            inline
        } else {
            OBJECT_HEADER + body_length
        };
        let block = if is_inline {
            None
        } else {
            Some(self.allocate_zeroed(extra)?)
        };
        let place = self.take_object_slot(len, mine)?;
        let header = self.space().object_header(place.offset);
        let noted = header.map(|header| header.maker.note(std::process::id(), &site));
        noted.inspect_err(|_| self.space().release(&place, mine))?;
        let made = self.bring_to_life(&place, body_length, extra, block, T::KIND, |body| {
            // SAFETY: the body is zeroed memory of an owned slot with room for T, 64-byte aligned.
            initialise(unsafe { body.cast::<T>().as_ref() });
        });
        let index = made.inspect_err(|_| self.space().release(&place, mine))?;
        typed(self.handle_for(index)?.0)
    }

    fn take_object_slot(&self, len: u64, mine: u64) -> Result<Place<'_>> {
        let geometry = &self.space().geometry;
        let pool = geometry.pool_for(len, true).ok_or(Error::TooLarge {
            needed: len,
            room: geometry.largest_slot,
            from: self.space().size_source(),
        })?;
        let take = || {
            let place = self.space().take_slot(pool, mine)?;
            self.space()
                .back_place(&place, place.size)
                .inspect_err(|_| self.space().release(&place, mine))?;
            Ok::<_, Error>(place)
        };
        match take() {
            Err(error) if error.is_out_of_memory() => {
                self.scavenge();
                self.space().trim(mine);
                take()
            }
            done => done,
        }
    }

    /// Fills an owned slot and commits its first reference; returns the reference's slot.
    fn bring_to_life(
        &self,
        place: &Place<'_>,
        body_length: u64,
        extra: usize,
        block: Option<Block>,
        kind: u32,
        initialise: impl FnOnce(NonNull<u8>),
    ) -> Result<u32> {
        let space = self.space();
        let mine = words::owned(self.me()?);
        let body = self.body_of(place)?;
        // SAFETY: the rest of an owned slot that nobody can have opened.
        unsafe { body.write_bytes(0, (place.size - OBJECT_HEADER) as usize) };
        initialise(body);
        let header = space.object_header(place.offset)?;
        header.body_length.store(body_length, Relaxed);
        header.extra_length.store(extra as u64, Relaxed);
        let generation = space
            .object_standing(place.offset)?
            .generation
            .wrapping_add(1);
        let me = Reference {
            offset: place.offset,
            generation,
        };
        let outgoing = block.map(|block| block.prepare(me));
        let name = outgoing
            .as_ref()
            .map_or(0, |outgoing| outgoing.name().to_bits());
        header.extra.store(name, Relaxed);
        let index = space.take_reference_slot(mine)?;
        let done = space.count_first(index, place.offset, kind);
        done.inspect_err(|_| self.release_slot(index, mine))?;
        if let Some(outgoing) = outgoing {
            outgoing.settle_kept();
        }
        let _ = place
            .slot
            .owner
            .compare_exchange(mine, OBJECT, AcqRel, Relaxed);
        Ok(index)
    }

    fn body_of(&self, place: &Place<'_>) -> Result<NonNull<u8>> {
        let start = self.space().at(place.offset)?;
        // SAFETY: every object slot is longer than the header.
        Ok(unsafe { start.add(OBJECT_HEADER as usize) })
    }

    /// Takes a reference to an object that somebody holds.
    ///
    /// # Errors
    /// [`Error::Stale`] for one that is gone or forged, [`Error::WrongKind`].
    pub fn open<T: Object>(&self, reference: Reference) -> Result<Handle<T>> {
        hooks::register::<T>();
        self.open_any(reference)?.downcast()
    }

    /// The same without knowing the type.
    ///
    /// # Errors
    /// [`Error::Stale`].
    pub fn open_any(&self, reference: Reference) -> Result<AnyHandle> {
        let known = self
            .local()
            .entries
            .get(&reference.offset)
            .and_then(std::sync::Weak::upgrade);
        if let Some(entry) = known.filter(|entry| entry.reference == reference) {
            return Ok(AnyHandle(entry));
        }
        let index = self.count_for(words::owned(self.me()?), reference)?;
        self.handle_for(index)
    }

    /// A counted reference in a fresh slot owned by `word`.
    pub(crate) fn count_for(&self, word: u64, reference: Reference) -> Result<u32> {
        let index = self.space().take_reference_slot(word)?;
        self.space()
            .count_in(index, reference)
            .inspect_err(|_| self.release_slot(index, word))?;
        Ok(index)
    }

    /// The handle for a counted slot of this process; the slot is given back if the process has the
    /// object already.
    pub(crate) fn handle_for(&self, index: u32) -> Result<AnyHandle> {
        let made = self.entry_for(index);
        let entry = made.inspect_err(|_| {
            if let Some(mine) = self.my_word() {
                self.release_slot(index, mine);
            }
        })?;
        let mut local = self.local();
        let known = local
            .entries
            .get(&entry.reference.offset)
            .and_then(std::sync::Weak::upgrade);
        if let Some(known) = known.filter(|known| known.reference == entry.reference) {
            // The new entry, and with it the surplus count, goes after the lock is free again.
            drop(local);
            return Ok(AnyHandle(known));
        }
        let entry = Arc::new(entry);
        local
            .entries
            .insert(entry.reference.offset, Arc::downgrade(&entry));
        Ok(AnyHandle(entry))
    }

    fn entry_for(&self, index: u32) -> Result<Entry> {
        let space = self.space();
        let bits = space.reference_slot(index)?.object.load(Relaxed);
        let reference = Reference::from_bits(bits)
            .ok_or(Error::Corrupted("a reference slot without object"))?;
        let place = space.place(reference.offset)?;
        let standing = space.object_standing(reference.offset)?;
        if standing.generation != reference.generation {
            return Err(Error::Stale(reference));
        }
        let body = self.body_of(&place)?;
        let room = (place.size - OBJECT_HEADER) as usize;
        let (extra, run) = self.extra_of(&place, reference, body)?;
        let slot = AtomicU32::new(index);
        Ok(Entry {
            session: self.clone(),
            reference,
            kind: standing.kind,
            body,
            room,
            extra,
            run,
            slot,
        })
    }

    /// Maps whatever a handle to the object in this reference slot will need; returns the run that is
    /// now counted as in use, if one is.
    pub(crate) fn map_referenced(&self, index: u32) -> Result<Option<u64>> {
        let bits = self.space().reference_slot(index)?.object.load(Relaxed);
        let reference = Reference::from_bits(bits)
            .ok_or(Error::Corrupted("a reference slot without object"))?;
        let place = self.space().place(reference.offset)?;
        let body = self.body_of(&place)?;
        self.extra_of(&place, reference, body).map(|(_, run)| run)
    }

    /// Where the extra bytes of a counted object are.
    fn extra_of(
        &self,
        place: &Place<'_>,
        me: Reference,
        body: NonNull<u8>,
    ) -> Result<(Bytes, Option<u64>)> {
        const WRONG: Error = Error::Corrupted("an object's extra bytes lie outside");
        let header = self.space().object_header(place.offset)?;
        let (length, body_length) = (
            header.extra_length.load(Relaxed),
            header.body_length.load(Relaxed),
        );
        let Some(name) = BlockName::from_bits(header.extra.load(Relaxed)) else {
            let end = OBJECT_HEADER
                .saturating_add(body_length)
                .saturating_add(length);
            if end > place.size {
                return Err(WRONG);
            }
            // SAFETY: body and extra bytes lie within the slot, checked above.
            let start = unsafe { body.add(body_length as usize) };
            return Ok(((start, length as usize), None));
        };
        let block = self.space().place(name.offset)?;
        let backed = u64::from(block.slot.backed.load(Relaxed)) * crate::layout::PAGE;
        let backed = if block.size < crate::layout::PAGE {
            block.size
        } else {
            backed
        };
        let decided = block.slot.via.load(Relaxed) == me.to_bits();
        if !decided
            || block.slot.generation.load(Relaxed) != name.generation
            || length > backed.min(block.size)
            || self.is_absurd(&block, length)?
        {
            return Err(WRONG);
        }
        let address = self.map_place(&block, length.max(1))?;
        Ok((
            (address, length as usize),
            block.pool.is_none().then_some(name.offset),
        ))
    }

    /// The last handle of this process is gone.
    pub(crate) fn close_entry(&self, entry: &Entry) {
        let mut local = self.local();
        let offset = entry.reference.offset;
        // Another entry may stand there by now; one that is being dropped cannot be upgraded.
        if local
            .entries
            .get(&offset)
            .is_some_and(|weak| weak.strong_count() == 0)
        {
            local.entries.remove(&offset);
        }
        if let Some(run) = entry.run {
            local.runs.leave(run);
        }
        drop(local);
        if let Some(mine) = self.my_word() {
            self.release_slot(entry.slot.load(Relaxed), mine);
        }
    }

    /// Gives the reference in a slot back, destroying the object if it was the last.
    pub(crate) fn release_slot(&self, index: u32, word: u64) {
        self.space()
            .release_reference(index, word, &mut |object| self.destroy_object(object));
    }

    /// Takes a dying object apart; several may try, one succeeds.
    pub(crate) fn destroy_object(&self, me: Reference) {
        let (Ok(place), Some(mine)) = (self.space().place(me.offset), self.my_word()) else {
            return;
        };
        loop {
            let dying = self
                .space()
                .object_standing(me.offset)
                .is_ok_and(|standing| standing.dying);
            let before = place.slot.owner.load(Acquire);
            let takeable = match words::parse(before) {
                Owner::Object => true,
                Owner::Owned(member) => self.is_gone(member),
                _ => false,
            };
            if !dying || !takeable {
                return;
            }
            if place
                .slot
                .owner
                .compare_exchange(before, mine, AcqRel, Relaxed)
                .is_ok()
                && !self.take_apart_in_turn(&place, mine)
            {
                return;
            }
            // While it was ours another one's last reference may have gone, and found it taken.
        }
    }

    /// Settles an object slot that this process just took; false when that has to wait until the
    /// object around it is done. A queue may hold queues that hold queues: each would be taken apart
    /// inside the one before, and a long chain would end the stack. A slot that waits is owned by this
    /// process, so after a death it is found like any other.
    fn take_apart_in_turn(&self, place: &Place<'_>, mine: u64) -> bool {
        // (A thread that is ending may have lost the list already: then nothing waits.)
        let waits = WAITING.try_with(|waiting| match waiting.borrow_mut().as_mut() {
            Some(list) => {
                list.push(place.offset);
                true
            }
            None => false,
        });
        if waits == Ok(true) {
            return false;
        }
        let turn = Turn::begin();
        self.settle_owned_object(place, mine);
        while let Some(offset) = turn.next() {
            let Ok(place) = self.space().place(offset) else {
                continue;
            };
            self.settle_owned_object(&place, mine);
            if let Ok(standing) = self.space().object_standing(offset) {
                // As in `destroy_object`: somebody may have found it taken meanwhile.
                self.destroy_object(Reference {
                    offset,
                    generation: standing.generation,
                });
            }
        }
        true
    }

    /// An object slot that this process just became the owner of: the cell says what it is.
    pub(crate) fn settle_owned_object(&self, place: &Place<'_>, mine: u64) {
        let Ok(standing) = self.space().object_standing(place.offset) else {
            return;
        };
        if standing.dying {
            let me = Reference {
                offset: place.offset,
                generation: standing.generation,
            };
            // Of a kind that this program does not know it stays ours until we end, and then falls to
            // somebody who does.
            if self.take_apart(place, me, standing.kind) {
                self.space().bury(me);
                self.space().release(place, mine);
            }
        } else if standing.count > 0 {
            let _ = place
                .slot
                .owner
                .compare_exchange(mine, OBJECT, AcqRel, Relaxed);
        } else {
            self.space().release(place, mine);
        }
    }

    fn take_apart(&self, place: &Place<'_>, me: Reference, kind: u32) -> bool {
        let (Some(hooks), Ok(body)) = (hooks::of(kind), self.body_of(place)) else {
            return false;
        };
        hooks.destroy(body, (place.size - OBJECT_HEADER) as usize, self, me);
        let extra = self
            .space()
            .object_header(me.offset)
            .map(|header| header.extra.load(Relaxed));
        if let Some(name) = extra.ok().and_then(BlockName::from_bits) {
            if let Ok(incoming) = Block::claim(self, name, me) {
                drop(incoming.accept());
            }
        }
        true
    }

    /// Whether the committed state of the object named by a `via` word refers to a block.
    pub(crate) fn ask(&self, via: u64, block: BlockName) -> Verdict {
        let Some(me) = Reference::from_bits(via) else {
            return Verdict::DoesNot;
        };
        let (Ok(place), Ok(header)) = (
            self.space().place(me.offset),
            self.space().object_header(me.offset),
        ) else {
            return Verdict::DoesNot;
        };
        // Counted meanwhile, so that nobody destroys the object while it is asked.
        let held = self
            .me()
            .map(words::owned)
            .and_then(|mine| self.count_for(mine, me));
        let Ok(held) = held else {
            return self.ask_dying(me);
        };
        let Ok(standing) = self.space().object_standing(me.offset) else {
            return Verdict::Unclear;
        };
        let keeps = header.extra.load(Relaxed) == block.to_bits();
        let verdict = match (hooks::of(standing.kind), self.body_of(&place)) {
            _ if keeps => Verdict::Refers,
            (Some(hooks), Ok(body)) => {
                let room = (place.size - OBJECT_HEADER) as usize;
                if hooks.refers_to(body, room, self, me, block) {
                    Verdict::Refers
                } else {
                    Verdict::DoesNot
                }
            }
            // A kind that this program does not know: one that does will settle it.
            _ => Verdict::Unclear,
        };
        if let Some(mine) = self.my_word() {
            self.release_slot(held, mine);
        }
        verdict
    }

    fn ask_dying(&self, me: Reference) -> Verdict {
        match self.space().object_standing(me.offset) {
            Ok(standing) if standing.generation != me.generation => Verdict::DoesNot,
            Ok(standing) if standing.dying => {
                self.destroy_object(me);
                let after = self.space().object_standing(me.offset);
                if after.is_ok_and(|after| !after.dying || after.generation != me.generation) {
                    return Verdict::DoesNot;
                }
                Verdict::Unclear
            }
            // Alive, and still it could not be counted: no room in the table.
            Ok(standing) if standing.count > 0 => Verdict::Unclear,
            _ => Verdict::DoesNot,
        }
    }
}

const _: () = assert!(CLASSES[0] > OBJECT_HEADER);
