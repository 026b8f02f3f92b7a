//! Frames as multiprocessing writes and reads them: on any descriptor, in as many pieces as it takes.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use bequeath_os::poll::Events;
use bequeath_os::socket::{self, SendFlags};
use bequeath_os::{bytes, Deadline};
use bequeath_sync::Interrupt;

use super::error::{Error, Result};
use super::frame::{self, Parsed, PlainHeader, LONG_HEADER, SHORT_HEADER};
use super::{uninterrupted, wait_for};

/// Room taken at first for a message whose length a stranger claims.
const TRUSTED: usize = 1 << 20;

/// Header and body, in one call where the kernel takes them so.
pub(super) fn send(
    fd: BorrowedFd<'_>,
    is_socket: bool,
    body: &[u8],
    interrupt: &mut dyn Interrupt,
) -> Result<()> {
    let header = PlainHeader::new(body.len());
    send_rest(fd, is_socket, [header.as_bytes(), body, &[]], 0, interrupt)
}

/// Sends what is left of three pieces after `sent` bytes of them.
pub(super) fn send_rest(
    fd: BorrowedFd<'_>,
    is_socket: bool,
    pieces: [&[u8]; 3],
    mut sent: usize,
    interrupt: &mut dyn Interrupt,
) -> Result<()> {
    let total: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut begun = sent != 0;
    while sent < total || !begun {
        let left = skip(pieces, sent).map(IoSlice::new);
        let call = || {
            if is_socket {
                socket::send(fd, &left, &[], SendFlags::empty())
            } else {
                bytes::write(fd, &left)
            }
        };
        match uninterrupted(interrupt, call) {
            Ok(count) => sent += count,
            // Inside a frame there is no way back: wait, although the descriptor does not.
            Err(Error::Os(error)) if begun && error.would_block() => {
                wait_for(fd, Events::OUT, Deadline::NEVER, interrupt)?;
            }
            Err(error) => return Err(error),
        }
        begun = true;
    }
    Ok(())
}

fn skip(pieces: [&[u8]; 3], mut count: usize) -> [&[u8]; 3] {
    pieces.map(|piece| {
        let skipped = count.min(piece.len());
        count -= skipped;
        &piece[skipped..]
    })
}

/// The next frame's body.
pub(super) fn receive(
    fd: BorrowedFd<'_>,
    limit: Option<u64>,
    interrupt: &mut dyn Interrupt,
) -> Result<Vec<u8>> {
    let mut header = [0; LONG_HEADER];
    let mut have = 0;
    let mut wanted = SHORT_HEADER;
    let length = loop {
        have += read_exactly(fd, &mut header[have..wanted], have == 0, interrupt)?;
        match frame::parse(&header[..have]) {
            Parsed::Plain { length, .. } => break length,
            Parsed::Incomplete(needed) if needed <= LONG_HEADER => wanted = needed,
            _ => return Err(Error::Malformed),
        }
    };
    check_limit(length, limit)?;
    let mut body = Vec::new();
    receive_rest(fd, &mut body, length, interrupt)?;
    Ok(body)
}

pub(super) fn check_limit(length: u64, limit: Option<u64>) -> Result<()> {
    match limit {
        Some(limit) if length > limit => Err(Error::TooLong { length }),
        _ => Ok(()),
    }
}

/// Reads until `body` has `length` bytes. Memory is taken as bytes arrive: the length is a claim.
pub(super) fn receive_rest(
    fd: BorrowedFd<'_>,
    body: &mut Vec<u8>,
    length: u64,
    interrupt: &mut dyn Interrupt,
) -> Result<()> {
    let length = usize::try_from(length).map_err(|_| Error::TooLong { length })?;
    while body.len() < length {
        let have = body.len();
        let step = (length - have).min(have.max(TRUSTED));
        body.try_reserve_exact(step).map_err(|_| Error::TooLong {
            length: length as u64,
        })?;
        body.resize(have + step, 0);
        read_exactly(fd, &mut body[have..], false, interrupt)?;
    }
    Ok(())
}

/// Fills `into`; `at_start` says that an end here is an orderly one.
pub(super) fn read_exactly(
    fd: BorrowedFd<'_>,
    into: &mut [u8],
    at_start: bool,
    interrupt: &mut dyn Interrupt,
) -> Result<usize> {
    let mut have = 0;
    while have < into.len() {
        let inside = have != 0 || !at_start;
        match uninterrupted(interrupt, || bytes::read(fd, &mut into[have..])) {
            Ok(0) if inside => return Err(Error::EndedInside),
            Ok(0) => return Err(Error::Ended),
            Ok(count) => have += count,
            Err(Error::Os(error)) if inside && error.would_block() => {
                wait_for(fd, Events::IN, Deadline::NEVER, interrupt)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}
