#![allow(unsafe_code)]
//! The program's own code as it is loaded: where a function may lie, and which build it is.
//!
//! A function can be named to another copy of the same program by its distance from a fixed
//! symbol. That is safe only if the copy is the same build and the place is code of the same
//! loaded object, which is what an [`Image`] tells.
//!
//! # Safety invariants
//! - The loader's list is read only inside `dl_iterate_phdr`, which holds the loader's lock.
//! - Bytes are read only from segments that the loader mapped readable and not writable, of an
//!   object that contains the caller's address, so it is not unloaded while the caller runs.

use std::ffi::{c_int, c_void};
use std::ops::Range;

/// One loaded object: the program itself, or a shared library.
///
/// # After fork
/// The same in the child.
///
/// # If a peer dies
/// Nothing is shared.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Image {
    executable: Vec<Range<usize>>,
    constant: Vec<Range<usize>>,
    notes: Vec<Note>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    range: Range<usize>,
    align: usize,
}

struct Search {
    address: usize,
    found: Option<Image>,
}

const BUILD_ID: u32 = 3; // NT_GNU_BUILD_ID
const OWNER: &[u8] = b"GNU\0";

impl Image {
    /// The loaded object that `address` lies in.
    #[must_use]
    pub fn containing(address: usize) -> Option<Self> {
        let mut search = Search {
            address,
            found: None,
        };
        let data = (&raw mut search).cast::<c_void>();
        // SAFETY: `look` has the signature that is asked for, and `data` is the `Search` it expects,
        // alive during the call.
        unsafe { libc::dl_iterate_phdr(Some(look), data) };
        search.found
    }

    /// Whether `address` lies in this object's code.
    #[must_use]
    pub fn is_code(&self, address: usize) -> bool {
        self.executable.iter().any(|range| range.contains(&address))
    }

    /// What tells this build from any other: the linker's build id, or where the linker wrote none,
    /// a digest of everything in the object that is loaded unchanged.
    #[must_use]
    pub fn identity(&self) -> Vec<u8> {
        self.build_id().unwrap_or_else(|| self.digest())
    }

    /// The build id that the linker wrote, if it did.
    #[must_use]
    pub fn build_id(&self) -> Option<Vec<u8>> {
        self.notes.iter().find_map(|note| {
            let inside = |range: &&Range<usize>| {
                range.start <= note.range.start && note.range.end <= range.end
            };
            self.constant.iter().find(inside)?;
            build_id_in(bytes(&note.range), note.align)
        })
    }

    /// FNV-1a over the words of all constant segments, with their lengths.
    fn digest(&self) -> Vec<u8> {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add =
            |word: u64| hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        for range in &self.constant {
            add(range.len() as u64);
            for piece in bytes(range).chunks(8) {
                let mut word = [0; 8];
                word[..piece.len()].copy_from_slice(piece);
                add(u64::from_ne_bytes(word));
            }
        }
        [b"digest:".as_slice(), &hash.to_be_bytes()].concat()
    }
}

/// The bytes of a constant segment, or of a piece of one.
fn bytes(range: &Range<usize>) -> &'static [u8] {
    let first = std::ptr::with_exposed_provenance::<u8>(range.start);
    // SAFETY: by the module's invariants the range is mapped, readable, unchanging, and stays.
    unsafe { std::slice::from_raw_parts(first, range.len()) }
}

/// Walks the notes of one segment: three words (name length, content length, type), name, content,
/// each padded to the segment's alignment.
fn build_id_in(mut notes: &[u8], align: usize) -> Option<Vec<u8>> {
    let align = if align == 8 { 8 } else { 4 };
    loop {
        let word = |at: usize| Some(u32::from_ne_bytes(notes.get(at..at + 4)?.try_into().ok()?));
        let (name_len, len, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let start = 12_usize
            .checked_add(name_len)?
            .checked_next_multiple_of(align)?;
        let end = start.checked_add(len)?;
        let content = notes.get(start..end)?;
        if kind == BUILD_ID && notes.get(12..12 + name_len)? == OWNER && !content.is_empty() {
            return Some(content.to_vec());
        }
        notes = notes.get(end.checked_next_multiple_of(align)?..)?;
    }
}

unsafe extern "C" fn look(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
    // SAFETY: the loader passes a valid description of one object.
    let info = unsafe { &*info };
    // SAFETY: the pointer is the `Search` that `containing` gave along.
    let search = unsafe { &mut *data.cast::<Search>() };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: address and number of this object's program headers, from the same description.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let mut image = Image::default();
    let mut contains = false;
    for header in headers {
        let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
        let Some(end) = start.checked_add(header.p_memsz as usize) else {
            continue;
        };
        let range = start..end;
        match header.p_type {
            libc::PT_LOAD => {
                contains |= range.contains(&search.address);
                if header.p_flags & libc::PF_X != 0 {
                    image.executable.push(range.clone());
                }
                if header.p_flags & (libc::PF_W | libc::PF_R) == libc::PF_R {
                    image.constant.push(range);
                }
            }
            libc::PT_NOTE => image.notes.push(Note {
                range,
                align: header.p_align as usize,
            }),
            _ => {}
        }
    }
    if contains {
        search.found = Some(image);
    }
    c_int::from(contains)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somewhere() -> usize {
        somewhere as fn() -> usize as usize
    }

    #[test]
    fn a_function_lies_in_the_code_of_its_own_image_and_a_variable_does_not() {
        let image = Image::containing(somewhere()).expect("this program is loaded");
        let local = 0_u8;
        assert!(image.is_code(somewhere()));
        assert!(!image.is_code(&raw const local as usize));
        assert!(!image.is_code(0));
    }

    #[test]
    fn no_image_contains_the_stack() {
        let local = 0_u8;
        assert_eq!(Image::containing(&raw const local as usize), None);
    }

    #[test]
    fn the_identity_is_the_same_each_time_with_or_without_a_build_id() {
        let mut image = Image::containing(somewhere()).expect("this program is loaded");
        assert_eq!(image.identity(), image.identity());
        image.notes.clear();
        assert_eq!(image.build_id(), None);
        assert_eq!(image.identity(), image.digest());
        assert_eq!(image.digest().len(), 15);
    }

    #[test]
    fn lying_notes_are_refused() {
        let mut note = Vec::new();
        for word in [4_u32, 2, BUILD_ID] {
            note.extend(word.to_ne_bytes());
        }
        note.extend(OWNER);
        note.extend([7, 8]);
        assert_eq!(build_id_in(&note, 4), Some(vec![7, 8]));
        assert_eq!(build_id_in(&note[..note.len() - 1], 4), None);
        note[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(build_id_in(&note, 4), None);
        assert_eq!(build_id_in(&[], 4), None);
    }
}
