//! Where an object was made: the name by which people recognise it.
//!
//! An object of shared memory has no variable's name. What its maker knows is the place in the program
//! that asked for it, and its own process number; both stand in the object's header, so that an error
//! or an inspection in any process can say them.

use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::sync::OnceLock;

/// Bytes of a file's name that are kept: its end says most.
const FILE: usize = 32;

/// The maker's entry in an object's header.
#[repr(C)]
pub(crate) struct MakerWords {
    pid: AtomicU32,
    line: AtomicU32,
    file: [AtomicU64; FILE / 8],
}

/// Who made an object, and where in its program.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub struct Maker {
    /// The process.
    pub pid: u32,
    /// The end of the source file's path; empty when unknown.
    pub file: String,
    /// The line.
    pub line: u32,
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file.is_empty() {
            write!(f, "of process {}", self.pid)
        } else {
            write!(f, "{}:{} of process {}", self.file, self.line, self.pid)
        }
    }
}

/// Calls what it is given with file and line, if it knows them.
pub type SiteFinder = fn(&mut dyn FnMut(&str, u32));

static FINDER: OnceLock<SiteFinder> = OnceLock::new();

/// Says how to find the place in a program of another language that is making an object now. Asked by
/// every making, on its thread, with nothing held; Rust programs are named by their caller's location.
pub fn set_site_finder(find: SiteFinder) {
    let _ = FINDER.set(find);
}

/// The place that is making something now.
#[derive(Clone, Copy)]
pub(crate) struct Site {
    file: [u8; FILE],
    line: u32,
}

impl Site {
    /// Where the program is; `caller` when nobody knows better.
    pub(crate) fn now(caller: &Location<'_>) -> Self {
        let mut found = None;
        if let Some(find) = FINDER.get() {
            find(&mut |file, line| found = Some(Self::of(file, line)));
        }
        found.unwrap_or_else(|| Self::of(caller.file(), caller.line()))
    }

    fn of(path: &str, line: u32) -> Self {
        let mut file = [0; FILE];
        let end = ending(path);
        file[..end.len()].copy_from_slice(end.as_bytes());
        Self { file, line }
    }
}

/// As much of the end of a path as is kept: whole names where one fits.
fn ending(path: &str) -> &str {
    if path.len() <= FILE {
        return path;
    }
    let mut start = path.len() - FILE;
    while !path.is_char_boundary(start) {
        start += 1;
    }
    let cut = &path[start..];
    match cut.find('/') {
        Some(slash) if slash + 1 < cut.len() => &cut[slash + 1..],
        _ => cut,
    }
}

impl MakerWords {
    pub(crate) fn note(&self, pid: u32, site: &Site) {
        self.pid.store(pid, Relaxed);
        self.line.store(site.line, Relaxed);
        for (word, bytes) in self.file.iter().zip(site.file.chunks_exact(8)) {
            let bytes = bytes.try_into().unwrap_or_default();
            word.store(u64::from_ne_bytes(bytes), Relaxed);
        }
    }

    /// What stands there; shared memory may say anything, so that what is no text is left out.
    pub(crate) fn read(&self) -> Maker {
        let mut bytes = [0; FILE];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(&self.file) {
            chunk.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
        }
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(FILE);
        let text = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
        let file = text.chars().filter(|letter| !letter.is_control()).collect();
        Maker {
            pid: self.pid.load(Relaxed),
            file,
            line: self.line.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_path_is_whole_names_where_they_fit() {
        assert_eq!(ending("short.py"), "short.py");
        let long = "/srv/someone/projects/thing/src/package/module.py";
        assert_eq!(ending(long), "thing/src/package/module.py");
        let name = "a_module_whose_name_alone_is_longer_than_that.py";
        assert_eq!(ending(name), &name[name.len() - FILE..]);
        let accents = "é".repeat(40);
        assert_eq!(ending(&accents), "é".repeat(16));
    }

    #[test]
    fn what_is_no_text_is_left_out() {
        let words = MakerWords {
            pid: AtomicU32::new(7),
            line: AtomicU32::new(3),
            file: std::array::from_fn(|_| AtomicU64::new(u64::MAX)),
        };
        assert_eq!(words.read().file, "");
        words.note(8, &Site::of("x/y.py", 41));
        assert_eq!(words.read().to_string(), "x/y.py:41 of process 8");
    }
}
