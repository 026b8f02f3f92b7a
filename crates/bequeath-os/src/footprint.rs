#![allow(unsafe_code)]
//! Which pages of its memory a process has used, and to use them ahead of time in its sibling: a child copies a
//! page of its parent's when it first writes to it, and maps a library's page when it first reads it. Both take
//! longer than most of what is done with the page.
//!
//! # Safety invariants
//! - `MADV_POPULATE_READ` and `_WRITE` change which pages are there, never what is in them.
//! - A [`Record`]'s mapping lives as long as the record, and is only accessed as `AtomicU64`s.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr::with_exposed_provenance_mut;
use std::sync::atomic::{AtomicU64, Ordering::*};

use rustix::mm::{self, Advice};

use crate::errno::Result;
use crate::mapping::Mapping;

const PAGE: usize = 4096;
/// What `pagemap` says of a page: it is there, a file has it, nobody else has it.
const PRESENT: u64 = 1 << 63;
const OF_FILE: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;

/// A longer mapping is address space that was set aside, as other languages' runtimes and sanitizers do, terabytes of
/// it: to ask after each of its pages would take for ever.
const LONGEST: usize = 1 << 30;

/// Pages in a row of one mapping, all of them read or all of them written.
///
/// The number of the first page, 15 bits of their count, and whether they were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span(u64);

impl Span {
    const MOST: usize = (1 << 15) - 1;

    fn new(page: usize, pages: usize, written: bool) -> Self {
        Self((page as u64) << 16 | (pages as u64) << 1 | u64::from(written))
    }

    /// How many pages.
    #[must_use]
    pub const fn pages(self) -> usize {
        (self.0 >> 1) as usize & Self::MOST
    }

    const fn is_written(self) -> bool {
        self.0 & 1 != 0
    }

    const fn start(self) -> usize {
        (self.0 >> 16) as usize * PAGE
    }

    /// The same in pieces of at most so many pages.
    pub fn in_pieces(self, most: usize) -> impl Iterator<Item = Self> {
        let first = self.start() / PAGE;
        (0..self.pages())
            .step_by(most)
            .map(move |at| Self::new(first + at, most.min(self.pages() - at), self.is_written()))
    }

    /// Has these pages there, as their use would. Says whether that was possible: not where nothing is mapped any
    /// more, nor before Linux 5.14.
    pub fn populate(self) -> bool {
        let advice = if self.is_written() {
            Advice::LinuxPopulateWrite
        } else {
            Advice::LinuxPopulateRead
        };
        let address = with_exposed_provenance_mut(self.start());
        // SAFETY: by the module's invariant; addresses where nothing is mapped are refused.
        unsafe { mm::madvise(address, self.pages() * PAGE, advice) }.is_ok()
    }
}

/// A private mapping of this process.
struct Private {
    start: usize,
    end: usize,
    writable: bool,
}

/// What this process has used of its private memory: written as its own, or read from a file. Empty where procfs
/// does not tell.
#[must_use]
pub fn own() -> Vec<Span> {
    let Ok(pages) = File::open("/proc/self/pagemap") else {
        return Vec::new();
    };
    if rustix::param::page_size() != PAGE {
        return Vec::new();
    }
    private_mappings()
        .iter()
        .filter(|mapping| mapping.end - mapping.start <= LONGEST)
        .flat_map(|mapping| used_of(mapping, &pages))
        .collect()
}

/// Those spans that lie in memory which this process has, too, and as what they were there.
#[must_use]
pub fn within_own_memory(spans: &[Span]) -> Vec<Span> {
    let mappings = private_mappings();
    let fits = |span: &&Span| {
        let end = span.start() + span.pages() * PAGE;
        mappings.iter().any(|mapping| {
            mapping.start <= span.start()
                && end <= mapping.end
                && mapping.writable == span.is_written()
        })
    };
    spans.iter().filter(fits).copied().collect()
}

fn private_mappings() -> Vec<Private> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(private_mapping).collect()
}

fn private_mapping(line: &str) -> Option<Private> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let access = fields.next()?.as_bytes();
    // Not what the kernel keeps there ("[vvar]"), but for the stack and the heap.
    let name = fields.nth(3).unwrap_or_default();
    if access.first() != Some(&b'r') || access.get(3) != Some(&b'p') || name.starts_with("[v") {
        return None;
    }
    Some(Private {
        start: usize::from_str_radix(start, 16).ok()?,
        end: usize::from_str_radix(end, 16).ok()?,
        writable: access.get(1) == Some(&b'w'),
    })
}

fn used_of(mapping: &Private, pages: &File) -> Vec<Span> {
    let first = mapping.start / PAGE;
    let count = (mapping.end - mapping.start) / PAGE;
    let mut spans = Vec::new();
    let (mut since, mut at) = (None, 0);
    let mut entries = [0; 512 * 8];
    while at < count {
        let wanted = (count - at).min(512);
        let place = ((first + at) * 8) as u64;
        if pages
            .read_exact_at(&mut entries[..wanted * 8], place)
            .is_err()
        {
            break;
        }
        for entry in entries[..wanted * 8].chunks_exact(8) {
            let entry = <[u8; 8]>::try_from(entry).map_or(0, u64::from_ne_bytes);
            let used = if mapping.writable {
                entry & (PRESENT | OF_FILE | EXCLUSIVE) == PRESENT | EXCLUSIVE
            } else {
                entry & (PRESENT | OF_FILE) == PRESENT | OF_FILE
            };
            match (used, since) {
                (true, None) => since = Some(at),
                (true, Some(begin)) if at - begin == Span::MOST => {
                    spans.push(Span::new(first + begin, at - begin, mapping.writable));
                    since = Some(at);
                }
                (false, Some(begin)) => {
                    spans.push(Span::new(first + begin, at - begin, mapping.writable));
                    since = None;
                }
                _ => {}
            }
            at += 1;
        }
    }
    if let Some(begin) = since {
        spans.push(Span::new(first + begin, at - begin, mapping.writable));
    }
    spans
}

/// Where a child tells its parent, which forked it after this was made, what it has used.
#[derive(Debug)]
pub struct Record(Mapping);

const WANTED: u64 = 0;
const WRITTEN: u64 = 1;
/// With the number of who is writing above it.
const BEING_WRITTEN: u64 = 2;
/// The state and the number of spans come first.
const HEAD: usize = 2;
/// A child that has used more pieces than fit is no example for others.
const MOST_SPANS: usize = 2 * PAGE / 8 - HEAD;

impl Record {
    /// Empty, and wanted.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new() -> Result<Self> {
        Ok(Self(Mapping::anonymous(2 * PAGE, true)?))
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index < HEAD + MOST_SPANS);
        // SAFETY: the index is below the mapping's length in words; every caller has checked it.
        let place = unsafe { self.0.as_ptr().cast::<u64>().add(index) };
        // SAFETY: mapped, aligned, and only ever accessed as an atomic; it lives as long as `self`.
        unsafe { AtomicU64::from_ptr(place) }
    }

    /// In the child: tells what it has used, if nobody else has.
    pub fn fill(&self) {
        let state = self.word(0);
        if state.load(Relaxed) != WANTED
            || state
                .compare_exchange(WANTED, written_by(std::process::id()), AcqRel, Relaxed)
                .is_err()
        {
            return;
        }
        let spans = own();
        let spans = if spans.len() > MOST_SPANS {
            &[][..]
        } else {
            &spans
        };
        for (index, span) in spans.iter().enumerate() {
            self.word(HEAD + index).store(span.0, Relaxed);
        }
        self.word(1).store(spans.len() as u64, Relaxed);
        state.store(WRITTEN, Release);
    }

    /// In the parent: what a child told, once. It may be nonsense: [`within_own_memory`] tells what could be.
    #[must_use]
    pub fn take(&self) -> Option<Vec<Span>> {
        let state = self.word(0);
        if state.load(Acquire) != WRITTEN {
            return None;
        }
        let count = usize::try_from(self.word(1).load(Relaxed)).ok()?;
        let spans =
            (0..count.min(MOST_SPANS)).map(|index| Span(self.word(HEAD + index).load(Relaxed)));
        Some(spans.collect())
    }

    /// In the parent: this child has ended. If it was about to tell, the next one may.
    pub fn has_ended(&self, child: u32) {
        let _ = self
            .word(0)
            .compare_exchange(written_by(child), WANTED, AcqRel, Relaxed);
    }

    /// In the parent: the next child shall tell anew.
    pub fn ask_again(&self) {
        self.word(0).store(WANTED, Release);
    }
}

fn written_by(child: u32) -> u64 {
    u64::from(child) << 2 | BEING_WRITTEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_the_footprint_and_can_be_made_ahead() {
        let memory = Mapping::anonymous(8 * PAGE, false).unwrap();
        let first = memory.as_ptr() as usize / PAGE;
        let place = memory.as_ptr();
        for page in [2, 3, 6] {
            // SAFETY: inside the mapping.
            let byte = unsafe { place.add(page * PAGE) };
            // SAFETY: mapped, and this test's own.
            unsafe { byte.write_volatile(1) };
        }
        let here = |span: &Span| (first..first + 8).contains(&(span.start() / PAGE));
        let found: Vec<Span> = own().into_iter().filter(here).collect();
        let wanted = vec![Span::new(first + 2, 2, true), Span::new(first + 6, 1, true)];
        assert_eq!(found, wanted);

        let more = Span::new(first + 4, 1, true);
        let too_far = Span::new(first, 1 << 14, true);
        let as_read = Span::new(first, 1, false);
        assert_eq!(within_own_memory(&[more, too_far, as_read]), vec![more]);
        let pieces: Vec<Span> = wanted[0].in_pieces(1).collect();
        assert_eq!(pieces, [2, 3].map(|page| Span::new(first + page, 1, true)));
        if more.populate() {
            let found: Vec<Span> = own().into_iter().filter(here).collect();
            assert_eq!(found[0], Span::new(first + 2, 3, true));
        }
        drop(memory);
        assert!(!more.populate());
    }

    #[test]
    fn address_space_that_was_set_aside_is_not_gone_through() {
        let aside = Mapping::anonymous(LONGEST + PAGE, false).unwrap();
        // SAFETY: mapped, and this test's own.
        unsafe { aside.as_ptr().write_volatile(1) };
        let first = aside.as_ptr() as usize / PAGE;
        assert!(own().iter().all(|span| span.start() / PAGE != first));
    }

    #[test]
    fn a_record_is_told_once_and_taken_when_it_is_whole() {
        let record = Record::new().unwrap();
        assert!(record.take().is_none());
        record.fill();
        let told = record.take().unwrap();
        assert!(told.iter().map(|span| span.pages()).sum::<usize>() > 10);
        record.word(1).store(u64::MAX, Relaxed);
        assert_eq!(record.take().unwrap().len(), MOST_SPANS);
        record.ask_again();
        assert!(record.take().is_none());

        // Who is killed while it tells keeps nobody else from it.
        record.word(0).store(written_by(7), Relaxed);
        record.has_ended(8);
        record.fill();
        assert!(record.take().is_none());
        record.has_ended(7);
        record.fill();
        assert!(record.take().is_some());
    }
}
