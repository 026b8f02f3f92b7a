//! A process that runs out of descriptors.
//!
//! # Safety invariants
//! The limit is read into and set from a local structure.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

/// Runs `body` with room for exactly `free` more descriptors in this process.
///
/// # Panics
/// When the limit cannot be set.
pub fn with_descriptors_left<T>(free: usize, body: impl FnOnce() -> T) -> T {
    let open = || File::open("/dev/null");
    let highest = open().expect("a descriptor").as_raw_fd();
    let mut before = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: writes to a local.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut before) };
    assert_eq!(read, 0);
    let lower = libc::rlimit {
        rlim_cur: highest as u64 + 16,
        ..before
    };
    set(&lower);
    let mut taken: Vec<File> = std::iter::from_fn(|| open().ok()).collect();
    taken.truncate(taken.len().saturating_sub(free));
    let result = body();
    drop(taken);
    set(&before);
    result
}

fn set(limit: &libc::rlimit) {
    // SAFETY: reads a local.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) };
    assert_eq!(done, 0, "the limit of descriptors can be set");
}
