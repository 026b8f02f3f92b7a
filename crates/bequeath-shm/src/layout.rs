#![allow(unsafe_code)]
//! What stands where in the arena, and the shapes of all shared tables.
//!
//! The arena is a sparse file of fixed size. First stand the tables below, backed page by page as they
//! fill; the rest are extents (4 MiB, less in a small arena), each holding slots of one size or part of
//! a run. The slots' entries stand in tables of their own, at the same place whatever an extent is used
//! for, so that a late compare-and-swap meets an entry and never somebody's bytes.
//!
//! # Safety invariants
//! [`Plain`] is implemented only for `repr(C)` structures of atomics (and cells, which are such):
//! every bit pattern is a valid value, and other processes may change them at any time.

use bequeath_sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64};
use bequeath_sync::Cell;

use crate::site::MakerWords;

/// Bytes that a process maps at a time.
pub(crate) const GRANULE: u64 = 1 << GRANULE_SHIFT;
pub(crate) const GRANULE_SHIFT: u32 = 22;
/// Bytes of a page as far as the layout is concerned (kernels with larger pages round up).
pub(crate) const PAGE: u64 = 4096;

/// Bytes of an extent: the largest and smallest, as powers of two.
const EXTENT_SHIFTS: std::ops::RangeInclusive<u32> = 14..=22;
/// An arena is divided into so many extents at least, where it is large enough.
const EXTENTS_AT_LEAST: u64 = 64;

/// Default and smallest size of an arena.
pub(crate) const DEFAULT_SIZE: u64 = 1 << 40;
pub(crate) const MINIMUM_SIZE: u64 = 256 * 1024;

pub(crate) const MAGIC: u64 = 0x6265_7175_6561_7468;
pub(crate) const VERSION: u64 = 3;

/// Where the latest deaths are noted: one page behind the header (`deaths.rs`).
pub(crate) const DEATHS_AT: u64 = 16 * 1024;
/// Where the table of those who wait starts, and how many fit at most (`waits.rs`).
pub(crate) const WAITS_AT: u64 = DEATHS_AT + PAGE;
const WAITS: u64 = 1920;
/// Bytes of its entries.
pub(crate) const WAIT: u64 = 32;
/// How many members there may be at most.
const MEMBERS: u64 = 8192;

/// Shared structures: atomics only.
///
/// # Safety
/// `repr(C)`, only atomics, valid for every bit pattern, alignment at most 64.
pub(crate) unsafe trait Plain {}

/// Bytes of each size class. The two largest leave room for an envelope's head before a payload of
/// 256 KiB or 1 MiB. Classes that do not fit an extent are not used.
pub(crate) const CLASSES: [u64; 9] = [
    256,
    512,
    1024,
    2048,
    4096,
    16_384,
    65_536,
    68 * PAGE,
    341 * PAGE,
];
/// Pools: each class once for blocks and once for objects (whose memory stays theirs for ever).
pub(crate) const POOLS: usize = 2 * CLASSES.len();

/// Size and number of slots of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClassShape {
    /// Bytes of a slot.
    pub(crate) size: u64,
    /// Slots of an extent; zero when not one fits.
    pub(crate) count: u32,
    /// Slots made usable at a time.
    pub(crate) step: u32,
}

impl ClassShape {
    const fn of(size: u64, extent: u64) -> Self {
        let count = extent / size;
        let quarter = extent / 4;
        let ahead = if quarter < 65_536 { quarter } else { 65_536 };
        let step = if size < PAGE { ahead / size } else { 128 };
        Self {
            size,
            count: count as u32,
            step: step as u32,
        }
    }
}

/// Whether a pool's slots hold objects.
pub(crate) fn holds_objects(pool: usize) -> bool {
    pool >= CLASSES.len()
}

/// One slot's (or run's) entry: who has it.
#[repr(C)]
pub(crate) struct Slot {
    /// An owner word (`words.rs`); changed by compare-and-swap only.
    pub(crate) owner: AtomicU64,
    /// The object whose committed state decides about a move.
    pub(crate) via: AtomicU64,
    /// Bytes in use.
    pub(crate) length: AtomicU64,
    /// Pages that are surely backed, from the start; for slots of a page or more.
    pub(crate) backed: AtomicU32,
    /// How often the place was given back.
    pub(crate) generation: AtomicU32,
}
pub(crate) const SLOT: u64 = 32;
const _: () = assert!(core::mem::size_of::<Slot>() as u64 == SLOT);
// SAFETY: repr(C), atomics only.
unsafe impl Plain for Slot {}

/// One extent's entry in the directory.
#[repr(C)]
pub(crate) struct Extent {
    /// What the extent is used for, how many slots are usable, how often that changed (`words.rs`).
    pub(crate) shape: AtomicU64,
    /// Where to look for a free slot next; a hint.
    pub(crate) cursor: AtomicU32,
    /// How many slots may be free below the watermark; a hint.
    pub(crate) free: AtomicI32,
    /// Generations of places in it are at least this: names from its former uses stay stale.
    pub(crate) base: AtomicU32,
    /// As many slots as somebody made usable or was about to; the watermark lags only after a death.
    pub(crate) ahead: AtomicU32,
    /// Whether its table of slots shares a page with another's, and has it.
    pub(crate) shares_table: AtomicU32,
    spare: AtomicU32,
    /// The slot of the run that starts here.
    pub(crate) run: Slot,
}
pub(crate) const EXTENT_ENTRY: u64 = 64;
const _: () = assert!(core::mem::size_of::<Extent>() as u64 == EXTENT_ENTRY);
// SAFETY: repr(C), atomics only.
unsafe impl Plain for Extent {}

/// One process's entry.
#[repr(C)]
pub(crate) struct Member {
    /// `ProcessId` bits, 0 = entry unused.
    pub(crate) identity: AtomicU64,
    /// Generation and tag (`members.rs`).
    pub(crate) state: AtomicU64,
    /// For a pending child: its `ProcessId` as its parent saw it.
    pub(crate) note: AtomicU64,
    /// For a pending child: when it was announced (seconds of the monotonic clock).
    pub(crate) stamp: AtomicU64,
    /// What kind of process it is, and its name (`about.rs`); only for telling.
    pub(crate) about: About,
}
const _: () = assert!(core::mem::size_of::<Member>() == 64);

/// What a process tells of itself.
#[repr(C)]
pub(crate) struct About {
    pub(crate) role: AtomicU64,
    pub(crate) name: [AtomicU64; 3],
}

/// The latest deaths, in a ring.
#[repr(C)]
pub(crate) struct Deaths {
    pub(crate) next: AtomicU64,
    pub(crate) records: [DeathRecord; 63],
}
// SAFETY: repr(C), atomics only.
unsafe impl Plain for Deaths {}
const _: () = assert!(core::mem::size_of::<Deaths>() as u64 <= PAGE);

/// One death.
#[repr(C)]
pub(crate) struct DeathRecord {
    /// `ProcessId` bits; 0 while the record is written.
    pub(crate) process: AtomicU64,
    /// The exit code or the negated signal in the low half; above it 1, where it is known.
    pub(crate) status: AtomicU64,
    /// When, in nanoseconds of the monotonic clock.
    pub(crate) at: AtomicU64,
    pub(crate) about: About,
    spare: AtomicU64,
}
const _: () = assert!(core::mem::size_of::<DeathRecord>() == 64);
// SAFETY: the entries of those who wait are repr(C), atomics only.
unsafe impl Plain for bequeath_sync::waiting::Entry {}
// SAFETY: repr(C), atomics only.
unsafe impl Plain for Member {}

/// One counted reference.
#[repr(C)]
pub(crate) struct ReferenceSlot {
    /// A member's or an envelope's word, 0 = free.
    pub(crate) owner: AtomicU64,
    /// The object, as `Reference::to_bits`.
    pub(crate) object: AtomicU64,
    /// Sequence number and step (`counting.rs`).
    pub(crate) state: AtomicU64,
    spare: AtomicU64,
}
pub(crate) const REFERENCE_SLOT: u64 = 32;
const _: () = assert!(core::mem::size_of::<ReferenceSlot>() as u64 == REFERENCE_SLOT);
// SAFETY: repr(C), atomics only.
unsafe impl Plain for ReferenceSlot {}

/// What stands before an object's body.
#[repr(C, align(64))]
pub(crate) struct ObjectHeader {
    /// Count, last change of it, and generation with kind and flags (`counting.rs`).
    pub(crate) cell: Cell<3>,
    /// Block with the extra bytes, 0 = right behind the body.
    pub(crate) extra: AtomicU64,
    /// How many extra bytes there are.
    pub(crate) extra_length: AtomicU64,
    /// Bytes of the body.
    pub(crate) body_length: AtomicU64,
    /// Who made it.
    pub(crate) maker: MakerWords,
}
pub(crate) const OBJECT_HEADER: u64 = core::mem::size_of::<ObjectHeader>() as u64;
const _: () = assert!(OBJECT_HEADER == 128);
// SAFETY: repr(C), atomics and a cell, which consists of atomics.
unsafe impl Plain for ObjectHeader {}

/// A short stack of places that became free lately. All of it is advice: whoever takes a place from
/// it still has to win the place's owner word.
#[repr(C)]
pub(crate) struct Hints {
    pub(crate) top: AtomicU32,
    /// The extent to look into next.
    pub(crate) current: AtomicU32,
    pub(crate) places: [AtomicU64; 63],
}
const _: () = assert!(core::mem::size_of::<Hints>() == 512);

/// The first bytes of the arena.
#[repr(C, align(64))]
pub(crate) struct Header {
    pub(crate) magic: AtomicU64,
    pub(crate) version: AtomicU64,
    pub(crate) session: [AtomicU64; 2],
    pub(crate) size: AtomicU64,
    /// Inodes of the namespaces in which process numbers and start times mean what they say.
    pub(crate) pid_namespace: AtomicU64,
    pub(crate) time_namespace: AtomicU64,
    pub(crate) uid: AtomicU64,
    /// Budget in bytes.
    pub(crate) limit: AtomicU64,
    /// Bytes kept warm in free slots, and in free runs; estimates.
    pub(crate) warm_slots: AtomicI64,
    pub(crate) warm_runs: AtomicI64,
    /// Entries of each table that are backed; only grow.
    pub(crate) members: AtomicU64,
    pub(crate) extents: AtomicU64,
    pub(crate) references: AtomicU64,
    /// First extent that was never used; a hint that only grows.
    pub(crate) fresh: AtomicU64,
    /// Entries of the table of those who wait that are backed.
    pub(crate) waits: AtomicU64,
    /// Where the budget comes from (`budget.rs`).
    pub(crate) limit_source: AtomicU64,
    /// Guards claims of several extents and the giving back of extents: intent (start, count, what).
    pub(crate) runs: Cell<3>,
    /// The channel's: guards the board.
    pub(crate) board: Cell<1>,
    pub(crate) free_references: Hints,
    pub(crate) free_runs: Hints,
    pub(crate) pools: [Hints; POOLS],
}
const _: () = assert!(core::mem::size_of::<Header>() as u64 <= DEATHS_AT);
// SAFETY: repr(C), atomics and a cell, which consists of atomics.
unsafe impl Plain for Header {}

pub(crate) const fn round_up(value: u64, to: u64) -> u64 {
    value.div_ceil(to) * to
}

/// Where the tables are in an arena of a given size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) size: u64,
    extent_shift: u32,
    /// Extents of the whole arena.
    pub(crate) extents: u64,
    pub(crate) waits: u64,
    pub(crate) members_at: u64,
    pub(crate) members: u64,
    directory_at: u64,
    pub(crate) references_at: u64,
    pub(crate) references: u64,
    tables_at: u64,
    /// First extent that is not a table.
    pub(crate) first: u64,
    shapes: [ClassShape; CLASSES.len()],
    /// Bytes of the largest slot.
    pub(crate) largest_slot: u64,
}

impl Geometry {
    /// The layout of an arena of `size` bytes (rounded down to whole extents).
    pub(crate) fn of(size: u64) -> Self {
        let wanted = (size / EXTENTS_AT_LEAST).max(1).ilog2();
        let extent_shift = wanted.clamp(*EXTENT_SHIFTS.start(), *EXTENT_SHIFTS.end());
        let extent = 1 << extent_shift;
        let extents = size >> extent_shift;
        let waits = (size / 4096).clamp(PAGE / WAIT, WAITS) & !(PAGE / WAIT - 1);
        let members_at = WAITS_AT + waits * WAIT;
        let members = (size / 4096).clamp(PAGE / 64, MEMBERS) & !(PAGE / 64 - 1);
        let directory_at = members_at + members * 64;
        let references_at = round_up(directory_at + extents * EXTENT_ENTRY, PAGE);
        let references = (size / 1024).clamp(512, 1 << 22);
        let table = extent / CLASSES[0] * SLOT;
        let tables_at = round_up(references_at + references * REFERENCE_SLOT, table);
        let usable = (extents * extent).saturating_sub(tables_at) / (extent + table);
        Self {
            size: extents * extent,
            extent_shift,
            extents,
            waits,
            members_at,
            members,
            directory_at,
            references_at,
            references,
            tables_at,
            first: extents - usable,
            shapes: CLASSES.map(|size| ClassShape::of(size, extent)),
            largest_slot: CLASSES
                .into_iter()
                .filter(|size| *size <= extent)
                .fold(0, u64::max),
        }
    }

    /// Bytes of an extent.
    pub(crate) const fn extent(&self) -> u64 {
        1 << self.extent_shift
    }

    /// The extent in which a place lies.
    pub(crate) const fn index_of(&self, offset: u64) -> u64 {
        offset >> self.extent_shift
    }

    /// Where an extent starts.
    pub(crate) const fn start_of(&self, index: u64) -> u64 {
        index << self.extent_shift
    }

    /// How far into its extent a place lies.
    pub(crate) const fn inside(&self, offset: u64) -> u64 {
        offset & (self.extent() - 1)
    }

    /// Where the directory's entry of an extent stands.
    pub(crate) const fn entry_at(&self, index: u64) -> u64 {
        self.directory_at + (index - self.first) * EXTENT_ENTRY
    }

    /// Where the entries of an extent's slots stand: a whole table lies in one granule.
    pub(crate) const fn table_at(&self, index: u64) -> u64 {
        self.tables_at + (index - self.first) * (self.extent() / CLASSES[0] * SLOT)
    }

    /// Bytes of an extent's table.
    pub(crate) const fn table(&self) -> u64 {
        self.extent() / CLASSES[0] * SLOT
    }

    /// The pages that hold an extent's table of slots and no other's: where and how many bytes.
    pub(crate) fn own_table(&self, index: u64) -> Option<(u64, u64)> {
        let table = self.extent() / CLASSES[0] * SLOT;
        (table % PAGE == 0).then(|| (self.table_at(index), table))
    }

    /// The pool that serves `len` bytes, or `None` for what needs a run of extents.
    pub(crate) fn pool_for(&self, len: u64, objects: bool) -> Option<usize> {
        let fits = |shape: &ClassShape| shape.size >= len && shape.count > 0;
        let class = self.shapes.iter().position(fits)?;
        Some(if objects {
            class + CLASSES.len()
        } else {
            class
        })
    }

    /// The shape of the slots of a pool.
    pub(crate) fn shape_of(&self, pool: usize) -> ClassShape {
        self.shapes[pool % CLASSES.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_extents_do_not_overlap_in_any_arena() {
        let odd = [
            MINIMUM_SIZE,
            1_000_000,
            1 << 20,
            3_000_000,
            16 << 20,
            300 << 20,
            DEFAULT_SIZE,
        ];
        for size in odd {
            let geometry = Geometry::of(size);
            let last = geometry.extents - 1;
            let table = geometry.table_at(last) - geometry.table_at(last - 1);
            assert!(geometry.entry_at(last) + EXTENT_ENTRY <= geometry.references_at);
            assert!(
                geometry.table_at(last) + table <= geometry.start_of(geometry.first),
                "{size}"
            );
            assert_eq!(GRANULE % table, 0);
            assert_eq!(geometry.table_at(geometry.first) % table, 0);
            assert!(geometry.extents - geometry.first >= 8, "{geometry:?}");
            // No more than a quarter goes for tables.
            assert!(geometry.first * 4 <= geometry.extents + 4, "{geometry:?}");
            for pool in 0..CLASSES.len() {
                let shape = geometry.shape_of(pool);
                assert!(u64::from(shape.count) * SLOT <= table && shape.step > 0);
            }
        }
        assert_eq!(Geometry::of(DEFAULT_SIZE).extent(), 4 << 20);
        assert_eq!(Geometry::of(1_000_000).largest_slot, 16_384);
    }
}
