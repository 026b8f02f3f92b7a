//! Slots of size classes: taken and given back by one compare-and-swap of the slot's owner word.
//!
//! Everything else here is advice that may be wrong after a death: the stack of lately freed places
//! (so that warm pages are used again first), the cursor and count of free slots per extent. What
//! decides is the owner word, so a death at any instruction leaves each slot with exactly one owner.
//!
//! Who takes a slot looks *afterwards* whether its extent still is what it was: an extent whose slots
//! are all free may meanwhile have been given back (`extents.rs`). Then the slot is put back as it was.

use std::sync::atomic::Ordering::*;

use crate::layout::{holds_objects, Extent, Hints, Slot, EXTENT_ENTRY, PAGE, POOLS, SLOT};
use crate::space::{pages, Space};
use crate::words::{Use, UseWord, FREE_COLD, FREE_WARM};
use crate::{Error, Result};

/// A slot or run, found.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) offset: u64,
    /// Bytes there; the run's whole length for runs.
    pub(crate) size: u64,
    /// `None` for a run.
    pub(crate) pool: Option<usize>,
    pub(crate) slot: &'a Slot,
    /// Which use of its extent this was found under.
    pub(crate) stamp: u64,
}

impl Hints {
    pub(crate) fn push(&self, place: u64) {
        let top = self.top.fetch_add(1, Relaxed) as usize;
        self.places[top % self.places.len()].store(place, Relaxed);
    }

    pub(crate) fn pop(&self) -> Option<u64> {
        let top = self.top.fetch_sub(1, Relaxed).wrapping_sub(1) as usize;
        let place = self.places[top % self.places.len()].swap(0, Relaxed);
        (place != 0).then_some(place)
    }
}

impl Space {
    /// The slot or run that starts exactly at `offset`.
    pub(crate) fn place(&self, offset: u64) -> Result<Place<'_>> {
        const WRONG: Error = Error::Corrupted("an offset where no slot starts");
        let index = self.geometry.index_of(offset);
        if index < self.geometry.first {
            return Err(WRONG);
        }
        let word = self.use_of(index)?;
        let inside = self.geometry.inside(offset);
        match word.parse() {
            Use::Slots { pool, watermark } | Use::Emptying { pool, watermark } => {
                let shape = self.geometry.shape_of(pool);
                let number = inside / shape.size;
                if inside % shape.size != 0 || number >= u64::from(watermark.min(shape.count)) {
                    return Err(WRONG);
                }
                self.slot_place(index, pool, number as u32, word)
            }
            Use::Run(count) | Use::Dissolving(count)
                if inside == 0 && count <= self.geometry.extents - index =>
            {
                Ok(Place {
                    offset,
                    size: count * self.geometry.extent(),
                    pool: None,
                    slot: &self.extent(index)?.run,
                    stamp: word.stamp(),
                })
            }
            _ => Err(WRONG),
        }
    }

    fn slot_place(
        &self,
        extent: u64,
        pool: usize,
        number: u32,
        word: UseWord,
    ) -> Result<Place<'_>> {
        let size = self.geometry.shape_of(pool).size;
        Ok(Place {
            offset: self.geometry.start_of(extent) + u64::from(number) * size,
            size,
            pool: Some(pool),
            slot: self.slot(extent, number)?,
            stamp: word.stamp(),
        })
    }

    /// A slot's entry, which stays where it is whatever its extent is used for.
    pub(crate) fn slot(&self, extent: u64, number: u32) -> Result<&Slot> {
        if extent < self.geometry.first || extent >= self.geometry.extents {
            return Err(Error::Corrupted("a slot beyond the arena"));
        }
        self.shared(self.geometry.table_at(extent) + u64::from(number) * SLOT)
    }

    /// What an extent is used for now.
    pub(crate) fn use_of(&self, index: u64) -> Result<UseWord> {
        Ok(UseWord(self.extent(index)?.shape.load(Acquire)))
    }

    /// Whether the place is still what it was found as. Stays true as long as somebody has the place.
    pub(crate) fn is_current(&self, place: &Place<'_>) -> bool {
        self.use_of(self.geometry.index_of(place.offset))
            .is_ok_and(|word| word.stamp() == place.stamp)
    }

    /// After its owner word was taken: whether it may be. Together with `extents.rs`, which changes the
    /// use first and looks at the owners then, one of the two sees the other (hence SeqCst).
    pub(crate) fn may_be_taken(&self, place: &Place<'_>) -> bool {
        let Ok(extent) = self.extent(self.geometry.index_of(place.offset)) else {
            return false;
        };
        let word = UseWord(extent.shape.load(SeqCst));
        word.stamp() == place.stamp && matches!(word.parse(), Use::Slots { .. } | Use::Run(_))
    }

    /// Takes a free slot of the pool: `word` becomes its owner. Its pages may be missing.
    pub(crate) fn take_slot(&self, pool: usize, word: u64) -> Result<Place<'_>> {
        loop {
            // Nothing: others were faster with the extent that was claimed, or gave it back, unused as it was.
            if let Some(place) = self.try_take_slot(pool, word)? {
                return Ok(place);
            }
        }
    }

    fn try_take_slot(&self, pool: usize, word: u64) -> Result<Option<Place<'_>>> {
        let hints = &self.header().pools[pool];
        for _ in 0..4 {
            let Some(offset) = hints.pop() else { break };
            if let Ok(place) = self.place(offset) {
                if place.pool == Some(pool) && self.try_take(&place, word) {
                    return Ok(Some(place));
                }
            }
        }
        // Elsewhere only where a search promises success soon; rather grow than search for long.
        let current = u64::from(hints.current.load(Relaxed));
        let worthwhile = (self.geometry.shape_of(pool).count / 16).max(1) as i32;
        if let Some(place) = self.take_in_extent(current, pool, word, 1)? {
            return Ok(Some(place));
        }
        if let Some(place) = self.take_in_any(pool, word, worthwhile)? {
            return Ok(Some(place));
        }
        if let Some(place) = self.take_at_watermark(current, pool, word)? {
            return Ok(Some(place));
        }
        for index in self.used_extents() {
            if let Some(place) = self.take_at_watermark(index, pool, word)? {
                hints.current.store(index as u32, Relaxed);
                return Ok(Some(place));
            }
        }
        let claimed = match self.claim_extent(pool) {
            Err(Error::ArenaFull { .. }) if self.give_back_extents() > 0 => self.claim_extent(pool),
            result => result,
        };
        match claimed {
            Ok(extent) => {
                hints.current.store(extent as u32, Relaxed);
                self.take_at_watermark(extent, pool, word)
            }
            Err(full) => {
                // Larger slots serve, too; but an object's slot stays one for ever.
                let last = if holds_objects(pool) {
                    pool + 1
                } else {
                    POOLS / 2
                };
                for pool in pool..last {
                    if let Some(place) = self.take_in_any(pool, word, i32::MIN)? {
                        return Ok(Some(place));
                    }
                }
                Err(full)
            }
        }
    }

    /// Takes a free place; false when it is not free, or not there any more.
    pub(crate) fn try_take(&self, place: &Place<'_>, word: u64) -> bool {
        let owner = &place.slot.owner;
        for free in [FREE_WARM, FREE_COLD] {
            if owner.compare_exchange(free, word, SeqCst, Relaxed).is_err() {
                continue;
            }
            if !self.may_be_taken(place) {
                let _ = owner.compare_exchange(word, free, AcqRel, Relaxed);
                return false;
            }
            if free == FREE_WARM {
                self.count_warm(place, -1);
            }
            if let (Some(_), Ok(extent)) = (
                place.pool,
                self.extent(self.geometry.index_of(place.offset)),
            ) {
                extent.free.fetch_sub(1, Relaxed);
            }
            return true;
        }
        false
    }

    pub(crate) fn count_warm(&self, place: &Place<'_>, sign: i64) {
        let bytes = i64::from(place.slot.backed.load(Relaxed)) * PAGE as i64 * sign;
        let header = self.header();
        let total = if place.pool.is_some() {
            &header.warm_slots
        } else {
            &header.warm_runs
        };
        total.fetch_add(bytes, Relaxed);
    }

    /// An extent of the pool, with the number of its usable slots.
    fn extent_of(&self, index: u64, wanted: usize) -> Result<Option<(&Extent, UseWord, u32)>> {
        if index < self.geometry.first || index >= self.geometry.extents {
            return Ok(None);
        }
        let extent = self.extent(index)?;
        let word = UseWord(extent.shape.load(Acquire));
        Ok(match word.parse() {
            Use::Slots { pool, watermark } if pool == wanted => {
                let usable = watermark.min(self.geometry.shape_of(pool).count);
                Some((extent, word, usable))
            }
            _ => None,
        })
    }

    /// Looks through the usable slots of one extent, if it is this pool's and at least so many are free.
    fn take_in_extent(
        &self,
        index: u64,
        pool: usize,
        owner: u64,
        at_least: i32,
    ) -> Result<Option<Place<'_>>> {
        let Some((extent, word, usable)) = self.extent_of(index, pool)? else {
            return Ok(None);
        };
        if extent.free.load(Relaxed) < at_least {
            return Ok(None);
        }
        let start = extent.cursor.load(Relaxed) % usable.max(1);
        for number in (start..usable).chain(0..start) {
            let place = self.slot_place(index, pool, number, word)?;
            let is_free = matches!(place.slot.owner.load(Relaxed), FREE_COLD | FREE_WARM);
            if is_free && self.try_take(&place, owner) {
                extent.cursor.store(number + 1, Relaxed);
                return Ok(Some(place));
            }
        }
        extent.free.store(0, Relaxed);
        Ok(None)
    }

    /// Makes more slots of an extent usable and takes one.
    fn take_at_watermark(&self, index: u64, pool: usize, owner: u64) -> Result<Option<Place<'_>>> {
        loop {
            let Some((extent, word, usable)) = self.extent_of(index, pool)? else {
                return Ok(None);
            };
            if usable == self.geometry.shape_of(pool).count {
                return Ok(None);
            }
            self.raise_watermark(index, extent, word)?;
            if let Some(place) = self.take_in_extent(index, pool, owner, 1)? {
                return Ok(Some(place));
            }
        }
    }

    /// Makes some more slots usable. Backing twice is harmless, so a death in between is too; and what
    /// was found is exchanged as a whole, so that nothing happens to an extent that was given back.
    fn raise_watermark(&self, index: u64, extent: &Extent, word: UseWord) -> Result<()> {
        let Use::Slots { pool, watermark } = word.parse() else {
            return Ok(());
        };
        let shape = self.geometry.shape_of(pool);
        let next = (watermark + shape.step).min(shape.count);
        let table = self.geometry.table_at(index);
        let span =
            |from: u64, to: u64| (from & !(PAGE - 1), pages(to - (from & !(PAGE - 1))) * PAGE);
        // (Noted first: after a death nobody knows whether the pages are there.)
        extent.ahead.fetch_max(next, Relaxed);
        let (from, to) = match self.geometry.own_table(index) {
            Some(_) => (u64::from(watermark) * SLOT, u64::from(next) * SLOT),
            // A table that shares its page with another is all there or not at all.
            None => (0, self.geometry.table()),
        };
        let (at, len) = span(table + from, table + to);
        self.back(at, len)?;
        if self.geometry.own_table(index).is_none() {
            extent.shares_table.store(1, Relaxed);
        }
        if shape.size < PAGE {
            let start = self.geometry.start_of(index);
            let (at, len) = span(
                start + u64::from(watermark) * shape.size,
                start + u64::from(next) * shape.size,
            );
            self.back(at, len)?;
        }
        let base = extent.base.load(Acquire);
        if base != 0 {
            for number in watermark..next {
                self.slot(index, number)?.generation.fetch_max(base, AcqRel);
            }
        }
        let raised = word.with(Use::Slots {
            pool,
            watermark: next,
        });
        if extent
            .shape
            .compare_exchange(word.0, raised.0, AcqRel, Relaxed)
            .is_ok()
        {
            extent.cursor.store(watermark, Relaxed);
            extent.free.fetch_add((next - watermark) as i32, Relaxed);
        }
        Ok(())
    }

    fn take_in_any(&self, pool: usize, owner: u64, at_least: i32) -> Result<Option<Place<'_>>> {
        for index in self.used_extents() {
            if let Some(place) = self.take_in_extent(index, pool, owner, at_least)? {
                self.header().pools[pool]
                    .current
                    .store(index as u32, Relaxed);
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// The extents that may be in use, tables excluded.
    pub(crate) fn used_extents(&self) -> std::ops::Range<u64> {
        let fresh = self.header().fresh.load(Acquire).min(self.geometry.extents);
        self.geometry.first..fresh
    }

    /// Turns a free extent into slots of the pool. One compare-and-swap: an extent without any slot
    /// in use needs no owner.
    fn claim_extent(&self, pool: usize) -> Result<u64> {
        for index in self.geometry.first..self.geometry.extents {
            self.back_directory(index)?;
            let extent = self.extent(index)?;
            let word = UseWord(extent.shape.load(Acquire));
            let slots = word.with(Use::Slots { pool, watermark: 0 });
            if word.parse() == Use::Free
                && extent
                    .shape
                    .compare_exchange(word.0, slots.0, AcqRel, Relaxed)
                    .is_ok()
            {
                self.header().fresh.fetch_max(index + 1, AcqRel);
                return Ok(index);
            }
        }
        Err(self.full(self.geometry.extent()))
    }

    /// What to say when no range of so many bytes is free.
    pub(crate) fn full(&self, needed: u64) -> Error {
        Error::ArenaFull {
            needed,
            size: self.geometry.size,
            from: self.size_source(),
        }
    }

    /// Makes sure that the directory has a page for this extent's entry.
    pub(crate) fn back_directory(&self, index: u64) -> Result<()> {
        let wanted = index - self.geometry.first;
        let backed = self.header().extents.load(Acquire);
        if wanted < backed {
            return Ok(());
        }
        let first = self.geometry.entry_at(self.geometry.first);
        let to = first + (wanted + 1) * EXTENT_ENTRY;
        let from = (first + backed * EXTENT_ENTRY) & !(PAGE - 1);
        let end = to.div_ceil(PAGE) * PAGE;
        self.back_tables(from, end - from)?;
        self.header()
            .extents
            .fetch_max((end - first) / EXTENT_ENTRY, AcqRel);
        Ok(())
    }

    /// Gives the first `len` bytes of an owned place pages.
    pub(crate) fn back_place(&self, place: &Place<'_>, len: u64) -> Result<()> {
        if place.pool.is_some() && place.size < PAGE {
            return Ok(());
        }
        let (have, need) = (
            u64::from(place.slot.backed.load(Relaxed)),
            pages(len.max(1)),
        );
        if need > have {
            self.back(place.offset + have * PAGE, (need - have) * PAGE)?;
            place.slot.backed.store(need as u32, Relaxed);
        }
        Ok(())
    }

    /// Gives back a place whose owner word is `word`; nothing happens if it is not (any more).
    pub(crate) fn release(&self, place: &Place<'_>, word: u64) {
        let slot = place.slot;
        if slot.owner.load(Acquire) != word {
            return;
        }
        // The next user has another generation; whoever dies here leaves `word`, and this is repeated.
        slot.generation.fetch_add(1, Relaxed);
        slot.via.store(0, Relaxed);
        let small = place.keeps_its_pages();
        let warm = small || self.has_room_for_warm(place) || self.cool(place).is_err();
        let free = if warm { FREE_WARM } else { FREE_COLD };
        if warm {
            self.count_warm(place, 1);
        }
        if slot
            .owner
            .compare_exchange(word, free, Release, Relaxed)
            .is_err()
        {
            return;
        }
        match place.pool {
            Some(pool) => {
                let index = self.geometry.index_of(place.offset);
                let hints = &self.header().pools[pool];
                let free = self
                    .extent(index)
                    .map_or(0, |extent| extent.free.fetch_add(1, Relaxed) + 1);
                // The pages of small slots come back only with their extent.
                if small && !holds_objects(pool) && u64::from(hints.current.load(Relaxed)) != index
                {
                    self.give_back_if_empty(index, free);
                }
                hints.push(place.offset);
            }
            None => self.header().free_runs.push(place.offset),
        }
    }

    /// Whether the pages of a freed place should be kept for the next user.
    fn has_room_for_warm(&self, place: &Place<'_>) -> bool {
        let header = self.header();
        let limit = header.limit.load(Relaxed);
        let (total, cap) = match place.pool {
            Some(_) => (header.warm_slots.load(Relaxed), (limit / 16).min(64 << 20)),
            None => (header.warm_runs.load(Relaxed), (limit / 4).min(512 << 20)),
        };
        let bytes = u64::from(place.slot.backed.load(Relaxed)) * PAGE;
        (total.max(0) as u64).saturating_add(bytes) <= cap.min(self.warm_cap())
    }

    /// Gives the pages of an owned place back. The count goes first: pages that nobody counts cost
    /// nothing but themselves, counted pages that are missing would be written through a hole.
    pub(crate) fn cool(&self, place: &Place<'_>) -> Result<()> {
        let backed = place.slot.backed.swap(0, Relaxed);
        let done = self.punch(place.offset, u64::from(backed) * PAGE);
        if done.is_err() {
            place.slot.backed.store(backed, Relaxed);
        }
        done
    }

    /// Every slot and run that is in use or warm.
    pub(crate) fn for_each_place(&self, mut visit: impl FnMut(Place<'_>)) {
        for index in self.used_extents() {
            let Ok(word) = self.use_of(index) else {
                continue;
            };
            match word.parse() {
                Use::Slots { pool, watermark } | Use::Emptying { pool, watermark } => {
                    let shape = self.geometry.shape_of(pool);
                    let first = self.geometry.start_of(index);
                    let usable = watermark.min(shape.count);
                    let Ok(slots) =
                        self.shared_row::<Slot>(self.geometry.table_at(index), usable.into())
                    else {
                        continue;
                    };
                    for (number, slot) in slots.iter().enumerate() {
                        // Cold places are nobody's and hold nothing.
                        if slot.owner.load(Relaxed) != FREE_COLD {
                            visit(Place {
                                offset: first + number as u64 * shape.size,
                                size: shape.size,
                                pool: Some(pool),
                                slot,
                                stamp: word.stamp(),
                            });
                        }
                    }
                }
                Use::Run(_) | Use::Dissolving(_) => {
                    if let Ok(place) = self.place(self.geometry.start_of(index)) {
                        visit(place);
                    }
                }
                _ => {}
            }
        }
    }

    /// Gives the pages of free places back: when memory is short. `word` is this process's own.
    pub(crate) fn trim(&self, word: u64) -> u64 {
        let before = self.used().unwrap_or(0);
        self.for_each_place(|place| {
            let slot = place.slot;
            if !place.keeps_its_pages()
                && slot.owner.load(Relaxed) == FREE_WARM
                && self.try_take(&place, word)
            {
                let free = if self.cool(&place).is_ok() {
                    FREE_COLD
                } else {
                    self.count_warm(&place, 1);
                    FREE_WARM
                };
                if slot
                    .owner
                    .compare_exchange(word, free, Release, Relaxed)
                    .is_ok()
                {
                    self.count_free(&place);
                }
            }
        });
        self.give_back_extents();
        before.saturating_sub(self.used().unwrap_or(before))
    }

    fn count_free(&self, place: &Place<'_>) {
        if let (Some(_), Ok(extent)) = (
            place.pool,
            self.extent(self.geometry.index_of(place.offset)),
        ) {
            extent.free.fetch_add(1, Relaxed);
        }
    }
}

impl Place<'_> {
    /// Whether freeing it gives no pages back: small slots share pages, objects stay objects.
    pub(crate) fn keeps_its_pages(&self) -> bool {
        self.pool
            .is_some_and(|pool| self.size < PAGE || holds_objects(pool))
    }
}
