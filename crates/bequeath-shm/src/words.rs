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
/// The same where no lock can say so, for lack of procfs: kept until it arrives or the session ends.
pub(crate) const IN_KERNEL_UNSEEN: u64 = IN_KERNEL | 1 << 4;
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
    /// Slots of this pool; so many are usable.
    Slots {
        pool: usize,
        watermark: u32,
    },
    /// The same while somebody looks whether all are free, to give the extent back: none is taken.
    Emptying {
        pool: usize,
        watermark: u32,
    },
    /// A run of so many extents starts here.
    Run(u64),
    /// The same while somebody looks whether it is free, to give it back: it is not taken.
    Dissolving(u64),
    /// Belongs to the run that starts at this extent.
    PartOf(u64),
    Unknown,
}

/// Bits 0..7 what, 8..15 pool, 16..39 watermark, count or start, 40..63 how often the use changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct UseWord(pub(crate) u64);

impl UseWord {
    const NUMBER: u64 = 0xff_ffff;

    pub(crate) fn parse(self) -> Use {
        let (what, pool) = (self.0 & 0xff, (self.0 >> 8 & 0xff) as usize);
        let number = self.0 >> 16 & Self::NUMBER;
        let watermark = number as u32;
        match what {
            0 => Use::Free,
            1 if pool < crate::layout::POOLS => Use::Slots { pool, watermark },
            2 if number > 0 => Use::Run(number),
            3 => Use::PartOf(number),
            4 if pool < crate::layout::POOLS => Use::Emptying { pool, watermark },
            5 if number > 0 => Use::Dissolving(number),
            _ => Use::Unknown,
        }
    }

    /// The word for another use; coming free begins another age of the extent.
    pub(crate) fn with(self, what: Use) -> Self {
        let (tag, pool, number) = match what {
            Use::Free | Use::Unknown => (0, 0, 0),
            Use::Slots { pool, watermark } => (1, pool, u64::from(watermark)),
            Use::Run(count) => (2, 0, count),
            Use::PartOf(start) => (3, 0, start),
            Use::Emptying { pool, watermark } => (4, pool, u64::from(watermark)),
            Use::Dissolving(count) => (5, 0, count),
        };
        let age = (self.0 >> 40) + u64::from(tag == 0);
        Self(tag | (pool as u64) << 8 | (number & Self::NUMBER) << 16 | age << 40)
    }

    /// What stays the same as long as the places in the extent are the same.
    pub(crate) fn stamp(self) -> u64 {
        let age = self.0 & !(Self::NUMBER << 16 | 0xffff);
        match self.parse() {
            Use::Slots { pool, .. } | Use::Emptying { pool, .. } => age | (pool as u64) << 8 | 1,
            Use::Run(count) | Use::Dissolving(count) => age | count << 16 | 2,
            _ => age,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_read_as_it_was_written_and_each_age_has_its_stamp() {
        let fresh = UseWord(0);
        let slots = fresh.with(Use::Slots {
            pool: 17,
            watermark: 16_384,
        });
        assert_eq!(
            slots.parse(),
            Use::Slots {
                pool: 17,
                watermark: 16_384
            }
        );
        let emptying = slots.with(Use::Emptying {
            pool: 17,
            watermark: 16_384,
        });
        assert_eq!(emptying.stamp(), slots.stamp());
        let again = emptying.with(Use::Free).with(Use::Slots {
            pool: 17,
            watermark: 0,
        });
        assert_ne!(again.stamp(), slots.stamp());
        assert_eq!(fresh.with(Use::Run(1 << 18)).parse(), Use::Run(1 << 18));
        let mut old = UseWord(u64::MAX << 40);
        old = old.with(Use::Free);
        assert_eq!(old, fresh, "ages wrap");
    }
}
