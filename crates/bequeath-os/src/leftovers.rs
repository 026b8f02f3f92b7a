#![allow(unsafe_code)]
//! What a process has running or open beside its memory: what a fork would copy wrongly, or lose.
//!
//! # Safety invariants
//! The raw calls only ask, into structures that are whole.

use std::os::fd::RawFd;
use std::path::Path;

use crate::attributes::file_identity;

/// How many threads this process has; 1 where procfs does not tell.
#[must_use]
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// The open descriptors, each with device and inode of its file, sorted.
#[must_use]
pub fn descriptors() -> Vec<(RawFd, u64, u64)> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let numbers: Vec<RawFd> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let mut open: Vec<(RawFd, u64, u64)> = numbers
        .into_iter()
        .filter_map(|fd| {
            // The folder's own descriptor is gone by now.
            let path = format!("/proc/self/fd/{fd}");
            let (device, inode) = file_identity(Path::new(&path)).ok()?;
            Some((fd, device, inode))
        })
        .collect();
    open.sort_unstable();
    open
}

/// Whether this process has children, running or not yet waited for.
#[must_use]
pub fn has_children() -> bool {
    // SAFETY: all zeros is a valid structure to be filled in.
    let mut status: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: asks without reaping.
    unsafe { libc::waitid(libc::P_ALL, 0, &raw mut status, options) == 0 }
}

/// Whether an interval timer runs, or a timer of `timer_create` exists.
#[must_use]
pub fn has_timers() -> bool {
    let kinds = [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF];
    let running = kinds.into_iter().any(|kind| {
        // SAFETY: all zeros is a valid structure to be filled in.
        let mut timer: libc::itimerval = unsafe { std::mem::zeroed() };
        // SAFETY: asks.
        unsafe { libc::getitimer(kind, &raw mut timer) };
        timer.it_value.tv_sec != 0 || timer.it_value.tv_usec != 0
    });
    running || std::fs::read("/proc/self/timers").is_ok_and(|timers| !timers.is_empty())
}
