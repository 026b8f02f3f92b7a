//! Messages on sockets and pipes, in multiprocessing's frames.
//!
//! # How a frame stays whole
//! A *local* stream is a connected `AF_UNIX` stream socket, as both kinds of `Pipe()` are here.
//! Linux queues what one `sendmsg` gives it in pieces of up to half the send buffer and at least
//! 32 KiB; each piece enters the receiver's queue in one step, after all waiting for room and all
//! copying is done. So a frame that fits one piece is there wholly or not at all, whenever its
//! sender is killed, and frames of several senders (threads or processes that hold the same end)
//! cannot mix. Members of a session therefore send nothing longer than one piece: a larger message
//! goes as an envelope of the session, and the frame is a [header](frame) that names it, with the
//! envelope's kernel token and the user's descriptors as ancillary data of the same piece. If the
//! frame is destroyed unread, the token's last copy is closed with it and the session frees the
//! envelope. Partial writes are completed all the same, in case a kernel cuts differently.
//!
//! A receiver first *peeks*: nothing is taken until the header is understood and the descriptors
//! have found room, then one call takes the whole frame. A receiver that dies, is interrupted or
//! runs out of descriptors leaves the stream at a frame's start.
//!
//! Toward others (a real pipe, a network, a descriptor of unknown origin) frames are written and
//! read as multiprocessing does, with its guarantees.

mod error;
pub mod frame;
mod local;
mod member;
mod patience;
mod plain;
mod turn;

use core::sync::atomic::{AtomicU64, AtomicU8, Ordering};
use std::os::fd::{BorrowedFd, OwnedFd};

use bequeath_os::poll::{self, Events};
use bequeath_os::{socket, Deadline};
use bequeath_shm::BlockName;
use bequeath_sync::Interrupt;

pub use error::{Error, Result};
#[doc(hidden)]
pub use member::set_inline_limit;
use patience::Patience;
use turn::Turn;

/// What this process knows of one end of a connection, beside its descriptor.
///
/// The descriptor comes with each call, because its owner may replace it.
///
/// # After fork
/// Usable in the child; parent and child then hold the same end.
///
/// # If a peer dies
/// A frame that it was sending is there wholly or not at all between members of a session;
/// otherwise the receiver gets [`Error::EndedInside`] when it was the last to hold its end.
#[derive(Debug, Default)]
pub struct Stream {
    kind: AtomicU8,
    sending: Turn,
    receiving: Turn,
    /// Frames taken: tells a thread whether what it peeked at is still first in line.
    taken: AtomicU64,
    patience: Patience,
}

/// What came.
#[derive(Debug)]
pub enum Incoming {
    /// Bytes, from anybody.
    Plain(Vec<u8>),
    /// From a member of a session.
    Member(MemberFrame),
}

/// A frame between members, off the socket and not yet opened.
#[derive(Debug)]
pub struct MemberFrame {
    /// What the payload is.
    pub kind: u8,
    /// Payload that came in the frame itself; empty when there is an envelope.
    pub inline: Vec<u8>,
    /// The envelope, with the descriptor that keeps it alive.
    pub envelope: Option<(BlockName, OwnedFd)>,
    /// The user's descriptors.
    pub descriptors: Vec<OwnedFd>,
    /// Bits of the sender's `ProcessId`.
    pub sender: u64,
}

const UNKNOWN: u8 = 0;
const LOCAL: u8 = 1;
const SOCKET: u8 = 2;
const OTHER: u8 = 3;

impl Stream {
    /// An end of which nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what kind of descriptor this was: it is another one now.
    pub fn forget(&self) {
        self.kind.store(UNKNOWN, Ordering::Relaxed);
    }

    /// Whether descriptors can ride with a message.
    ///
    /// # Errors
    /// When the descriptor is not open.
    pub fn is_local(&self, fd: BorrowedFd<'_>) -> Result<bool> {
        Ok(self.kind(fd)? == LOCAL)
    }

    /// Waits until there is something to receive, or the other end is closed; false at the deadline.
    ///
    /// # Errors
    /// `Interrupted`, or when the descriptor is not open.
    pub fn poll(
        &self,
        fd: BorrowedFd<'_>,
        deadline: Deadline,
        interrupt: &mut dyn Interrupt,
    ) -> Result<bool> {
        wait_for(fd, Events::IN, deadline, interrupt)
    }

    /// Takes the next message; bytes beyond `limit` are refused and spoil the stream.
    ///
    /// # Errors
    /// See [`Error`]; after `OutOfDescriptors` and `Interrupted` (on a local stream) nothing was
    /// taken.
    pub fn receive(
        &self,
        fd: BorrowedFd<'_>,
        limit: Option<u64>,
        interrupt: &mut dyn Interrupt,
    ) -> Result<Incoming> {
        if self.kind(fd)? == LOCAL {
            return self.receive_local(fd, limit, interrupt);
        }
        let _inside = self.receiving.take(interrupt)?;
        plain::receive(fd, limit, interrupt).map(Incoming::Plain)
    }

    /// Sends bytes in a frame that anybody understands.
    ///
    /// # Errors
    /// EPIPE, EBADF and the like; EAGAIN when the descriptor does not block and nothing was sent.
    pub fn send_plain(
        &self,
        fd: BorrowedFd<'_>,
        body: &[u8],
        interrupt: &mut dyn Interrupt,
    ) -> Result<()> {
        let is_socket = self.kind(fd)? != OTHER;
        let _inside = self.sending.take(interrupt)?;
        plain::send(fd, is_socket, body, interrupt)
    }

    fn kind(&self, fd: BorrowedFd<'_>) -> Result<u8> {
        let known = self.kind.load(Ordering::Relaxed);
        if known != UNKNOWN {
            return Ok(known);
        }
        let found = match socket::kind(fd)? {
            socket::Kind::LocalStream => LOCAL,
            socket::Kind::Other => SOCKET,
            socket::Kind::NotASocket => OTHER,
        };
        self.kind.store(found, Ordering::Relaxed);
        Ok(found)
    }
}

/// Waits for events of one descriptor, running signal handlers.
fn wait_for(
    fd: BorrowedFd<'_>,
    events: Events,
    deadline: Deadline,
    interrupt: &mut dyn Interrupt,
) -> Result<bool> {
    loop {
        match poll::wait_one(fd, events, deadline) {
            Ok(came) => return Ok(!came.is_empty()),
            Err(error) if error.is_interrupted() => interrupt.check()?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Repeats a call that signals interrupt, running their handlers in between.
fn uninterrupted<T>(
    interrupt: &mut dyn Interrupt,
    mut call: impl FnMut() -> bequeath_os::Result<T>,
) -> Result<T> {
    loop {
        match call() {
            Err(error) if error.is_interrupted() => interrupt.check()?,
            other => return Ok(other?),
        }
    }
}
