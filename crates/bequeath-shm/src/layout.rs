#![allow(unsafe_code)]
//! What stands where in the arena, and the shapes of all shared tables.
//!
//! The arena is a sparse file of fixed size, in extents of 4 MiB. The first ones hold the tables
//! below, backed page by page as they fill; the others hold slots of one size, or runs for blocks
//! beyond the largest slot.
//!
//! # Safety invariants
//! [`Plain`] is implemented only for `repr(C)` structures of atomics (and cells, which are such):
//! every bit pattern is a valid value, and other processes may change them at any time.

use bequeath_sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64};
use bequeath_sync::Cell;

use crate::site::MakerWords;

/// Bytes of an extent.
pub(crate) const EXTENT: u64 = 1 << EXTENT_SHIFT;
pub(crate) const EXTENT_SHIFT: u32 = 22;
/// Bytes of a page as far as the layout is concerned (kernels with larger pages round up).
pub(crate) const PAGE: u64 = 4096;

/// Default and smallest size of an arena.
pub(crate) const DEFAULT_SIZE: u64 = 1 << 40;
pub(crate) const MINIMUM_SIZE: u64 = 4 * EXTENT;

pub(crate) const MAGIC: u64 = 0x6265_7175_6561_7468;
pub(crate) const VERSION: u64 = 2;

/// Where the table of those who wait starts, and how many fit (`waits.rs`).
pub(crate) const WAITS_AT: u64 = 64 * 1024;
pub(crate) const WAITS: u64 = (DEATHS_AT - WAITS_AT) / 32;
/// Where the latest deaths are noted: one page (`deaths.rs`).
pub(crate) const DEATHS_AT: u64 = MEMBERS_AT - PAGE;

/// Where the table of members starts, and how many fit.
pub(crate) const MEMBERS_AT: u64 = 128 * 1024;
pub(crate) const MEMBERS: u64 = 8192;
/// Where the directory of extents starts.
pub(crate) const DIRECTORY_AT: u64 = MEMBERS_AT + MEMBERS * 64;

/// Shared structures: atomics only.
///
/// # Safety
/// `repr(C)`, only atomics, valid for every bit pattern, alignment at most 64.
pub(crate) unsafe trait Plain {}

/// Bytes of each size class. The two largest leave room for a table of slots in their extent, and
/// for an envelope's head before a payload of 256 KiB or 1 MiB.
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

/// Size, table and number of slots of one class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassShape {
    /// Bytes of a slot.
    pub(crate) size: u64,
    /// Slots of an extent.
    pub(crate) count: u32,
    /// Where the first slot starts in the extent, after the table.
    pub(crate) first: u64,
    /// Slots made usable at a time.
    pub(crate) step: u32,
}

impl ClassShape {
    const fn of(size: u64) -> Self {
        let mut count = EXTENT / (size + SLOT);
        let mut first = round_up(count * SLOT, PAGE);
        while first + count * size > EXTENT {
            count -= 1;
            first = round_up(count * SLOT, PAGE);
        }
        let step = if size < PAGE { 65_536 / size } else { 128 };
        Self {
            size,
            count: count as u32,
            first,
            step: step as u32,
        }
    }
}

/// The shapes of all classes.
pub(crate) const SHAPES: [ClassShape; 9] = {
    let mut shapes = [ClassShape::of(CLASSES[0]); 9];
    let mut class = 1;
    while class < CLASSES.len() {
        shapes[class] = ClassShape::of(CLASSES[class]);
        class += 1;
    }
    shapes
};

/// The pool that serves `len` bytes, or `None` for what needs a run of extents.
pub(crate) fn pool_for(len: u64, objects: bool) -> Option<usize> {
    let class = CLASSES.iter().position(|size| *size >= len)?;
    Some(if objects {
        class + CLASSES.len()
    } else {
        class
    })
}

/// The shape of the slots of a pool.
pub(crate) fn shape_of(pool: usize) -> ClassShape {
    SHAPES[pool % CLASSES.len()]
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
    /// What the extent is used for (`words.rs`).
    pub(crate) shape: AtomicU64,
    /// Where to look for a free slot next; a hint.
    pub(crate) cursor: AtomicU32,
    /// How many slots may be free below the watermark; a hint.
    pub(crate) free: AtomicI32,
    /// Slots whose table entry (and memory, for small ones) is backed; only grows.
    pub(crate) watermark: AtomicU32,
    spare: [AtomicU32; 3],
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
    /// Guards claims of several extents: intent (start, count).
    pub(crate) runs: Cell<3>,
    /// The channel's: guards the board.
    pub(crate) board: Cell<1>,
    pub(crate) free_references: Hints,
    pub(crate) free_runs: Hints,
    pub(crate) pools: [Hints; POOLS],
}
const _: () = assert!(core::mem::size_of::<Header>() as u64 <= WAITS_AT);
// SAFETY: repr(C), atomics and a cell, which consists of atomics.
unsafe impl Plain for Header {}

pub(crate) const fn round_up(value: u64, to: u64) -> u64 {
    value.div_ceil(to) * to
}

/// Where the tables are in an arena of a given size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) size: u64,
    /// Extents of the whole arena.
    pub(crate) extents: u64,
    pub(crate) references_at: u64,
    pub(crate) references: u64,
    /// First extent that is not a table.
    pub(crate) first: u64,
}

impl Geometry {
    /// The layout of an arena of `size` bytes (rounded down to whole extents).
    pub(crate) fn of(size: u64) -> Self {
        let extents = size / EXTENT;
        let references_at = round_up(DIRECTORY_AT + extents * EXTENT_ENTRY, PAGE);
        let references = (size / 4096).clamp(4096, 1 << 22);
        let first = (references_at + references * REFERENCE_SLOT).div_ceil(EXTENT);
        Self {
            size: extents * EXTENT,
            extents,
            references_at,
            references,
            first,
        }
    }
}
