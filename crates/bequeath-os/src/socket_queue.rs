#![allow(unsafe_code)]
//! How much a socket has sent that nobody has read: the one call of `socket` that needs unsafe.
//!
//! # Safety invariants
//! `SIOCOUTQ` (the number of `TIOCOUTQ`) writes one `int`, which is what the getter makes room for.

use std::os::fd::AsFd;

use rustix::ioctl::{ioctl, Getter, Opcode};

use crate::errno::{Named, Result};

const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;

/// How much of [`send_buffer`](crate::socket::send_buffer) is in use: zero when the other end has
/// taken everything.
///
/// # Errors
/// EBADF, ENOTTY.
pub fn unread_by_peer(socket: impl AsFd) -> Result<usize> {
    // SAFETY: the opcode fills in one c_int (see the invariants above).
    let getter = unsafe { Getter::<SIOCOUTQ, libc::c_int>::new() };
    // SAFETY: the getter is the opcode's.
    let bytes = unsafe { ioctl(socket, getter) }.named("ioctl")?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}
