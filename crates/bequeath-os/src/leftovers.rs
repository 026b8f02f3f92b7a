#![allow(unsafe_code)]
//! What a process has running or open beside its memory: what a fork would copy wrongly, or lose.
//!
//! # Safety invariants
//! The raw calls only ask, into structures that are whole; the child of [`run_fork_handlers`] only exits.

use std::os::fd::RawFd;
use std::path::Path;

use crate::attributes::file_identity;
use crate::errno::{last, Result};

/// The threads of this process beside its first, each with its name; none where procfs does not tell.
#[must_use]
pub fn threads() -> Vec<(u32, String)> {
    let Ok(entries) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut threads: Vec<(u32, String)> = numbers
        .filter(|thread| *thread != std::process::id())
        .filter_map(|thread| {
            // One that has ended since is none.
            let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm")).ok()?;
            Some((thread, name.trim_end().to_owned()))
        })
        .collect();
    threads.sort_unstable();
    threads
}

/// Whether a descriptor is of a shared library that is loaded: libffi keeps its own file open, to map
/// its trampolines from. Any process that loads the library has such a descriptor.
#[must_use]
pub fn is_loaded_library(number: RawFd) -> bool {
    let name = name_of(number);
    let file = name.rsplit('/').next().unwrap_or_default();
    file.contains(".so")
        && std::fs::read_to_string("/proc/self/maps")
            .is_ok_and(|maps| maps.lines().any(|line| line.ends_with(&name)))
}

/// What is open under this number, as procfs calls it: a path, `socket:[1]`.
#[must_use]
pub fn name_of(descriptor: RawFd) -> String {
    std::fs::read_link(format!("/proc/self/fd/{descriptor}"))
        .map_or_else(|_| "unknown".into(), |path| path.to_string_lossy().into())
}

/// Lets what libraries do around a fork happen, without a fork that is good for anything.
///
/// A library whose threads cannot survive one ends them before it, if it is well made, and starts them
/// again when they are needed, here or in the child: OpenBLAS does.
///
/// # Errors
/// When no process can be made.
pub fn run_fork_handlers() -> Result<()> {
    // SAFETY: the child does nothing but end.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: async-signal-safe.
        unsafe { libc::_exit(0) };
    }
    if pid < 0 {
        return Err(last("fork"));
    }
    loop {
        // SAFETY: waits for the child that was just made; its status is not wanted.
        let waited = unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        if waited >= 0 || !last("waitpid").is_interrupted() {
            return Ok(());
        }
    }
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
