//! Bytes through any descriptor, and what kind of descriptor it is.

use std::io::IoSlice;
use std::os::fd::AsFd;

use crate::errno::{Named, Result};

/// Reads up to `bytes.len()` bytes; zero at the end.
///
/// # Errors
/// EINTR, EAGAIN when the descriptor does not block, EBADF, EIO.
pub fn read(fd: impl AsFd, bytes: &mut [u8]) -> Result<usize> {
    rustix::io::read(fd, bytes).named("read")
}

/// Writes some of `pieces`, in order, and says how many bytes went.
///
/// # Errors
/// EINTR, EAGAIN when the descriptor does not block, EPIPE, EBADF, ENOSPC.
pub fn write(fd: impl AsFd, pieces: &[IoSlice<'_>]) -> Result<usize> {
    rustix::io::writev(fd, pieces).named("writev")
}

/// Whether calls on this descriptor return instead of waiting.
///
/// # Errors
/// EBADF.
pub fn is_nonblocking(fd: impl AsFd) -> Result<bool> {
    let flags = rustix::fs::fcntl_getfl(fd).named("fcntl")?;
    Ok(flags.contains(rustix::fs::OFlags::NONBLOCK))
}
