//! A process that runs out of descriptors; a thread that has one processor.
//!
//! # Safety invariants
//! Limits and sets of processors are read into and set from local structures.
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

/// Runs `body` with this thread bound to one of the processors it may use.
///
/// # Panics
/// When the affinity cannot be read or set.
pub fn with_one_processor<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: a bit set; all-zero is the empty one.
    let mut before: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes to a local of the size given.
    let read = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut before) };
    assert_eq!(read, 0, "the affinity can be read");
    // SAFETY: looks at a local; the index is within the set.
    let is_in = |&index: &usize| unsafe { libc::CPU_ISSET(index, &before) };
    let first = (0..libc::CPU_SETSIZE as usize).find(is_in);
    // SAFETY: as above.
    let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: changes a local; the index is within the set.
    unsafe { libc::CPU_SET(first.expect("a thread has a processor"), &mut one) };
    bind(&one);
    let result = body();
    bind(&before);
    result
}

fn bind(set: &libc::cpu_set_t) {
    // SAFETY: reads a structure of the size given.
    let done = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
    assert_eq!(done, 0, "the affinity can be set");
}
