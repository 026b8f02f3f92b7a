#![allow(unsafe_code)]
//! This process's memory in huge pages, where it nearly fills them, and without what it has freed: a fork copies
//! one entry of the page tables for each page, and an exit takes it out again.
//!
//! # Safety invariants
//! - `MADV_COLLAPSE` changes how memory is mapped, never what is in it, whoever reads or writes it meanwhile.
//! - `malloc_trim` gives back only what nobody has allocated, under the allocator's own locks.

use std::ffi::c_void;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Linux 6.1 and newer; older ones do not know it, and say so.
const COLLAPSE: i32 = 25;
const HUGE: usize = 2 << 20;
const PAGE: usize = 4096;
/// As many pages of a huge one must be there already: the others are made, and take memory.
const FILLED: usize = HUGE / PAGE / 8 * 7;
/// The kernel's mark of a page that is there.
const PRESENT: u64 = 1 << 63;

/// Gathers what memory of its own this process has into huge pages, as far as there are any. Says how
/// many bytes lie in them; none where the kernel cannot do it, or procfs does not tell.
#[must_use]
pub fn gather() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps");
    let (Ok(maps), Ok(pages)) = (maps, File::open("/proc/self/pagemap")) else {
        return 0;
    };
    if rustix::param::page_size() != PAGE {
        return 0;
    }
    maps.lines()
        .filter_map(own_memory)
        .flat_map(|(start, end)| (start..end).step_by(HUGE))
        .filter(|address| is_filled(&pages, *address) && collapse(*address))
        .count()
        * HUGE
}

/// A process with more memory than this is not searched for what it has freed: that takes longer than a fork.
const SEARCHED: u64 = 64 << 20;

/// Gives the kernel back what was freed and lies between what is in use: loading modules leaves a third of a small
/// process's heap so.
pub fn give_back_freed() {
    #[cfg(target_env = "gnu")]
    if resident().is_some_and(|bytes| bytes <= SEARCHED) {
        // SAFETY: by the module's invariant.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(target_env = "gnu")]
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The whole huge pages of a mapping, if it is private, writable, and of no file or stack.
fn own_memory(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let private = fields.next()? == "rw-p";
    let name = fields.nth(3).unwrap_or_default();
    if !private || !(name.is_empty() || name == "[heap]" || name.starts_with("[anon")) {
        return None;
    }
    let start = usize::from_str_radix(start, 16)
        .ok()?
        .next_multiple_of(HUGE);
    let end = usize::from_str_radix(end, 16).ok()? / HUGE * HUGE;
    (start < end).then_some((start, end))
}

fn is_filled(pages: &File, address: usize) -> bool {
    let mut entries = [0; HUGE / PAGE * 8];
    let at = (address / PAGE * 8) as u64;
    pages.read_exact_at(&mut entries, at).is_ok()
        && entries
            .chunks_exact(8)
            .filter_map(|entry| Some(u64::from_ne_bytes(entry.try_into().ok()?)))
            .filter(|entry| entry & PRESENT != 0)
            .count()
            >= FILLED
}

fn collapse(address: usize) -> bool {
    let pointer = std::ptr::with_exposed_provenance_mut::<c_void>(address);
    // SAFETY: by the module's invariant; an address where nothing is mapped any more is refused.
    unsafe { libc::madvise(pointer, HUGE, COLLAPSE) == 0 }
}

#[cfg(test)]
mod tests {
    use super::{gather, give_back_freed, own_memory};

    #[test]
    fn only_whole_huge_pages_of_own_memory_count() {
        let wanted = Some((0x20_0000, 0x60_0000));
        assert_eq!(own_memory("1ff000-7ff000 rw-p 00000000 00:00 0"), wanted);
        let heap = "200000-600000 rw-p 00000000 00:00 0    [heap]";
        assert_eq!(own_memory(heap), wanted);
        for other in [
            "200000-600000 r--p 00000000 00:00 0",
            "200000-600000 rw-s 00000000 00:01 7  /memfd:a (deleted)",
            "200000-600000 rw-p 00000000 00:01 7  /lib/a.so",
            "200000-600000 rw-p 00000000 00:00 0    [stack]",
            "201000-3ff000 rw-p 00000000 00:00 0",
            "",
        ] {
            assert_eq!(own_memory(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_in_use_is_not_given_back() {
        let kept: Vec<Vec<u8>> = (0..512).map(|at: usize| vec![at as u8; 8 << 10]).collect();
        let (kept, freed): (Vec<_>, Vec<_>) = kept.into_iter().partition(|it| it[0] % 2 == 0);
        drop(freed);
        give_back_freed();
        assert!(kept.iter().all(|it| it.iter().all(|byte| *byte == it[0])));
    }

    #[test]
    fn memory_is_the_same_in_huge_pages() {
        let bytes: Vec<u8> = (0..8 << 20).map(|at: usize| (at / 4096) as u8).collect();
        let _ = gather();
        assert!(bytes
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == (at / 4096) as u8));
    }
}
