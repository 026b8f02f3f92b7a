//! What every page of the arena is used for: each byte that the kernel counts stands in one account.
//!
//! Tables and small slots are backed some pages ahead, and the count of what is usable follows. A death in
//! between leaves pages that are there and not yet counted: at most `perhaps` bytes, which the next user
//! of that table counts. A session in which nobody died so has none.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::*;

use crate::layout::{
    holds_objects, Header, DEATHS_AT, EXTENT_ENTRY, PAGE, REFERENCE_SLOT, SLOT, WAIT, WAITS_AT,
};
use crate::space::Space;
use crate::words::{Use, FREE_WARM};
use crate::Result;

/// Bytes of pages by use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Accounts {
    /// Header, members, waits, deaths, directory, references.
    pub tables: u64,
    /// Entries of slots.
    pub entries: u64,
    /// Slots of objects, free ones included.
    pub objects: u64,
    /// Slots of blocks smaller than a page, free ones included.
    pub small_blocks: u64,
    /// Blocks of a page and more that somebody has.
    pub blocks: u64,
    /// Pages of free blocks, kept for the next user.
    pub free: u64,
    /// What may be there beside that, where somebody died while adding pages.
    pub perhaps: u64,
    /// All, by the kernel's count.
    pub used: u64,
}

impl Accounts {
    /// The sum of the accounts.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.tables + self.entries + self.objects + self.small_blocks + self.blocks + self.free
    }

    /// Whether every byte is accounted for.
    #[must_use]
    pub const fn balance(&self) -> bool {
        self.sum() <= self.used && self.used <= self.sum() + self.perhaps
    }
}

/// Pages of ranges, each once: neighbours share some.
#[derive(Default)]
struct Pages(BTreeSet<u64>);

impl Pages {
    fn add(&mut self, at: u64, len: u64) {
        if len > 0 {
            self.0.extend(at / PAGE..(at + len).div_ceil(PAGE));
        }
    }

    fn bytes(&self) -> u64 {
        self.0.len() as u64 * PAGE
    }
}

impl Space {
    /// What the pages are used for now. Of a session at rest it is exact.
    pub(crate) fn accounts(&self) -> Result<Accounts> {
        let mut accounts = Accounts {
            tables: self.tables(),
            used: self.used()?,
            ..Accounts::default()
        };
        let (mut entries, mut entries_ahead) = (Pages::default(), Pages::default());
        for index in self.used_extents() {
            let extent = self.extent(index)?;
            let word = self.use_of(index)?.parse();
            let table = self.geometry.table_at(index);
            let shared = self.geometry.own_table(index).is_none();
            if let Use::Slots { pool, watermark } | Use::Emptying { pool, watermark } = word {
                let shape = self.geometry.shape_of(pool);
                let usable = u64::from(watermark.min(shape.count));
                let ahead = u64::from(extent.ahead.load(Relaxed).min(shape.count)).max(usable);
                let length = |slots: u64| match (shared, slots) {
                    (true, 1..) => self.geometry.table(),
                    _ => slots * SLOT,
                };
                entries.add(table, length(usable));
                entries_ahead.add(table, length(ahead));
                if shape.size < PAGE {
                    let pages = |slots: u64| (slots * shape.size).div_ceil(PAGE) * PAGE;
                    accounts.perhaps += pages(ahead) - pages(usable);
                    *(if holds_objects(pool) {
                        &mut accounts.objects
                    } else {
                        &mut accounts.small_blocks
                    }) += pages(usable);
                }
            }
            if shared && extent.shares_table.load(Relaxed) != 0 {
                entries.add(table, self.geometry.table());
            }
        }
        accounts.entries = entries.bytes();
        accounts.perhaps += entries_ahead.0.difference(&entries.0).count() as u64 * PAGE;
        self.for_each_place(|place| {
            if place.pool.is_some() && place.size < PAGE {
                return;
            }
            let bytes = u64::from(place.slot.backed.load(Relaxed)) * PAGE;
            *(match place.pool {
                Some(pool) if holds_objects(pool) => &mut accounts.objects,
                _ if place.slot.owner.load(Relaxed) <= FREE_WARM => &mut accounts.free,
                _ => &mut accounts.blocks,
            }) += bytes;
        });
        if accounts.used > accounts.sum() {
            // A step of each table that grows.
            accounts.perhaps += (16 + 1 + 1 + 1) * PAGE;
        }
        Ok(accounts)
    }

    fn tables(&self) -> u64 {
        let header = self.header();
        let geometry = &self.geometry;
        let mut pages = Pages::default();
        pages.add(0, size_of::<Header>() as u64);
        pages.add(DEATHS_AT, PAGE);
        let waits = header.waits.load(Acquire).min(geometry.waits);
        pages.add(WAITS_AT, waits * WAIT);
        let members = header.members.load(Acquire).min(geometry.members);
        pages.add(geometry.members_at, members * 64);
        let extents = header
            .extents
            .load(Acquire)
            .min(geometry.extents - geometry.first);
        pages.add(geometry.entry_at(geometry.first), extents * EXTENT_ENTRY);
        let references = u64::from(self.reference_slots());
        pages.add(geometry.references_at, references * REFERENCE_SLOT);
        pages.bytes()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::{Memory, Options, Session};

    /// Every byte that the kernel counts is in an account, exactly, whatever was done before.
    #[test]
    fn every_byte_is_accounted_for() {
        for size in [None, Some(1_000_000), Some(40 << 20)] {
            let options = Options {
                size,
                ..Options::default()
            };
            let session = Session::create(&options).unwrap();
            let check = |what: &str| {
                let accounts = session.census().unwrap().accounts;
                assert_eq!(
                    accounts.sum(),
                    accounts.used,
                    "{size:?}, {what}: {accounts:?}"
                );
            };
            check("fresh");
            let mut objects = Vec::new();
            let mut blocks = Vec::new();
            for round in 0..4 {
                for len in [10, 300, 2500, 5000, 17_000, 70_000, 200_000] {
                    objects.extend(Memory::create(&session, len / 10));
                    blocks.extend(session.allocate(len));
                    blocks.extend(session.allocate(len + 300));
                    check("allocated");
                }
                if round % 2 == 0 {
                    blocks.retain(|block| block.len() % 1000 == 0);
                    check("some freed");
                    objects.clear();
                } else {
                    blocks.clear();
                    session.trim().unwrap();
                }
                check("freed");
            }
            drop((blocks, objects));
            session.trim().unwrap();
            check("all freed");
            let accounts = session.census().unwrap().accounts;
            assert_eq!((accounts.blocks, accounts.free), (0, 0), "{accounts:?}");
        }
    }
}
