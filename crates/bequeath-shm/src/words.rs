//! The words that say who has a place, and what an extent is used for.
//!
//! An owner word's lowest four bits say which kind of owner it is; what follows is either a member
//! (index, generation) or a tie to an object or envelope (place, generation). Zero is "free, no
//! pages", so that fresh memory needs no initialising.

use crate::reference::{BlockName, Reference, UNIT};

/// Free, its pages given back (or never there).
pub(crate) const FREE_COLD: u64 = 0;
/// Free, its pages kept.
pub(crate) const FREE_WARM: u64 = 1;
/// Travels through the kernel; a byte-range lock on the arena says whether it still does.
pub(crate) const IN_KERNEL: u64 = 2;
/// Holds a live object, whose count says when it is free.
pub(crate) const OBJECT: u64 = 3;
const OWNED: u64 = 4;
const OUTGOING: u64 = 5;
const QUEUED: u64 = 6;
const KEPT: u64 = 7;
const PART: u64 = 8;

const TAG: u64 = 0xf;

/// A member as owner words name it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct MemberName {
    pub(crate) index: u16,
    pub(crate) generation: u32,
}

impl MemberName {
    fn bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index) << 16
    }

    fn from_bits(word: u64) -> Self {
        Self {
            index: (word >> 16) as u16,
            generation: (word >> 32) as u32,
        }
    }

    /// One word for a process-local cache.
    pub(crate) fn to_word(self) -> u64 {
        self.bits()
    }

    pub(crate) fn from_word(word: u64) -> Self {
        Self::from_bits(word)
    }
}

/// An owner word, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Free { warm: bool },
    InKernel,
    Object,
    Owned(MemberName),
    Outgoing(MemberName),
    Queued,
    Kept,
    Part,
    Unknown,
}

pub(crate) fn parse(word: u64) -> Owner {
    match word & TAG {
        FREE_COLD => Owner::Free { warm: false },
        FREE_WARM => Owner::Free { warm: true },
        IN_KERNEL => Owner::InKernel,
        OBJECT => Owner::Object,
        OWNED => Owner::Owned(MemberName::from_bits(word)),
        OUTGOING => Owner::Outgoing(MemberName::from_bits(word)),
        QUEUED => Owner::Queued,
        KEPT => Owner::Kept,
        PART => Owner::Part,
        _ => Owner::Unknown,
    }
}

/// Owned by a member, nothing under way or moving in.
pub(crate) fn owned(member: MemberName) -> u64 {
    member.bits() | OWNED
}

/// Owned by a member and about to be committed elsewhere. The sequence number keeps a late settle of
/// one move from hitting the next move of the same place by the same process.
pub(crate) fn outgoing(member: MemberName, sequence: u64) -> u64 {
    member.bits() | (sequence & 0xfff) << 4 | OUTGOING
}

fn tie(offset: u64, generation: u32, tag: u64) -> u64 {
    (offset / UNIT) << 32 | (u64::from(generation) & 0x0fff_ffff) << 4 | tag
}

/// The place that a tie leads to; of its generation only the low 28 bits.
pub(crate) fn tied_to(word: u64) -> Reference {
    Reference {
        offset: (word >> 32) * UNIT,
        generation: (word as u32) >> 4,
    }
}

/// Committed in a queue.
pub(crate) fn queued(object: Reference) -> u64 {
    tie(object.offset, object.generation, QUEUED)
}

/// Part of an object's own structure.
pub(crate) fn kept(object: Reference) -> u64 {
    tie(object.offset, object.generation, KEPT)
}

/// Hangs on an envelope and shares its fate.
pub(crate) fn part(envelope: BlockName) -> u64 {
    tie(envelope.offset, envelope.generation, PART)
}

/// What an extent is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Use {
    Free,
    /// Slots of this pool.
    Slots(usize),
    /// A run of so many extents starts here.
    Run(u64),
    /// Belongs to the run that starts at this extent.
    PartOf(u64),
    Unknown,
}

impl Use {
    pub(crate) fn to_word(self) -> u64 {
        match self {
            Use::Free | Use::Unknown => 0,
            Use::Slots(pool) => (pool as u64) << 8 | 1,
            Use::Run(count) => count << 8 | 2,
            Use::PartOf(start) => start << 8 | 3,
        }
    }

    pub(crate) fn from_word(word: u64) -> Self {
        match (word & 0xff, word >> 8) {
            (0, 0) => Use::Free,
            (1, pool) if pool < crate::layout::POOLS as u64 => Use::Slots(pool as usize),
            (2, count) if count > 0 => Use::Run(count),
            (3, start) => Use::PartOf(start),
            _ => Use::Unknown,
        }
    }
}
