//! Giving extents back: what no slot or run of is in use any more can serve another size.
//!
//! All of it happens under the header's `runs` cell, with the intent committed first, so that whoever
//! takes the cell over from the dead goes on where they stopped. Only taking places goes on meanwhile,
//! without any lock. The giver changes the use first ([`Use::Emptying`]) and looks at the owner words
//! then; a taker wins the owner word first and looks at the use then (`may_be_taken`). So either the
//! giver sees the place taken, and restores the use, or the taker sees the use, and puts the word back.
//! A taker who was stopped in between comes too late: the entry that it puts back is a slot's entry
//! still (tables do not move), whose next user takes it when it is free again.
//!
//! | step | if it dies here |
//! |---|---|
//! | intent committed | the next holder of the cell does all that follows |
//! | `Slots` → `Emptying` | the same, or the use is restored if a slot is in use |
//! | every slot: count of pages = 0, `FREE_COLD`; pages punched | the same again |
//! | the extent's least generation is above all of theirs; their table punched | the same again: it only grows |
//! | `Emptying` → `Free` of the next age | nothing is left but the intent |
//!
//! A run is `Dissolving` likewise; then its head becomes a part of itself, parts become free one by
//! one, the head last. Extents of objects are never given back: a stale reference may be locked.

use std::sync::atomic::Ordering::*;

use crate::broken::{self, Mistake};
use crate::layout::{holds_objects, Slot, PAGE};
use crate::space::Space;
use crate::words::{Use, UseWord, FREE_COLD, FREE_WARM};

/// What the intent (start, count, what) is about.
pub(crate) const LAY_OUT: u64 = 0;
const EMPTY: u64 = 1;
const DISSOLVE: u64 = 2;

fn is_free(slot: &Slot) -> bool {
    matches!(slot.owner.load(SeqCst), FREE_COLD | FREE_WARM)
}

impl Space {
    /// Gives back every extent that only free blocks are in; returns how many there were.
    pub(crate) fn give_back_extents(&self) -> usize {
        self.used_extents()
            .filter(|index| self.give_back_extent(*index))
            .count()
    }

    /// After a slot became free: gives its extent back if `free` says that it was the last.
    pub(crate) fn give_back_if_empty(&self, index: u64, free: i32) {
        let usable = match self.use_of(index).map(UseWord::parse) {
            Ok(Use::Slots { watermark, .. }) => watermark as i32,
            _ => return,
        };
        if usable > 0 && free >= usable {
            self.give_back_extent(index);
        }
    }

    fn give_back_extent(&self, index: u64) -> bool {
        let intent = match self.use_of(index).map(UseWord::parse) {
            Ok(Use::Slots { pool, watermark }) if !holds_objects(pool) => {
                if !self.slots(index, pool, watermark).iter().all(is_free) {
                    return false;
                }
                [index, 1, EMPTY]
            }
            Ok(Use::Run(count)) => {
                let free = self.extent(index).is_ok_and(|extent| is_free(&extent.run));
                if !free {
                    return false;
                }
                [index, count, DISSOLVE]
            }
            _ => return false,
        };
        let mut guard = self.header().runs.lock();
        self.settle_intent(guard.state());
        if !broken::is(Mistake::EmptiedWithoutIntent) {
            guard.stage(intent);
            guard.commit_and_hold();
        }
        let done = self.settle_intent(intent);
        guard.stage([0; 3]);
        guard.commit();
        done
    }

    /// The entries of the usable slots of an extent of this pool.
    fn slots(&self, index: u64, pool: usize, watermark: u32) -> &[Slot] {
        let usable = watermark.min(self.geometry.shape_of(pool).count);
        let table = self.geometry.table_at(index);
        if usable == 0 {
            return &[];
        }
        self.shared_row(table, usable.into()).unwrap_or_default()
    }

    /// Finishes what a dead process had begun.
    pub(crate) fn settle_intents(&self) {
        let runs = &self.header().runs;
        if runs.peek() != [0; 3] {
            let mut guard = runs.lock();
            self.settle_intent(guard.state());
            guard.stage([0; 3]);
            guard.commit();
        }
    }

    /// Under the cell: does what the intent says, or what is left of it. True when extents became free.
    pub(crate) fn settle_intent(&self, [start, count, what]: [u64; 3]) -> bool {
        let end = start.saturating_add(count);
        if start < self.geometry.first || count == 0 || end > self.geometry.extents {
            return false;
        }
        match what {
            EMPTY => self.empty(start),
            DISSOLVE => self.dissolve(start, count),
            _ => {
                self.settle_run(start, count);
                false
            }
        }
    }

    fn empty(&self, index: u64) -> bool {
        if broken::is(Mistake::EmptiedUnseen) {
            // So that it shows also on one processor: somebody takes a slot now.
            std::thread::yield_now();
        }
        if let Ok(Use::Slots { pool, watermark }) = self.use_of(index).map(UseWord::parse) {
            if !holds_objects(pool) {
                let emptying = Use::Emptying { pool, watermark };
                self.mark(index, Use::Slots { pool, watermark }, emptying);
            }
        }
        let Ok(Use::Emptying { pool, watermark }) = self.use_of(index).map(UseWord::parse) else {
            return false;
        };
        let emptying = Use::Emptying { pool, watermark };
        let restore = || {
            self.mark(index, emptying, Use::Slots { pool, watermark });
            false
        };
        let slots = self.slots(index, pool, watermark);
        if !slots.iter().all(is_free) && !broken::is(Mistake::EmptiedUnseen) {
            return restore();
        }
        let (mut warm, mut next) = (0, 0);
        for slot in slots {
            warm += forget_pages(slot);
            next = next.max(slot.generation.load(Relaxed).wrapping_add(1));
        }
        self.header()
            .warm_slots
            .fetch_sub(warm * PAGE as i64, Relaxed);
        // Where that fails nobody counts the pages any more; whoever backs the place next finds them.
        let start = self.geometry.start_of(index);
        if self.punch(start, self.geometry.extent()).is_err() {
            return restore();
        }
        // After the slots' own generations are gone only this tells old names from new ones.
        let Ok(extent) = self.extent(index) else {
            return restore();
        };
        extent.base.fetch_max(next, AcqRel);
        if let Some((at, len)) = self.geometry.own_table(index) {
            // (Who comes late and puts a word back into it finds it gone, which is the same.)
            let _ = self.punch(at, len);
        }
        extent.cursor.store(0, Relaxed);
        extent.ahead.store(0, Relaxed);
        extent.free.store(0, Relaxed);
        self.mark(index, emptying, Use::Free)
    }

    fn dissolve(&self, start: u64, count: u64) -> bool {
        let Ok(head) = self.extent(start) else {
            return false;
        };
        self.mark(start, Use::Run(count), Use::Dissolving(count));
        if self.use_of(start).map(UseWord::parse).ok() == Some(Use::Dissolving(count)) {
            let length = count * self.geometry.extent();
            if !is_free(&head.run) {
                self.mark(start, Use::Dissolving(count), Use::Run(count));
                return false;
            }
            let warm = forget_pages(&head.run);
            self.header()
                .warm_runs
                .fetch_sub(warm * PAGE as i64, Relaxed);
            let next = head.run.generation.load(Relaxed).wrapping_add(1);
            head.base.fetch_max(next, AcqRel);
            if self.punch(self.geometry.start_of(start), length).is_err() {
                self.mark(start, Use::Dissolving(count), Use::Run(count));
                return false;
            }
            self.mark(start, Use::Dissolving(count), Use::PartOf(start));
        }
        // Something else by now, perhaps a longer run from the same extent on: its parts stay.
        if self.use_of(start).map(UseWord::parse).ok() != Some(Use::PartOf(start)) {
            return false;
        }
        for index in start + 1..start + count {
            self.mark(index, Use::PartOf(start), Use::Free);
        }
        self.mark(start, Use::PartOf(start), Use::Free)
    }
}

/// Of a free place that nobody can take: its pages do not count any more. Returns how many were warm.
fn forget_pages(slot: &Slot) -> i64 {
    let backed = i64::from(slot.backed.swap(0, Relaxed));
    let was_warm = slot
        .owner
        .compare_exchange(FREE_WARM, FREE_COLD, AcqRel, Relaxed)
        .is_ok();
    if was_warm {
        backed
    } else {
        0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::words;
    use crate::{Options, Session};

    /// Who saw a free run, and came to give it back when a longer one stood there, freed parts of that.
    #[test]
    fn of_a_longer_run_in_the_same_place_no_part_is_freed() {
        let session = Session::create(&Options::default()).unwrap();
        let space = session.space();
        let block = session.allocate(18 << 20).unwrap();
        let start = space.geometry.index_of(block.name().offset);
        assert!(!space.settle_intent([start, 2, super::DISSOLVE]));
        let count = (18_u64 << 20).div_ceil(space.geometry.extent());
        for index in start + 1..start + count {
            let now = space.use_of(index).unwrap().parse();
            assert_eq!(now, words::Use::PartOf(start), "extent {index}");
        }
    }

    /// Somebody found a free place, was stopped, and goes on when its extent is something else.
    #[test]
    fn who_comes_late_takes_nothing() {
        let session = Session::create(&Options::default()).unwrap();
        let (space, mine) = (session.space(), words::owned(session.me().unwrap()));
        for len in [100, 20_000, 9 << 20] {
            let block = session.allocate(len).unwrap();
            let found = space.place(block.name().offset).unwrap();
            let name = block.name();
            assert_eq!(space.give_back_extents(), 0, "a block in use stays");
            drop(block);
            assert_eq!(space.give_back_extents(), 1);
            assert!(!space.try_take(&found, mine), "{len}: taken from nothing");
            // The same extent again, for another size, and then for the old one: it is another age.
            let other = session.allocate(300).unwrap();
            assert!(
                !space.try_take(&found, mine),
                "{len}: taken from another size"
            );
            drop(other);
            space.give_back_extents();
            let again = session.allocate(len).unwrap();
            assert_eq!(again.name().offset, name.offset);
            assert!(
                again.name().generation > name.generation,
                "an old name lives"
            );
            let held = space.place(again.name().offset).unwrap();
            drop(again);
            assert!(
                !space.try_take(&found, mine),
                "{len}: taken from another age"
            );
            assert!(space.try_take(&held, mine));
            assert_eq!(space.give_back_extents(), 0);
            space.release(&held, mine);
            space.give_back_extents();
        }
        assert_eq!(session.usage().unwrap().places, 0);
    }
}
