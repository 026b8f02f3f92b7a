//! Names of objects and blocks: a place in the arena and a generation, never a pointer.
//!
//! Places are multiples of [`UNIT`], so that place and generation fit one 64-bit word, which is
//! what records, slots and tables store.

use std::fmt;

/// Every object and block starts at a multiple of this many bytes.
pub const UNIT: u64 = 256;

/// Names one shared object: stale or forged values are refused when they are opened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Reference {
    /// Bytes from the arena's start; a multiple of [`UNIT`].
    pub offset: u64,
    /// How often this place was used before.
    pub generation: u32,
}

impl Reference {
    /// The word that stands for this reference in shared memory and messages; never 0.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        packed(self.offset, self.generation)
    }

    /// The inverse of [`Reference::to_bits`]; `None` for what no reference has.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        unpacked(bits).map(|(offset, generation)| Self { offset, generation })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {:#x}.{}", self.offset, self.generation)
    }
}

/// Names one block (or envelope) while it is in a queue, a chain or a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BlockName {
    /// Bytes from the arena's start; a multiple of [`UNIT`].
    pub offset: u64,
    /// How often this place was used before.
    pub generation: u32,
}

impl BlockName {
    /// The word that stands for this name in a record; never 0.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        packed(self.offset, self.generation)
    }

    /// The inverse of [`BlockName::to_bits`]; `None` for what no name has.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        unpacked(bits).map(|(offset, generation)| Self { offset, generation })
    }

    /// The same place, as errors print it.
    #[must_use]
    pub(crate) fn as_reference(self) -> Reference {
        Reference {
            offset: self.offset,
            generation: self.generation,
        }
    }
}

fn packed(offset: u64, generation: u32) -> u64 {
    (offset / UNIT) << 32 | u64::from(generation)
}

fn unpacked(bits: u64) -> Option<(u64, u32)> {
    let offset = (bits >> 32) * UNIT;
    (offset != 0).then_some((offset, bits as u32))
}
