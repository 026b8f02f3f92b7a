//! The audit: every page that the arena has, and what accounts for it.
//!
//! A page is accounted for when it holds tables, or when a slot or run counts it as its own. Anything else
//! is memory that no one will ever use or give back. Exact when nobody uses the session meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::*;

use bequeath_os::Mapping;

use crate::layout::{
    Header, Slot, DEATHS_AT, EXTENT_ENTRY, PAGE, REFERENCE_SLOT, SLOT, WAIT, WAITS_AT,
};
use crate::session::Session;
use crate::space::{pages, Space};
use crate::words::Use;
use crate::Result;

/// Where the pages of an arena are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Audit {
    /// Bytes of pages, by the kernel's count.
    pub used: u64,
    /// Bytes in the tables.
    pub tables: u64,
    /// Bytes that slots and runs have, in use or kept.
    pub places: u64,
    /// Pages that were written and that nothing counts, by their offsets.
    pub stray: Vec<u64>,
}

impl Audit {
    /// Bytes that nothing accounts for; below zero: bytes that are counted and not there.
    #[must_use]
    pub fn unaccounted(&self) -> i64 {
        self.used as i64 - (self.tables + self.places) as i64
    }
}

impl Session {
    /// Looks at every page of the arena. Meant for tests and for people: it takes a while.
    ///
    /// # Errors
    /// When the descriptor is lost, or out of address space.
    pub fn audit(&self) -> Result<Audit> {
        self.space().audit()
    }
}

impl Space {
    fn audit(&self) -> Result<Audit> {
        let geometry = &self.geometry;
        let used_extents = self.used_extents();
        let mut audit = Audit {
            tables: PAGE * self.pages_of_tables()? as u64,
            ..Audit::default()
        };
        let in_extent = geometry.extent() / PAGE;
        // Pages of a run, counted from its first extent on.
        let mut run = 0;
        for index in used_extents {
            let start = geometry.start_of(index);
            let mut counted = vec![false; in_extent as usize];
            let mut count = |from: u64, len: u64| {
                let until = (from + len).min(in_extent);
                counted[from.min(until) as usize..until as usize].fill(true);
            };
            match self.use_of(index)?.parse() {
                Use::Slots { pool, watermark } | Use::Emptying { pool, watermark } => {
                    let shape = geometry.shape_of(pool);
                    let usable = u64::from(watermark.min(shape.count));
                    if shape.size < PAGE {
                        count(0, pages(usable * shape.size));
                    } else {
                        let table = self.shared_row::<Slot>(geometry.table_at(index), usable);
                        for (number, slot) in table.unwrap_or_default().iter().enumerate() {
                            let at = number as u64 * shape.size / PAGE;
                            count(at, slot.backed.load(Relaxed).into());
                        }
                    }
                }
                Use::Run(_) | Use::Dissolving(_) => {
                    run = u64::from(self.extent(index)?.run.backed.load(Relaxed));
                    count(0, run);
                    run = run.saturating_sub(in_extent);
                }
                Use::PartOf(_) => {
                    count(0, run);
                    run = run.saturating_sub(in_extent);
                }
                Use::Free | Use::Unknown => {}
            }
            let there = self.resident(start, geometry.extent())?;
            for (page, (there, counted)) in there.into_iter().zip(counted).enumerate() {
                if counted {
                    audit.places += PAGE;
                } else if there {
                    audit.stray.push(start + page as u64 * PAGE);
                }
            }
        }
        audit.used = self.used()?;
        Ok(audit)
    }

    /// Which pages were written; those that only were given do not show.
    fn resident(&self, offset: u64, len: u64) -> Result<Vec<bool>> {
        let len = len.next_multiple_of(PAGE) as usize;
        Ok(Mapping::shared_to_read(self.descriptor()?, offset, len)?.resident()?)
    }

    /// How many pages the tables were given, by their own counts.
    fn pages_of_tables(&self) -> Result<usize> {
        let (header, geometry) = (self.header(), &self.geometry);
        let mut found = BTreeSet::new();
        let mut add = |from: u64, len: u64| found.extend(from / PAGE..(from + len).div_ceil(PAGE));
        add(0, size_of::<Header>() as u64);
        add(DEATHS_AT, PAGE);
        let entries = |counted: u64, most: u64| counted.min(most);
        let waits = entries(header.waits.load(Acquire), geometry.waits);
        add(WAITS_AT, waits * WAIT);
        let members = entries(header.members.load(Acquire), geometry.members);
        add(geometry.members_at, members * 64);
        let references = u64::from(self.reference_slots());
        add(geometry.references_at, references * REFERENCE_SLOT);
        let extents = entries(
            header.extents.load(Acquire),
            geometry.extents - geometry.first,
        );
        add(geometry.entry_at(geometry.first), extents * EXTENT_ENTRY);
        for index in self.used_extents() {
            if let Use::Slots { pool, watermark } | Use::Emptying { pool, watermark } =
                self.use_of(index)?.parse()
            {
                let usable = u64::from(watermark.min(geometry.shape_of(pool).count));
                add(geometry.table_at(index), usable * SLOT);
            }
        }
        Ok(found.len())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Memory, Options};

    #[test]
    fn every_page_is_accounted_for_and_one_too_many_is_found() {
        let size = Some(64 << 20);
        let session = Session::create(&Options {
            size,
            ..Options::default()
        })
        .unwrap();
        let blocks: Vec<_> = [10, 5000, 70_000, 300_000, 9 << 20]
            .into_iter()
            .map(|len| session.allocate(len).unwrap())
            .collect();
        let memory = Memory::create(&session, 6 << 20).unwrap();
        let free = session.allocate(200_000).unwrap();
        let offset = free.name().offset;
        drop(free);
        let audit = session.audit().unwrap();
        assert_eq!(
            (audit.unaccounted(), audit.stray.len()),
            (0, 0),
            "{audit:?}"
        );
        // As a death after the pages came and before they were counted would leave it.
        let place = session.space().place(offset).unwrap();
        let backed = u64::from(place.slot.backed.load(Relaxed));
        let stray = offset + backed * PAGE;
        session.space().back(stray, PAGE).unwrap();
        let audit = session.audit().unwrap();
        assert_eq!((audit.unaccounted(), audit.stray), (PAGE as i64, vec![]));
        drop((blocks, memory));
    }
}
