#![allow(unsafe_code)]
//! What a socket tells about itself, and where to peek: the calls of `socket` that need unsafe.
//!
//! # Safety invariants
//! `SIOCOUTQ` (the number of `TIOCOUTQ`) writes one `int`, which is what the getter makes room for.
//! Each socket option gets a value of the type and size that it reads or writes.

use std::os::fd::{AsFd, AsRawFd};

use rustix::ioctl::{ioctl, Getter, Opcode};

use crate::errno::{Named, Result};

const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;

/// Who is at the other end, as the kernel recorded it when the pair was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number; zero when it is outside of this PID namespace.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Who made the other end.
///
/// # Errors
/// When the descriptor is no connected local socket.
pub fn peer(socket: impl AsFd) -> Result<Peer> {
    // Not by rustix, whose `Pid` must not be zero.
    let mut credentials = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let fd = socket.as_fd().as_raw_fd();
    let mut len = core::mem::size_of_val(&credentials) as libc::socklen_t;
    // SAFETY: the option writes one `ucred`, which is what it is given, and its length.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(crate::errno::last("getsockopt"));
    }
    Ok(Peer {
        pid: credentials.pid.unsigned_abs(),
        uid: credentials.uid,
        gid: credentials.gid,
    })
}

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
