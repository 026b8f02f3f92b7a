//! Slots of size classes: taken and given back by one compare-and-swap of the slot's owner word.
//!
//! Everything else here is advice that may be wrong after a death: the stack of lately freed places
//! (so that warm pages are used again first), the cursor and count of free slots per extent. What
//! decides is the owner word, so a death at any instruction leaves each slot with exactly one owner.

use std::sync::atomic::Ordering::*;

use crate::layout::{
    holds_objects, shape_of, Extent, Hints, Slot, EXTENT, EXTENT_SHIFT, PAGE, SLOT,
};
use crate::space::{pages, Space};
use crate::words::{Use, FREE_COLD, FREE_WARM};
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
        let index = offset >> EXTENT_SHIFT;
        if index < self.geometry.first {
            return Err(WRONG);
        }
        let extent = self.extent(index)?;
        match Use::from_word(extent.shape.load(Acquire)) {
            Use::Slots(pool) => {
                let shape = shape_of(pool);
                let inside = (offset & (EXTENT - 1))
                    .checked_sub(shape.first)
                    .ok_or(WRONG)?;
                let number = inside / shape.size;
                let usable = extent.watermark.load(Acquire).min(shape.count);
                if inside % shape.size != 0 || number >= u64::from(usable) {
                    return Err(WRONG);
                }
                self.slot_place(index, pool, number as u32)
            }
            Use::Run(count)
                if offset & (EXTENT - 1) == 0 && count <= self.geometry.extents - index =>
            {
                Ok(Place {
                    offset,
                    size: count * EXTENT,
                    pool: None,
                    slot: &extent.run,
                })
            }
            _ => Err(WRONG),
        }
    }

    pub(crate) fn slot_place(&self, extent: u64, pool: usize, number: u32) -> Result<Place<'_>> {
        let shape = shape_of(pool);
        let start = extent << EXTENT_SHIFT;
        let slot = self.shared(start + u64::from(number) * SLOT)?;
        let offset = start + shape.first + u64::from(number) * shape.size;
        Ok(Place {
            offset,
            size: shape.size,
            pool: Some(pool),
            slot,
        })
    }

    /// Takes a free slot of the pool: `word` becomes its owner. Its pages may be missing.
    pub(crate) fn take_slot(&self, pool: usize, word: u64) -> Result<Place<'_>> {
        let hints = &self.header().pools[pool];
        for _ in 0..4 {
            let Some(offset) = hints.pop() else { break };
            if let Ok(place) = self.place(offset) {
                if place.pool == Some(pool) && self.try_take(&place, word) {
                    return Ok(place);
                }
            }
        }
        // Elsewhere only where a search promises success soon; rather grow than search for long.
        let current = u64::from(hints.current.load(Relaxed));
        let worthwhile = (shape_of(pool).count / 16).max(1) as i32;
        if let Some(place) = self.take_in_extent(current, pool, word, 1)? {
            return Ok(place);
        }
        if let Some(place) = self.take_in_any(pool, word, worthwhile)? {
            return Ok(place);
        }
        if let Some(place) = self.take_at_watermark(current, pool, word)? {
            return Ok(place);
        }
        for index in self.used_extents() {
            if let Some(place) = self.take_at_watermark(index, pool, word)? {
                hints.current.store(index as u32, Relaxed);
                return Ok(place);
            }
        }
        match self.claim_extent(pool) {
            Ok(extent) => {
                hints.current.store(extent as u32, Relaxed);
                match self.take_at_watermark(extent, pool, word)? {
                    Some(place) => Ok(place),
                    // Others were faster.
                    None => self.take_slot(pool, word),
                }
            }
            Err(full) => self.take_in_any(pool, word, i32::MIN)?.ok_or(full),
        }
    }

    fn try_take(&self, place: &Place<'_>, word: u64) -> bool {
        for free in [FREE_WARM, FREE_COLD] {
            if place
                .slot
                .owner
                .compare_exchange(free, word, Acquire, Relaxed)
                .is_ok()
            {
                if free == FREE_WARM {
                    self.count_warm(place, -1);
                }
                if let Ok(extent) = self.extent(place.offset >> EXTENT_SHIFT) {
                    extent.free.fetch_sub(1, Relaxed);
                }
                return true;
            }
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

    fn extent_of(&self, index: u64, pool: usize) -> Result<Option<&Extent>> {
        if index < self.geometry.first || index >= self.geometry.extents {
            return Ok(None);
        }
        let extent = self.extent(index)?;
        let is_its = Use::from_word(extent.shape.load(Acquire)) == Use::Slots(pool);
        Ok(is_its.then_some(extent))
    }

    /// Looks through the usable slots of one extent, if it is this pool's and at least so many are free.
    fn take_in_extent(
        &self,
        index: u64,
        pool: usize,
        word: u64,
        at_least: i32,
    ) -> Result<Option<Place<'_>>> {
        let Some(extent) = self.extent_of(index, pool)? else {
            return Ok(None);
        };
        if extent.free.load(Relaxed) < at_least {
            return Ok(None);
        }
        let watermark = extent.watermark.load(Acquire).min(shape_of(pool).count);
        let start = extent.cursor.load(Relaxed) % watermark.max(1);
        for number in (start..watermark).chain(0..start) {
            let place = self.slot_place(index, pool, number)?;
            let is_free = matches!(place.slot.owner.load(Relaxed), FREE_COLD | FREE_WARM);
            if is_free && self.try_take(&place, word) {
                extent.cursor.store(number + 1, Relaxed);
                return Ok(Some(place));
            }
        }
        extent.free.store(0, Relaxed);
        Ok(None)
    }

    /// Makes more slots of an extent usable and takes one.
    fn take_at_watermark(&self, index: u64, pool: usize, word: u64) -> Result<Option<Place<'_>>> {
        let Some(extent) = self.extent_of(index, pool)? else {
            return Ok(None);
        };
        loop {
            let watermark = extent.watermark.load(Acquire).min(shape_of(pool).count);
            if watermark == shape_of(pool).count {
                return Ok(None);
            }
            self.raise_watermark(index, extent, pool, watermark)?;
            if let Some(place) = self.take_in_extent(index, pool, word, 1)? {
                return Ok(Some(place));
            }
        }
    }

    /// Makes some more slots usable. Backing twice is harmless, so a death in between is too.
    fn raise_watermark(
        &self,
        index: u64,
        extent: &Extent,
        pool: usize,
        watermark: u32,
    ) -> Result<()> {
        let shape = shape_of(pool);
        let next = (watermark + shape.step).min(shape.count);
        let start = index << EXTENT_SHIFT;
        let table = (u64::from(watermark) * SLOT) & !(PAGE - 1);
        self.back(start + table, pages(u64::from(next) * SLOT - table) * PAGE)?;
        if shape.size < PAGE {
            let from = (shape.first + u64::from(watermark) * shape.size) & !(PAGE - 1);
            let to = shape.first + u64::from(next) * shape.size;
            self.back(start + from, pages(to - from) * PAGE)?;
        }
        if extent
            .watermark
            .compare_exchange(watermark, next, AcqRel, Relaxed)
            .is_ok()
        {
            extent.cursor.store(watermark, Relaxed);
            extent.free.fetch_add((next - watermark) as i32, Relaxed);
        }
        Ok(())
    }

    fn take_in_any(&self, pool: usize, word: u64, at_least: i32) -> Result<Option<Place<'_>>> {
        for index in self.used_extents() {
            let extent = self.extent(index)?;
            if Use::from_word(extent.shape.load(Relaxed)) == Use::Slots(pool)
                && extent.free.load(Relaxed) >= at_least
            {
                if let Some(place) = self.take_in_extent(index, pool, word, at_least)? {
                    self.header().pools[pool]
                        .current
                        .store(index as u32, Relaxed);
                    return Ok(Some(place));
                }
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
        for index in self
            .used_extents()
            .chain(self.header().fresh.load(Acquire)..self.geometry.extents)
        {
            self.back_directory(index)?;
            let extent = self.extent(index)?;
            let word = Use::Slots(pool).to_word();
            if extent
                .shape
                .compare_exchange(0, word, AcqRel, Relaxed)
                .is_ok()
            {
                self.header().fresh.fetch_max(index + 1, AcqRel);
                return Ok(index);
            }
        }
        Err(Error::ArenaFull {
            needed: EXTENT,
            size: self.geometry.size,
        })
    }

    /// Makes sure that the directory has a page for this extent's entry.
    pub(crate) fn back_directory(&self, index: u64) -> Result<()> {
        use crate::layout::{DIRECTORY_AT, EXTENT_ENTRY};
        let backed = self.header().extents.load(Acquire);
        if index < backed {
            return Ok(());
        }
        let until = (index + PAGE / EXTENT_ENTRY) / (PAGE / EXTENT_ENTRY) * (PAGE / EXTENT_ENTRY);
        let from = (DIRECTORY_AT + backed * EXTENT_ENTRY) & !(PAGE - 1);
        self.back_tables(from, DIRECTORY_AT + until * EXTENT_ENTRY - from)?;
        self.header().extents.fetch_max(until, AcqRel);
        Ok(())
    }

    /// Gives the first `len` bytes of an owned place pages.
    pub(crate) fn back_place(&self, place: &Place<'_>, len: u64) -> Result<()> {
        if place.pool.is_some_and(|pool| shape_of(pool).size < PAGE) {
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
        let small = place
            .pool
            .is_some_and(|pool| shape_of(pool).size < PAGE || holds_objects(pool));
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
                if let Ok(extent) = self.extent(place.offset >> EXTENT_SHIFT) {
                    extent.free.fetch_add(1, Relaxed);
                }
                self.header().pools[pool].push(place.offset);
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
        (total.max(0) as u64).saturating_add(bytes) <= cap
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
            let Ok(extent) = self.extent(index) else {
                continue;
            };
            match Use::from_word(extent.shape.load(Acquire)) {
                Use::Slots(pool) => {
                    let shape = shape_of(pool);
                    let watermark = extent.watermark.load(Acquire).min(shape.count);
                    let first = (index << EXTENT_SHIFT) + shape.first;
                    let Ok(slots) =
                        self.shared_row::<Slot>(index << EXTENT_SHIFT, watermark.into())
                    else {
                        continue;
                    };
                    for (number, slot) in slots.iter().enumerate() {
                        // Cold places are nobody's and hold nothing.
                        if slot.owner.load(Relaxed) != FREE_COLD {
                            let offset = first + number as u64 * shape.size;
                            let (size, pool) = (shape.size, Some(pool));
                            visit(Place {
                                offset,
                                size,
                                pool,
                                slot,
                            });
                        }
                    }
                }
                Use::Run(_) => {
                    if let Ok(place) = self.place(index << EXTENT_SHIFT) {
                        visit(place);
                    }
                }
                _ => {}
            }
        }
    }

    /// Gives the pages of free places back: when memory is short. `word` is this process's own.
    pub(crate) fn trim(&self, word: u64) -> u64 {
        let mut bytes = 0;
        self.for_each_place(|place| {
            let small = place
                .pool
                .is_some_and(|pool| shape_of(pool).size < PAGE || holds_objects(pool));
            let slot = place.slot;
            if !small
                && slot
                    .owner
                    .compare_exchange(FREE_WARM, word, Acquire, Relaxed)
                    .is_ok()
            {
                self.count_warm(&place, -1);
                let had = u64::from(slot.backed.load(Relaxed)) * PAGE;
                let free = if self.cool(&place).is_ok() {
                    bytes += had;
                    FREE_COLD
                } else {
                    FREE_WARM
                };
                let _ = slot.owner.compare_exchange(word, free, Release, Relaxed);
            }
        });
        bytes
    }
}
