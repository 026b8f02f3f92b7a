//! Socket pairs that carry descriptors beside bytes.
//!
//! SIGPIPE is never raised here, and received descriptors are close-on-exec from the first moment.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SocketFlags,
};

pub use rustix::net::{RecvFlags, SendFlags, Shutdown};

pub use crate::socket_options::{peer, set_peek_offset, unread_by_peer, Peer};

use crate::errno::{Errno, Error, Named, Result};
use crate::handover::beyond_standard;

/// The most descriptors that one message can carry (the kernel's `SCM_MAX_FD`).
pub const MAX_DESCRIPTORS: usize = 253;

const CONTROL_LEN: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// What a socket keeps of the shape of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketType {
    /// A stream of bytes.
    Stream,
    /// Whole messages in order.
    SeqPacket,
}

/// What one `recv` brought.
#[derive(Debug, Default)]
pub struct Received {
    /// Bytes; zero at the end of the stream.
    pub len: usize,
    /// Descriptors, ours now.
    pub fds: Vec<OwnedFd>,
    /// Descriptors were lost (our table is full), or bytes of the message did not fit.
    pub truncated: bool,
    /// Descriptors were lost.
    pub fds_truncated: bool,
}

/// Two connected sockets.
///
/// # Errors
/// When descriptors ran out.
pub fn pair(kind: SocketType) -> Result<(OwnedFd, OwnedFd)> {
    let kind = match kind {
        SocketType::Stream => net::SocketType::STREAM,
        SocketType::SeqPacket => net::SocketType::SEQPACKET,
    };
    let (one, other) = net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
        .named("socketpair")?;
    Ok((beyond_standard(one)?, beyond_standard(other)?))
}

/// Sends bytes, with descriptors in the same message; says how many bytes went.
///
/// # Errors
/// EAGAIN with `DONTWAIT`, EPIPE when nobody reads, ETOOMANYREFS when too many descriptors of this
/// user are in flight, EINTR, EMSGSIZE, EINVAL for more than [`MAX_DESCRIPTORS`].
pub fn send(
    socket: impl AsFd,
    bytes: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<usize> {
    if fds.len() > MAX_DESCRIPTORS {
        return Err(Error::new("sendmsg", Errno::INVAL));
    }
    let flags = flags | SendFlags::NOSIGNAL;
    let mut small = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut large;
    let space: &mut [MaybeUninit<u8>] = if fds.len() <= 8 {
        &mut small
    } else {
        large = vec![MaybeUninit::uninit(); CONTROL_LEN];
        &mut large
    };
    let mut control = SendAncillaryBuffer::new(space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Error::new("sendmsg", Errno::INVAL));
    }
    net::sendmsg(socket, bytes, &mut control, flags).named("sendmsg")
}

/// Receives bytes and up to `max_fds` descriptors; more than that are closed by the kernel.
///
/// # Errors
/// EAGAIN with `DONTWAIT`, EINTR, ECONNRESET.
pub fn recv(
    socket: impl AsFd,
    bytes: &mut [u8],
    max_fds: usize,
    flags: RecvFlags,
) -> Result<Received> {
    recv_vectored(socket, &mut [IoSliceMut::new(bytes)], max_fds, flags)
}

/// Waits for a packet and says how long it is; it stays to be received.
///
/// # Errors
/// EINTR, ECONNRESET.
pub fn next_length(socket: impl AsFd) -> Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
    Ok(recv(socket, &mut [0], 0, flags)?.len)
}

/// As [`recv`], into several pieces.
///
/// # Errors
/// As [`recv`].
pub fn recv_vectored(
    socket: impl AsFd,
    pieces: &mut [IoSliceMut<'_>],
    max_fds: usize,
    flags: RecvFlags,
) -> Result<Received> {
    let mut small = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut large;
    let space: &mut [MaybeUninit<u8>] = match max_fds {
        0 => &mut [],
        1..=8 => &mut small,
        _ => {
            large = vec![MaybeUninit::uninit(); CONTROL_LEN];
            &mut large
        }
    };
    let mut control = RecvAncillaryBuffer::new(space);
    let message = net::recvmsg(
        socket,
        pieces,
        &mut control,
        flags | RecvFlags::CMSG_CLOEXEC,
    )
    .named("recvmsg")?;
    let mut fds = Vec::new();
    for ancillary in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = ancillary {
            fds.extend(rights);
        }
    }
    let fds_truncated = message.flags.contains(ReturnFlags::CTRUNC);
    let truncated = fds_truncated || message.flags.contains(ReturnFlags::TRUNC);
    Ok(Received {
        len: message.bytes,
        fds,
        truncated,
        fds_truncated,
    })
}

/// Closes one direction for everyone who holds this socket.
///
/// # Errors
/// ENOTCONN and EBADF.
pub fn shutdown(socket: impl AsFd, how: Shutdown) -> Result<()> {
    net::shutdown(socket, how).named("shutdown")
}

/// What a descriptor is to a sender of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A local stream socket: descriptors can ride along.
    LocalStream,
    /// Another socket.
    Other,
    /// No socket: a pipe, a terminal, a file.
    NotASocket,
}

/// What `fd` is.
///
/// # Errors
/// EBADF.
pub fn kind(fd: impl AsFd) -> Result<Kind> {
    match net::sockopt::socket_domain(&fd) {
        Ok(AddressFamily::UNIX) => {
            let shape = net::sockopt::socket_type(&fd).named("getsockopt")?;
            let stream = shape == net::SocketType::STREAM;
            Ok(if stream {
                Kind::LocalStream
            } else {
                Kind::Other
            })
        }
        Ok(_) => Ok(Kind::Other),
        Err(Errno::NOTSOCK) => Ok(Kind::NotASocket),
        Err(errno) => Err(Error::new("getsockopt", errno)),
    }
}

/// The kernel's bound on what may be on its way from this socket, in its own accounting (which
/// counts more than the bytes).
///
/// # Errors
/// EBADF, ENOTSOCK.
pub fn send_buffer(socket: impl AsFd) -> Result<usize> {
    net::sockopt::socket_send_buffer_size(socket).named("getsockopt")
}

/// Changes that bound; the kernel takes double the number, and no less than its own least.
///
/// # Errors
/// EBADF, ENOTSOCK.
pub fn set_send_buffer(socket: impl AsFd, bytes: usize) -> Result<()> {
    net::sockopt::set_socket_send_buffer_size(socket, bytes).named("setsockopt")
}
