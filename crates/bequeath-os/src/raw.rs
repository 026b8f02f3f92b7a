#![allow(unsafe_code)]
//! Descriptors that a program names by number, as Python does.
//!
//! # Safety invariants
//! A number may be closed or reused by anybody in the process at any time; the kernel then refuses
//! the call or acts on the other descriptor, and memory stays sound. Callers answer for whose
//! descriptor they close.

use std::os::fd::RawFd;

use crate::errno::{last, Result};

/// Closes a descriptor, telling about failure (an `OwnedFd` aborts or keeps silent).
///
/// # Errors
/// EBADF when it is not open; EINTR and EIO, and it is closed all the same.
///
/// # Safety
/// No owner of the descriptor (such as an `OwnedFd`) may be left.
pub unsafe fn close(fd: RawFd) -> Result<()> {
    // SAFETY: a plain system call; ownership is the caller's promise.
    if unsafe { libc::close(fd) } == 0 {
        Ok(())
    } else {
        Err(last("close"))
    }
}
