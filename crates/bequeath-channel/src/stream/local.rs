//! Receiving from a local stream: look first, then take the whole frame in one call.

use std::io::IoSliceMut;
use std::os::fd::{BorrowedFd, OwnedFd};

use core::sync::atomic::Ordering;

use bequeath_os::poll::Events;
use bequeath_os::socket::{self, RecvFlags};
use bequeath_os::{Deadline, Errno};
use bequeath_shm::BlockName;
use bequeath_sync::Interrupt;

use super::error::{Error, Result};
use super::frame::{self, MemberHeader, Parsed, LONGEST_HEADER, LONG_HEADER, MEMBER_HEADER};
use super::{plain, uninterrupted, wait_for, Incoming, MemberFrame, Stream};

/// A plain frame up to this long is taken in one call into memory of its claimed size.
const ONE_CALL: u64 = 1 << 20;
/// A member's frame is one piece of the kernel's: nothing longer is believed.
const LONGEST_MEMBER_FRAME: usize = 1 << 20;

impl Stream {
    pub(super) fn receive_local(
        &self,
        fd: BorrowedFd<'_>,
        limit: Option<u64>,
        interrupt: &mut dyn Interrupt,
    ) -> Result<Incoming> {
        let mut head = [0; LONGEST_HEADER];
        loop {
            let taken = self.taken.load(Ordering::Acquire);
            let looked = self.patience.look(|| {
                let look = RecvFlags::PEEK | RecvFlags::DONTWAIT;
                socket::recv(fd, &mut head, 0, look).ok()
            });
            let seen = match looked {
                Some(seen) => seen,
                // Errors too: an error of the look comes again here.
                None => uninterrupted(interrupt, || {
                    socket::recv(fd, &mut head, 0, RecvFlags::PEEK)
                })?,
            };
            if seen.len == 0 {
                return Err(Error::Ended);
            }
            let _inside = self.receiving.take(interrupt)?;
            if self.taken.load(Ordering::Acquire) != taken {
                continue; // another thread took what we saw
            }
            let incoming = take(fd, &head[..seen.len], limit, interrupt);
            // Counted also after an error: then too, bytes may be gone.
            self.taken.fetch_add(1, Ordering::Release);
            return incoming;
        }
    }
}

fn take(
    fd: BorrowedFd<'_>,
    head: &[u8],
    limit: Option<u64>,
    interrupt: &mut dyn Interrupt,
) -> Result<Incoming> {
    match frame::parse(head) {
        Parsed::Plain { header, length } => {
            plain::check_limit(length, limit)?;
            take_plain(fd, header, length, interrupt).map(Incoming::Plain)
        }
        Parsed::Member(header) => take_member(fd, &header, limit, interrupt),
        // Whoever wrote less than a header at a time is no member of ours.
        Parsed::Incomplete(_) => plain::receive(fd, limit, interrupt).map(Incoming::Plain),
        Parsed::Malformed => Err(Error::Malformed),
    }
}

fn take_plain(
    fd: BorrowedFd<'_>,
    header: usize,
    length: u64,
    interrupt: &mut dyn Interrupt,
) -> Result<Vec<u8>> {
    let mut head = [0; LONG_HEADER];
    let mut body = vec![0; usize::try_from(length.min(ONE_CALL)).unwrap_or(0)];
    let mut pieces = [
        IoSliceMut::new(&mut head[..header]),
        IoSliceMut::new(&mut body),
    ];
    let taken = uninterrupted(interrupt, || {
        socket::recv_vectored(fd, &mut pieces, 0, RecvFlags::empty())
    })?;
    match taken.len.checked_sub(header) {
        Some(have) => body.truncate(have),
        None => {
            let start = taken.len;
            plain::read_exactly(fd, &mut head[start..header], false, interrupt)?;
            body.clear();
        }
    }
    plain::receive_rest(fd, &mut body, length, interrupt)?;
    Ok(body)
}

/// Peeks once more, now with room for the descriptors (the kernel gives copies and keeps its own);
/// when all have arrived, takes the frame, and the kernel's copies go.
fn take_member(
    fd: BorrowedFd<'_>,
    header: &MemberHeader,
    limit: Option<u64>,
    interrupt: &mut dyn Interrupt,
) -> Result<Incoming> {
    let length = header.frame_length();
    if length > LONGEST_MEMBER_FRAME || header.carried() > socket::MAX_DESCRIPTORS {
        return Err(Error::Malformed);
    }
    plain::check_limit(u64::from(header.inline), limit)?;
    let mut descriptors = peek_descriptors(fd, header, interrupt)?;
    let mut bytes = vec![0; length];
    let taken = uninterrupted(interrupt, || {
        socket::recv(fd, &mut bytes, 0, RecvFlags::empty())
    })?;
    plain::read_exactly(fd, &mut bytes[taken.len..], false, interrupt)?;
    let inline_end = MEMBER_HEADER + header.inline as usize;
    bytes.truncate(inline_end);
    bytes.drain(..MEMBER_HEADER);
    Ok(Incoming::Member(MemberFrame {
        kind: header.kind,
        inline: bytes,
        envelope: take_envelope(header, &mut descriptors)?,
        descriptors,
        sender: header.sender,
    }))
}

/// The envelope's token is the first descriptor.
fn take_envelope(
    header: &MemberHeader,
    descriptors: &mut Vec<OwnedFd>,
) -> Result<Option<(BlockName, OwnedFd)>> {
    let Some(bits) = header.envelope else {
        return Ok(None);
    };
    let name = BlockName::from_bits(bits).ok_or(Error::Malformed)?;
    Ok(Some((name, descriptors.remove(0))))
}

fn peek_descriptors(
    fd: BorrowedFd<'_>,
    header: &MemberHeader,
    interrupt: &mut dyn Interrupt,
) -> Result<Vec<OwnedFd>> {
    let carried = header.carried();
    if carried == 0 {
        return Ok(Vec::new());
    }
    let mut head = [0; MEMBER_HEADER];
    let seen = uninterrupted(interrupt, || {
        socket::recv(fd, &mut head, carried, RecvFlags::PEEK)
    })?;
    if seen.fds.len() == carried {
        return Ok(seen.fds);
    }
    if seen.fds_truncated {
        let source = bequeath_os::Error::new("recvmsg", Errno::MFILE);
        return Err(Error::OutOfDescriptors { carried, source });
    }
    Err(Error::Malformed)
}

/// Waits while the receiver is behind: the kernel calls a local stream writable when less than a
/// quarter of its send buffer is in use, and ballast makes large messages count.
pub(super) fn wait_for_receiver(fd: BorrowedFd<'_>, interrupt: &mut dyn Interrupt) -> Result<()> {
    if bequeath_os::bytes::is_nonblocking(fd)? {
        return match wait_for(fd, Events::OUT, Deadline::PAST, interrupt)? {
            true => Ok(()),
            false => Err(bequeath_os::Error::new("sendmsg", Errno::AGAIN).into()),
        };
    }
    wait_for(fd, Events::OUT, Deadline::NEVER, interrupt).map(drop)
}
