#![allow(unsafe_code)]
//! A segment: 64 KiB of the arena (less in a small one) with records of one queue, and the name of the next segment.
//!
//! ```text
//! 0..8   name of the next segment (true once the tail has left this one)
//! 8..16  unused
//! 16..   records
//! ```
//! # Safety invariants
//! * [`Segment::at`] is given memory by `Block::peek`, which maps it for as long as the session lives in this process and vouches for the length.
//! * Every access is checked against that length first; words are atomics, payload is copied as raw bytes, no slice is made.

use bequeath_shm::{Block, BlockName, Session};
use bequeath_sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Most bytes of a segment.
pub(crate) const LONGEST_SEGMENT: usize = 65_536;
/// Where the first record is.
pub(crate) const FIRST: usize = 16;

/// The memory of one segment.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    memory: *mut u8,
    len: usize,
}

/// Bytes of each segment in a session: the same for all its processes.
pub(crate) fn segment_bytes(session: &Session) -> usize {
    session.largest_slot().min(LONGEST_SEGMENT)
}

impl Segment {
    /// The segment of this name.
    pub(crate) fn at(session: &Session, name: BlockName) -> Result<Self> {
        let (memory, capacity) = Block::peek(session, name)?;
        Self::new(memory, capacity, segment_bytes(session))
    }

    /// A fresh segment in a block that this process owns.
    pub(crate) fn in_block(block: &Block) -> Result<Self> {
        Self::new(
            block.as_ptr(),
            block.capacity(),
            segment_bytes(block.session()),
        )
    }

    fn new(memory: *mut u8, capacity: usize, len: usize) -> Result<Self> {
        if capacity < len || memory as usize % 16 != 0 {
            return Err(Error::Corrupted("a segment is too small"));
        }
        Ok(Self { memory, len })
    }

    /// Its bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn word(&self, at: usize) -> Result<&AtomicU64> {
        if at % 8 != 0 || at.saturating_add(8) > self.len {
            return Err(Error::Corrupted("a word outside its segment"));
        }
        // SAFETY: within the segment, as just checked.
        let word = unsafe { self.memory.add(at) };
        // SAFETY: 8-aligned since memory is 16-aligned; mapped while the session lives; atomics may be shared.
        Ok(unsafe { AtomicU64::from_ptr(word.cast()) })
    }

    pub(crate) fn next(&self) -> Result<u64> {
        Ok(self.word(0)?.load(Ordering::Relaxed))
    }

    pub(crate) fn set_next(&self, name: u64) -> Result<()> {
        self.word(0)?.store(name, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn words(&self, at: usize) -> Result<[u64; 2]> {
        Ok([
            self.word(at)?.load(Ordering::Relaxed),
            self.word(at + 8)?.load(Ordering::Relaxed),
        ])
    }

    pub(crate) fn set_words(&self, at: usize, words: [u64; 2]) -> Result<()> {
        self.word(at)?.store(words[0], Ordering::Relaxed);
        self.word(at + 8)?.store(words[1], Ordering::Relaxed);
        Ok(())
    }

    /// Copies a payload in.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        if at.checked_add(bytes.len()).is_none_or(|end| end > self.len) {
            return Err(Error::Corrupted("a payload outside its segment"));
        }
        // SAFETY: within the segment, as just checked.
        let into = unsafe { self.memory.add(at) };
        // SAFETY: `into` has room as checked; the source is a slice of this process, never the segment itself.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), into, bytes.len()) };
        Ok(())
    }

    /// Copies a payload of `len` bytes out, replacing the content of `into`. Allocates nothing where `into` has the capacity.
    pub(crate) fn read(&self, at: usize, len: usize, into: &mut Vec<u8>) -> Result<()> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::Corrupted("a payload outside its segment"));
        }
        into.clear();
        into.reserve(len);
        // SAFETY: within the segment, as just checked.
        let from = unsafe { self.memory.add(at) };
        // SAFETY: `from` has `len` bytes as checked, `into` has just reserved them; they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), len) };
        // SAFETY: `len` bytes were written and reserved.
        unsafe { into.set_len(len) };
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LENGTH: usize = 256;

    /// Nothing beside the segment may have changed afterwards.
    fn with_segment(act: impl FnOnce(Segment)) {
        #[repr(align(16))]
        struct Room([u64; LENGTH / 8 + 4]);
        let mut room = Room([7; LENGTH / 8 + 4]);
        // SAFETY: two words inside of the array.
        let memory = unsafe { room.0.as_mut_ptr().add(2) };
        act(Segment::new(memory.cast(), LENGTH, LENGTH).unwrap());
        assert_eq!(&room.0[..2], [7; 2]);
        assert_eq!(&room.0[LENGTH / 8 + 2..], [7; 2]);
    }

    #[test]
    fn what_is_written_is_read_up_to_the_last_byte() {
        with_segment(|segment| {
            let mut found = Vec::new();
            for len in [0, 1, 15, 16, LENGTH - FIRST] {
                let payload: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
                let at = LENGTH - len;
                segment.write(at, &payload).unwrap();
                segment.read(at, len, &mut found).unwrap();
                assert_eq!(found, payload);
            }
            segment.set_next(u64::MAX).unwrap();
            assert_eq!(segment.next().unwrap(), u64::MAX);
            segment.set_words(LENGTH - 16, [1, 2]).unwrap();
            assert_eq!(segment.words(LENGTH - 16).unwrap(), [1, 2]);
        });
    }

    #[test]
    fn nothing_outside_is_read_or_written() {
        with_segment(|segment| {
            let mut found = Vec::new();
            for (at, len) in [
                (LENGTH, 1),
                (LENGTH - 15, 16),
                (usize::MAX, 2),
                (16, usize::MAX),
            ] {
                assert!(segment.read(at, len, &mut found).is_err());
            }
            for at in [LENGTH, LENGTH - 15, usize::MAX] {
                assert!(segment.write(at, &[1; 16]).is_err());
            }
            for at in [LENGTH, LENGTH - 8, 12, usize::MAX - 7, usize::MAX] {
                assert!(segment.words(at).is_err(), "{at}");
                assert!(segment.set_words(at, [1, 2]).is_err(), "{at}");
            }
        });
        let words = [0_u64; 4];
        let memory = words.as_ptr().cast_mut().cast();
        assert!(Segment::new(memory, 16, 32).is_err());
    }
}
