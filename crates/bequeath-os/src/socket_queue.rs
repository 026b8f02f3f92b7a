#![allow(unsafe_code)]
//! How much a socket has sent that nobody has read: and where to peek: the calls of `socket` that need unsafe.
//!
//! # Safety invariants
//! `SIOCOUTQ` (the number of `TIOCOUTQ`) writes one `int`, which is what the getter makes room for.

use std::os::fd::{AsFd, AsRawFd};

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

/// Where the next `recv` with `PEEK` looks: so many bytes into what is unread, going on from there; `None`
/// looks at the front again. One setting for all who share the socket.
///
/// # Errors
/// EBADF, ENOTSOCK, EOPNOTSUPP.
pub fn set_peek_offset(socket: impl AsFd, offset: Option<u32>) -> Result<()> {
    let value: libc::c_int = match offset {
        Some(offset) => libc::c_int::try_from(offset).unwrap_or(libc::c_int::MAX),
        None => -1,
    };
    let (fd, len) = (
        socket.as_fd().as_raw_fd(),
        core::mem::size_of_val(&value) as libc::socklen_t,
    );
    // SAFETY: the descriptor is lent by the caller; the option reads one int, which is what it is given.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const value).cast(),
            len,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(crate::errno::last("setsockopt"))
    }
}
