#![allow(unsafe_code)]
//! Runs: whole extents in a row, for blocks beyond the largest slot.
//!
//! Laying out a run touches several directory entries; the header's `runs` cell guards that, and its
//! state is the intent (start, count). Whoever finds an intent completes or undoes it first:
//!
//! 1. commit the intent, keeping the cell;
//! 2. mark the parts `PartOf(start)`, each from `Free`;
//! 3. mark the head `Run(count)`: from here on the run exists, and is free;
//! 4. commit "no intent".
//!
//! Dead before 3: the parts are marked free again. Dead after 3: only the intent is cleared. A run
//! that exists is taken and given back by its owner word like any slot, until it is dissolved
//! (`extents.rs`).
//!
//! # Safety invariants
//! `rebuild` takes mappings over from a table that is never used or dropped again.

use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::*;

use bequeath_os::{limits, Mapping};

use crate::arena::Place;
use crate::extents::LAY_OUT;
use crate::layout::PAGE;
use crate::space::Space;
use crate::words::{Use, UseWord};
use crate::{Error, Result};

impl Space {
    /// Takes a free run for `len` bytes: `word` becomes its owner. Its pages may be missing.
    pub(crate) fn take_run(&self, len: u64, word: u64) -> Result<Place<'_>> {
        let count = len.div_ceil(self.geometry.extent());
        if count > self.geometry.extents - self.geometry.first {
            return Err(self.too_large(len));
        }
        if let Some(place) = self.take_free_run(count, len, word) {
            return Ok(place);
        }
        // Others may take what was just laid out before us, or find it free and give it back.
        loop {
            let start = match self.lay_out_run(count) {
                Err(Error::ArenaFull { .. }) if self.give_back_extents() > 0 => {
                    self.lay_out_run(count)?
                }
                result => result?,
            };
            if let Some(place) = self.take_run_at(start, count, word) {
                return Ok(place);
            }
        }
    }

    /// Takes the run that starts at this extent, if there (still) is one for so many extents: it may have been
    /// given back since somebody saw it, and its extents be slots of anything.
    fn take_run_at(&self, start: u64, count: u64, word: u64) -> Option<Place<'_>> {
        let place = self.place(self.geometry.start_of(start)).ok()?;
        (self.fits(&place, count) && self.try_take(&place, word)).then_some(place)
    }

    fn too_large(&self, len: u64) -> Error {
        let room = (self.geometry.extents - self.geometry.first) * self.geometry.extent();
        Error::TooLarge {
            needed: len,
            room,
            from: self.size_source(),
        }
    }

    fn fits(&self, place: &Place<'_>, count: u64) -> bool {
        let least = count * self.geometry.extent();
        place.pool.is_none() && (least..=2 * least).contains(&place.size)
    }

    /// The latest freed first: its pages may still be in a processor's cache.
    fn take_free_run(&self, count: u64, len: u64, word: u64) -> Option<Place<'_>> {
        let hints = &self.header().free_runs;
        let (top, room) = (hints.top.load(Relaxed) as usize, hints.places.len());
        for back in 1..=room {
            let hint = &hints.places[top.wrapping_sub(back) % room];
            let offset = hint.load(Relaxed);
            if offset == 0 {
                continue;
            }
            let Ok(place) = self.place(offset) else {
                continue;
            };
            let warm_enough = u64::from(place.slot.backed.load(Relaxed)) * PAGE >= len / 2;
            if self.fits(&place, count) && warm_enough && self.try_take(&place, word) {
                let _ = hint.compare_exchange(offset, 0, Relaxed, Relaxed);
                return Some(place);
            }
        }
        self.used_extents()
            .find_map(|index| self.take_run_at(index, count, word))
    }

    fn lay_out_run(&self, count: u64) -> Result<u64> {
        let mut guard = self.header().runs.lock();
        self.settle_intent(guard.state());
        let mut from = self.geometry.first;
        loop {
            let start = self.find_free(from, count)?;
            guard.stage([start, count, LAY_OUT]);
            guard.commit_and_hold();
            let base = self.extent(start)?.base.load(Acquire);
            self.extent(start)?.run.generation.fetch_max(base, AcqRel);
            let made = (start + 1..start + count)
                .all(|index| self.mark(index, Use::Free, Use::PartOf(start)))
                && self.mark(start, Use::Free, Use::Run(count));
            if !made {
                self.settle_run(start, count);
            }
            guard.stage([0; 3]);
            guard.commit_and_hold();
            if made {
                self.header().fresh.fetch_max(start + count, AcqRel);
                return Ok(start);
            }
            from = start + 1;
        }
    }

    /// First index from which `count` extents are free.
    fn find_free(&self, from: u64, count: u64) -> Result<u64> {
        let (mut start, mut index) = (from, from);
        while index < self.geometry.extents {
            self.back_directory(index)?;
            if self.use_of(index)?.parse() != Use::Free {
                start = index + 1;
            } else if index + 1 - start == count {
                return Ok(start);
            }
            index += 1;
        }
        Err(self.full(count * self.geometry.extent()))
    }

    /// Under the cell: undoes a run that was not completed.
    pub(crate) fn settle_run(&self, start: u64, count: u64) {
        let end = start.saturating_add(count);
        if start < self.geometry.first || count == 0 || end > self.geometry.extents {
            return;
        }
        let head = self.use_of(start).map(UseWord::parse);
        if matches!(head, Ok(Use::Run(found) | Use::Dissolving(found)) if found == count) {
            self.header().fresh.fetch_max(end, AcqRel);
            return;
        }
        for index in start + 1..end {
            self.mark(index, Use::PartOf(start), Use::Free);
        }
    }

    /// One step of an extent's life.
    pub(crate) fn mark(&self, index: u64, from: Use, to: Use) -> bool {
        self.extent(index).is_ok_and(|extent| {
            let word = UseWord(extent.shape.load(Acquire));
            word.parse() == from
                && extent
                    .shape
                    .compare_exchange(word.0, word.with(to).0, SeqCst, Relaxed)
                    .is_ok()
        })
    }
}

/// The runs that this process has mapped. Mappings are kept after use, since mapping a large block
/// anew costs as much as copying it; idle ones go beyond a limit, and when address space runs out.
#[derive(Default)]
pub(crate) struct MappedRuns {
    runs: HashMap<u64, MappedRun>,
    clock: u64,
    /// Forks under way: their children may have to rely on what was mapped before, so nothing is
    /// unmapped meanwhile.
    forks: u32,
}

struct MappedRun {
    mapping: Mapping,
    uses: usize,
    last_use: u64,
}

/// A mapped run as a fork ticket remembers it.
#[derive(Clone, Copy)]
pub(crate) struct RememberedRun {
    offset: u64,
    address: usize,
    len: usize,
    uses: usize,
}

impl MappedRuns {
    /// The address of the run at `offset`, mapped for `len` bytes at least, counted as in use.
    pub(crate) fn enter(&mut self, space: &Space, offset: u64, len: u64) -> Result<NonNull<u8>> {
        self.clock += 1;
        let len = len.next_multiple_of(space.geometry.extent()) as usize;
        if let Some(run) = self.runs.get_mut(&offset) {
            if run.mapping.len() >= len {
                run.uses += 1;
                run.last_use = self.clock;
                return Ok(run.mapping.as_non_null());
            }
            if run.uses != 0 {
                return Err(Error::Corrupted("a run that grew while it was mapped"));
            }
            self.forget(offset);
        }
        let mapping = match Mapping::shared(space.descriptor()?, offset, len) {
            Ok(mapping) => mapping,
            Err(_) => {
                self.unmap_idle(0);
                Mapping::shared(space.descriptor()?, offset, len)?
            }
        };
        let address = mapping.as_non_null();
        self.runs.insert(
            offset,
            MappedRun {
                mapping,
                uses: 1,
                last_use: self.clock,
            },
        );
        Ok(address)
    }

    /// One use less.
    pub(crate) fn leave(&mut self, offset: u64) {
        if let Some(run) = self.runs.get_mut(&offset) {
            run.uses = run.uses.saturating_sub(1);
            if run.uses == 0 {
                self.unmap_idle(idle_limit());
            }
        }
    }

    /// The mapping is of no use to the next user of the run (it is private now, or too short).
    pub(crate) fn forget(&mut self, offset: u64) {
        if let Some(run) = self.runs.remove(&offset) {
            if self.forks > 0 {
                run.mapping.leak();
            }
        }
    }

    fn unmap_idle(&mut self, limit: usize) {
        if self.forks > 0 {
            return;
        }
        let idle = |runs: &HashMap<u64, MappedRun>| -> usize {
            runs.values()
                .filter(|run| run.uses == 0)
                .map(|run| run.mapping.len())
                .sum()
        };
        while idle(&self.runs) > limit {
            let unused = self.runs.iter().filter(|(_, run)| run.uses == 0);
            let Some(offset) = unused
                .min_by_key(|(_, run)| run.last_use)
                .map(|(offset, _)| *offset)
            else {
                return;
            };
            self.forget(offset);
        }
    }

    /// A fork begins: what is mapped now stays.
    pub(crate) fn freeze(&mut self) -> Vec<RememberedRun> {
        self.forks += 1;
        let remember = |(offset, run): (&u64, &MappedRun)| RememberedRun {
            offset: *offset,
            address: run.mapping.as_ptr().expose_provenance(),
            len: run.mapping.len(),
            uses: run.uses,
        };
        self.runs.iter().map(remember).collect()
    }

    /// A fork is over.
    pub(crate) fn thaw(&mut self) {
        self.forks = self.forks.saturating_sub(1);
    }

    /// In a child whose copy of the table is not whole: what was mapped before the fork began, and
    /// was not unmapped since.
    pub(crate) fn rebuild(remembered: &[RememberedRun]) -> Self {
        let runs = remembered.iter().filter_map(|run| {
            let address = NonNull::new(std::ptr::with_exposed_provenance_mut(run.address))?;
            // SAFETY: mapped with this length when the ticket was made, and frozen since; the old table,
            // which owns the mapping too, is never dropped.
            let mapping = unsafe { Mapping::from_leaked(address, run.len) };
            Some((
                run.offset,
                MappedRun {
                    mapping,
                    uses: run.uses,
                    last_use: 0,
                },
            ))
        });
        Self {
            runs: runs.collect(),
            ..Self::default()
        }
    }
}

fn idle_limit() -> usize {
    let address_space = limits::address_space().soft.unwrap_or(u64::MAX);
    (address_space / 8).min(1 << 30) as usize
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::words;
    use crate::{Options, Session};

    /// Between laying a run out and taking it somebody gave it back, and somebody else made slots there: a slot
    /// that was taken for the run was smaller than what was asked for, and its neighbours' pages went with it.
    #[test]
    fn a_run_that_was_given_back_meanwhile_is_not_taken() {
        let session = Session::create(&Options::default()).unwrap();
        let (space, mine) = (session.space(), words::owned(session.me().unwrap()));
        let start = space.lay_out_run(2).unwrap();
        assert_eq!(space.give_back_extents(), 1);
        assert!(space.take_run_at(start, 2, mine).is_none(), "nothing there");
        let block = session.allocate(300).unwrap();
        let its = space.geometry.index_of(block.name().offset);
        assert_eq!(its, start, "the extent is used for slots now");
        drop(block);
        assert!(space.take_run_at(start, 2, mine).is_none(), "slots there");
    }
}
