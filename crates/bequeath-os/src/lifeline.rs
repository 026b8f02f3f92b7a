#![allow(unsafe_code)]
//! A pipe whose closing sends a signal: how a process is tied to the life of another.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that created the child ends, which makes it useless
//! for a child started by a short-lived thread. A pipe's reader can ask for a signal instead
//! (`O_ASYNC`, `F_SETSIG`): the kernel sends it when the last writer is gone, however that came.
//!
//! # Safety invariants
//! The raw calls take a descriptor that is open while borrowed, and numbers.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use crate::clock::Deadline;
use crate::errno::{last, Named, Result};
use crate::poll::{self, Events};

const SET_SIGNAL: i32 = 10; // F_SETSIG, the same on every Linux architecture

/// A close-on-exec pipe: its reading and its writing end.
///
/// # Errors
/// When descriptors ran out.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC).named("pipe2")
}

/// Whether anybody holds the other end of this writing end.
#[must_use]
pub fn has_reader(writer: BorrowedFd<'_>) -> bool {
    poll::wait_one(writer, Events::empty(), Deadline::PAST)
        .map_or(true, |events| !events.contains(Events::ERR))
}

/// Another reading end of the same pipe, with flags and an owner of its own.
///
/// # Errors
/// When descriptors ran out, or without procfs.
pub fn another_reader(reader: BorrowedFd<'_>) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    // Not blocking: an open for reading waits for a writer otherwise.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::empty()).named("open")
}

/// This process gets `signal` when the last writer of the pipe is gone. Says whether it is gone
/// already: then no signal will come any more.
///
/// # Errors
/// Where the kernel has no signals for pipes.
pub fn signal_on_close(reader: BorrowedFd<'_>, signal: i32) -> Result<bool> {
    let fd = reader.as_raw_fd();
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    for (command, argument) in [
        (SET_SIGNAL, signal),
        (libc::F_SETOWN, pid),
        (libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK),
    ] {
        // SAFETY: an open descriptor and numbers.
        if unsafe { libc::fcntl(fd, command, argument) } < 0 {
            return Err(last("fcntl"));
        }
    }
    // Looked at last: a writer that goes from here on sends the signal.
    poll::is_ready(reader, Events::IN)
}
