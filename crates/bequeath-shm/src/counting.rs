//! Counting references so that a death never leaves a count wrong.
//!
//! Every reference is a slot in a shared table, owned by a member (or hanging on an envelope). A
//! change of an object's count is announced in the slot, committed in the object's cell together
//! with *which slot and which change it was*, then noted in the slot:
//!
//! ```text
//! slot  None → PendingIn(n) ────────────→ Active(n) → PendingOut(n+1) ────────────→ None
//! cell                  count+1, last=(slot,n,in)                count-1, last=(slot,n+1,out)
//! ```
//!
//! Who finds a pending slot of the dead locks the cell: if `last` names this very change it happened,
//! else it did not. The next change would overwrite `last`, so it first notes the previous change in
//! its slot (it knows which from `last`). Hence at most one change per object is ever in doubt, and
//! repeating any step is harmless: two cleaners may work on one slot at once.

use std::sync::atomic::Ordering::*;

use crate::broken::{self, Mistake};
use crate::layout::{holds_objects, ObjectHeader, ReferenceSlot, PAGE, REFERENCE_SLOT};
use crate::reference::Reference;
use crate::space::Space;
use crate::{Error, Result};

const STEP: u64 = 3;
const NONE: u64 = 0;
const PENDING_IN: u64 = 1;
const ACTIVE: u64 = 2;
const PENDING_OUT: u64 = 3;

/// Flag in the third word of an object's cell: nobody refers to it any more, and what it held is
/// being given back.
const DYING: u64 = 1 << 31;
const KIND: u64 = DYING - 1;

/// Committed state of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) count: u64,
    last: u64,
    pub(crate) generation: u32,
    pub(crate) kind: u32,
    pub(crate) dying: bool,
}

impl Standing {
    pub(crate) fn parse(state: [u64; 3]) -> Self {
        let [count, last, identity] = state;
        Self {
            count,
            last,
            generation: (identity >> 32) as u32,
            kind: (identity & KIND) as u32,
            dying: identity & DYING != 0,
        }
    }

    fn words(self) -> [u64; 3] {
        let dying = if self.dying { DYING } else { 0 };
        let identity = u64::from(self.generation) << 32 | dying | u64::from(self.kind) & KIND;
        [self.count, self.last, identity]
    }
}

/// `last` for one change of one slot.
fn change(slot: u32, sequence: u64, out: bool) -> u64 {
    (u64::from(slot) + 1) << 32 | (sequence & 0x7fff_ffff) << 1 | u64::from(out)
}

impl Space {
    pub(crate) fn reference_slot(&self, index: u32) -> Result<&ReferenceSlot> {
        if u64::from(index) >= self.geometry.references {
            return Err(Error::Corrupted("a reference slot beyond the table"));
        }
        self.shared(self.geometry.references_at + u64::from(index) * REFERENCE_SLOT)
    }

    /// How many slots of the table are usable now.
    pub(crate) fn reference_slots(&self) -> u32 {
        self.header()
            .references
            .load(Acquire)
            .min(self.geometry.references) as u32
    }

    /// Every slot that somebody owns.
    pub(crate) fn for_each_reference(&self, mut visit: impl FnMut(u32, &ReferenceSlot)) {
        let count = u64::from(self.reference_slots());
        let mut index = 0;
        while index < count {
            let offset = self.geometry.references_at + index * REFERENCE_SLOT;
            let Ok(row) = self.shared_row::<ReferenceSlot>(offset, count - index) else {
                return;
            };
            for (number, slot) in row.iter().enumerate() {
                if slot.owner.load(Relaxed) != 0 {
                    visit((index as usize + number) as u32, slot);
                }
            }
            index += row.len() as u64;
        }
    }

    /// A free slot, now owned by `word`.
    pub(crate) fn take_reference_slot(&self, word: u64) -> Result<u32> {
        let hints = &self.header().free_references;
        for _ in 0..8 {
            let Some(hint) = hints.pop() else { break };
            let index = (hint - 1) as u32;
            if self
                .reference_slot(index)?
                .owner
                .compare_exchange(0, word, Acquire, Relaxed)
                .is_ok()
            {
                return Ok(index);
            }
        }
        loop {
            let count = self.reference_slots();
            // Rather a longer table than a long search, until it cannot grow any more.
            let full = u64::from(count) == self.geometry.references;
            let search = if full { count } else { count.min(512) };
            let start = hints.current.load(Relaxed);
            for step in 0..search {
                let index = start.wrapping_add(step) % count;
                if self
                    .reference_slot(index)?
                    .owner
                    .compare_exchange(0, word, Acquire, Relaxed)
                    .is_ok()
                {
                    hints.current.store(index + 1, Relaxed);
                    return Ok(index);
                }
            }
            if full {
                let limit = self.geometry.references;
                return Err(Error::TableFull {
                    what: "references",
                    limit,
                });
            }
            self.grow_references(count)?;
            hints.current.store(count, Relaxed);
        }
    }

    fn grow_references(&self, count: u32) -> Result<()> {
        let step = (16 * PAGE / REFERENCE_SLOT) as u32;
        let next = u64::from(count + step).min(self.geometry.references);
        let from = self.geometry.references_at + u64::from(count) * REFERENCE_SLOT;
        let to = self.geometry.references_at + next * REFERENCE_SLOT;
        self.back(from & !(PAGE - 1), to - (from & !(PAGE - 1)))?;
        let _ = self
            .header()
            .references
            .compare_exchange(u64::from(count), next, AcqRel, Relaxed);
        Ok(())
    }

    /// The header of the object slot at `offset`. Such memory stays an object's for ever, so that
    /// locking the cell of a stale reference does no harm.
    pub(crate) fn object_header(&self, offset: u64) -> Result<&ObjectHeader> {
        let place = self.place(offset)?;
        if !place.pool.is_some_and(holds_objects) {
            return Err(Error::Corrupted("a reference to a block, not an object"));
        }
        self.shared(offset)
    }

    /// Committed state of the object at `offset`.
    pub(crate) fn object_standing(&self, offset: u64) -> Result<Standing> {
        Ok(Standing::parse(
            self.object_header(offset)?.cell.lock().state(),
        ))
    }

    /// Before `last` is overwritten, the slot that it names learns that its change happened.
    fn note_last(&self, last: u64) {
        let Some(index) = (last >> 32).checked_sub(1) else {
            return;
        };
        let Ok(slot) = self.reference_slot(index as u32) else {
            return;
        };
        if broken::is(Mistake::ChangeNotNoted) {
            return;
        }
        let out = last & 1 != 0;
        let (pending, done) = if out {
            (PENDING_OUT, NONE)
        } else {
            (PENDING_IN, ACTIVE)
        };
        let state = slot.state.load(Acquire);
        if state & STEP == pending && change(index as u32, state >> 2, out) == last {
            let _ = slot
                .state
                .compare_exchange(state, state & !STEP | done, AcqRel, Relaxed);
        }
    }

    /// Counts the object once more, for the slot (which the caller owns and is at rest).
    pub(crate) fn count_in(&self, index: u32, reference: Reference) -> Result<()> {
        let slot = self.reference_slot(index)?;
        let header = self
            .object_header(reference.offset)
            .map_err(|_| Error::Stale(reference))?;
        let sequence = self.announce(slot, reference);
        let mut guard = header.cell.lock();
        let mut standing = Standing::parse(guard.state());
        if standing.count == 0 || standing.generation != reference.generation {
            drop(guard);
            slot.state.store(sequence << 2 | NONE, Release);
            return Err(Error::Stale(reference));
        }
        let Some(count) = standing.count.checked_add(1) else {
            drop(guard);
            slot.state.store(sequence << 2 | NONE, Release);
            return Err(Error::Corrupted("an impossible count of references"));
        };
        self.note_last(standing.last);
        standing.count = count;
        standing.last = change(index, sequence, false);
        guard.stage(standing.words());
        guard.commit();
        self.confirm(slot, sequence);
        Ok(())
    }

    fn announce(&self, slot: &ReferenceSlot, reference: Reference) -> u64 {
        slot.object.store(reference.to_bits(), Relaxed);
        let sequence = (slot.state.load(Relaxed) >> 2) + 1;
        let step = if broken::is(Mistake::CountUnannounced) {
            NONE
        } else {
            PENDING_IN
        };
        slot.state.store(sequence << 2 | step, Release);
        sequence
    }

    fn confirm(&self, slot: &ReferenceSlot, sequence: u64) {
        if broken::is(Mistake::CountUnannounced) {
            slot.state.store(sequence << 2 | ACTIVE, Release);
        }
        let _ = slot.state.compare_exchange(
            sequence << 2 | PENDING_IN,
            sequence << 2 | ACTIVE,
            AcqRel,
            Relaxed,
        );
    }

    /// Brings an object to life with a count of one, for the slot. The object's slot is owned by the
    /// caller and complete but for this commit. Returns its reference.
    pub(crate) fn count_first(&self, index: u32, offset: u64, kind: u32) -> Result<Reference> {
        let slot = self.reference_slot(index)?;
        let cell = &self.object_header(offset)?.cell;
        // Nobody else creates here: the generation read now is the one that the commit sees.
        let generation = Standing::parse(cell.lock().state())
            .generation
            .wrapping_add(1);
        let reference = Reference { offset, generation };
        let sequence = self.announce(slot, reference);
        let mut guard = cell.lock();
        let before = Standing::parse(guard.state());
        self.note_last(before.last);
        let last = change(index, sequence, false);
        guard.stage(
            Standing {
                count: 1,
                last,
                generation,
                kind,
                dying: false,
            }
            .words(),
        );
        guard.commit();
        self.confirm(slot, sequence);
        Ok(reference)
    }

    /// Ends the reference in this slot, wherever in its life it is, and frees the slot. `destroy` is
    /// called when the object has no reference left, before the slot forgets that it was the last.
    pub(crate) fn release_reference(
        &self,
        index: u32,
        word: u64,
        destroy: &mut dyn FnMut(Reference),
    ) {
        let Ok(slot) = self.reference_slot(index) else {
            return;
        };
        loop {
            if slot.owner.load(Acquire) != word {
                return;
            }
            let state = slot.state.load(Acquire);
            match state & STEP {
                NONE => {
                    if slot
                        .owner
                        .compare_exchange(word, 0, Release, Relaxed)
                        .is_ok()
                    {
                        self.header().free_references.push(u64::from(index) + 1);
                    }
                    return;
                }
                PENDING_IN => self.settle_in(index, slot, state),
                ACTIVE => {
                    let pending = ((state >> 2) + 1) << 2 | PENDING_OUT;
                    let _ = slot.state.compare_exchange(state, pending, AcqRel, Relaxed);
                }
                _ => self.settle_out(index, slot, state, destroy),
            }
        }
    }

    /// Did a change that was announced happen? Then it is active, else it never was.
    fn settle_in(&self, index: u32, slot: &ReferenceSlot, state: u64) {
        let object = Reference::from_bits(slot.object.load(Relaxed));
        let header = object.and_then(|object| self.object_header(object.offset).ok());
        let mut done = NONE;
        // The cell stays locked over the exchange, or a later change could note ours in between.
        let guard = header.map(|header| header.cell.lock());
        if let Some(guard) = &guard {
            if Standing::parse(guard.state()).last == change(index, state >> 2, false) {
                done = ACTIVE;
            }
        }
        let _ = slot
            .state
            .compare_exchange(state, state & !STEP | done, AcqRel, Relaxed);
    }

    fn settle_out(
        &self,
        index: u32,
        slot: &ReferenceSlot,
        state: u64,
        destroy: &mut dyn FnMut(Reference),
    ) {
        let rest = state & !STEP | NONE;
        let object = Reference::from_bits(slot.object.load(Relaxed));
        let Some((object, header)) =
            object.and_then(|it| Some((it, self.object_header(it.offset).ok()?)))
        else {
            let _ = slot.state.compare_exchange(state, rest, AcqRel, Relaxed);
            return;
        };
        let mut guard = header.cell.lock();
        let mut standing = Standing::parse(guard.state());
        if slot.state.load(Acquire) != state {
            return;
        }
        let this = change(index, state >> 2, true);
        if standing.last != this && standing.generation == object.generation && standing.count > 0 {
            self.note_last(standing.last);
            standing.count -= 1;
            standing.last = this;
            standing.dying = standing.count == 0;
            guard.stage(standing.words());
            guard.commit();
        } else {
            drop(guard);
        }
        if standing.dying && standing.generation == object.generation {
            destroy(object);
        }
        let _ = slot.state.compare_exchange(state, rest, AcqRel, Relaxed);
    }

    /// Last step of a destruction: what the object held is given back, it is not dying any more.
    pub(crate) fn bury(&self, reference: Reference) {
        let Ok(header) = self.object_header(reference.offset) else {
            return;
        };
        let mut guard = header.cell.lock();
        let mut standing = Standing::parse(guard.state());
        if standing.dying && standing.generation == reference.generation {
            standing.dying = false;
            guard.stage(standing.words());
            guard.commit();
        }
    }
}
