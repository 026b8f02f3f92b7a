//! Sending between members of a session: every frame is one piece of the kernel's.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bequeath_os::socket::{self, SendFlags};
use bequeath_os::{Deadline, Errno};
use bequeath_shm::{BlockName, Envelope, Room, Session};
use bequeath_sync::{Interrupt, ProcessId};

use super::error::{Error, Result};
use super::frame::{MemberHeader, MEMBER_HEADER};
use crate::message::{Message, Outgoing, Payload};

use super::{local, plain, uninterrupted, MemberFrame, Stream};

/// What certainly is one piece, however small somebody made the send buffer.
const SURE_PIECE: usize = 2048;
/// What is one piece with a send buffer of the usual size.
const PIECE: usize = 32 << 10;
/// Ballast per byte of envelope, and its most: about two of the largest messages, or some fifty
/// of 1 MiB, are on their way before a sender waits for its receiver.
const BALLAST_SHARE: usize = 1024;
const BALLAST: usize = 24 << 10;
static ZEROS: [u8; BALLAST] = [0; BALLAST];
/// Between two tries when the kernel has too many descriptors of this user on their way.
const PATIENCE: Duration = Duration::from_millis(2);

/// Longest payload in a frame itself; only tests change it.
static INLINE_LIMIT: AtomicUsize = AtomicUsize::new(PIECE - MEMBER_HEADER);

/// Lowers the size from which payloads go through envelopes, so that a test that kills after every
/// instruction need not step through copying 32 KiB.
#[doc(hidden)]
pub fn set_inline_limit(bytes: usize) {
    INLINE_LIMIT.store(bytes.min(PIECE - MEMBER_HEADER), Ordering::Relaxed);
}

/// What a member frame carries.
struct Cargo<'a> {
    kind: u8,
    /// The payload, when it fits a frame; else empty.
    inline: &'a [u8],
    /// Everything else, and how many bytes that is.
    envelope: Option<(Envelope, usize)>,
    descriptors: &'a [OwnedFd],
}

impl Stream {
    /// The most descriptors that one message can carry.
    pub const MAX_DESCRIPTORS: usize = socket::MAX_DESCRIPTORS - 1;

    /// Whether a message of so many bytes and nothing else goes to members as a frame that anybody
    /// understands, in one piece.
    ///
    /// # Errors
    /// When the descriptor is not open.
    pub fn fits_frame(&self, fd: BorrowedFd<'_>, payload: usize) -> Result<bool> {
        if payload > INLINE_LIMIT.load(Ordering::Relaxed) || !self.is_local(fd)? {
            return Ok(false);
        }
        let frame = payload + MEMBER_HEADER;
        Ok(frame <= SURE_PIECE || frame <= piece(fd)?)
    }

    /// Sends a message to members of `session`; a small one without handles in a frame that anybody
    /// understands.
    ///
    /// # Errors
    /// `CannotCarry` on a descriptor that is no local stream; `TooManyDescriptors`; those of the
    /// session and the kernel. Nothing was sent then, and what was allocated is freed.
    pub fn send_message(
        &self,
        fd: BorrowedFd<'_>,
        session: &Session,
        mut message: Outgoing<'_>,
        interrupt: &mut dyn Interrupt,
    ) -> Result<()> {
        let bare = message.buffers.is_empty() && message.references.is_empty();
        let fits = bare && self.fits_frame(fd, message.payload.len())?;
        if fits && message.descriptors.is_empty() {
            return self.send_plain(fd, message.payload, interrupt);
        }
        if !self.is_local(fd)? {
            return Err(Error::CannotCarry("it is a pipe, or leads over a network"));
        }
        check_number(message.descriptors.len())?;
        let (inline, envelope) = if fits {
            (message.payload, None)
        } else {
            let filled = self.fill(fd, session, &mut message, interrupt)?;
            (&[][..], Some(filled))
        };
        let cargo = Cargo {
            kind: message.kind,
            inline,
            envelope,
            descriptors: &message.descriptors,
        };
        self.send_cargo(fd, session, cargo, interrupt)
    }

    /// Puts payload, blocks and references into an envelope. When memory is refused and messages
    /// of ours are unread, waits for their receiver: they are what fills the memory.
    fn fill(
        &self,
        fd: BorrowedFd<'_>,
        session: &Session,
        message: &mut Outgoing<'_>,
        interrupt: &mut dyn Interrupt,
    ) -> Result<(Envelope, usize)> {
        let room = Room {
            payload: message.payload.len(),
            blocks: message.buffers.len(),
            references: message.references.len(),
        };
        let mut envelope = loop {
            match Envelope::new(session, room) {
                Err(error)
                    if error.is_out_of_memory()
                        && !matches!(error, bequeath_shm::Error::TooLarge { .. })
                        && self.wait_until_taken(fd, interrupt)? => {}
                other => break other?,
            }
        };
        envelope.write_payload(0, message.payload);
        let mut weight = message.payload.len();
        for block in message.buffers.drain(..) {
            weight = weight.saturating_add(block.len());
            envelope.attach_block(block)?;
        }
        for handle in &message.references {
            envelope.attach_reference(handle)?;
        }
        Ok((envelope, weight))
    }

    fn send_cargo(
        &self,
        fd: BorrowedFd<'_>,
        session: &Session,
        cargo: Cargo<'_>,
        interrupt: &mut dyn Interrupt,
    ) -> Result<()> {
        let _inside = self.sending.take(interrupt)?;
        let ballast = ballast(fd, &cargo)?;
        let token = match cargo.envelope {
            Some((envelope, _)) => {
                local::wait_for_receiver(fd, interrupt)?;
                Some(envelope.into_kernel_token()?)
            }
            None => None,
        };
        let header = MemberHeader {
            inline: cargo.inline.len() as u32,
            ballast: ballast.len() as u32,
            descriptors: cargo.descriptors.len() as u16,
            kind: cargo.kind,
            envelope: token.as_ref().map(|(name, _)| name.to_bits()),
            sender: ProcessId::current().to_bits(),
        };
        let sent = send_piece(
            fd,
            [&header.encode(), cargo.inline, ballast],
            token.as_ref().map(|(_, token)| token),
            cargo.descriptors,
            interrupt,
        );
        if let (Err(_), Some((name, token))) = (&sent, token) {
            reclaim(session, name, token);
        }
        sent
    }

    /// Waits until the receiver has taken something that is on its way from here; false when
    /// nothing is. What to do when memory for a further message is refused.
    ///
    /// # Errors
    /// `Interrupted`, or when the descriptor is no open socket.
    pub fn wait_until_taken(
        &self,
        fd: BorrowedFd<'_>,
        interrupt: &mut dyn Interrupt,
    ) -> Result<bool> {
        if !self.is_local(fd)? {
            return Ok(false);
        }
        let before = socket::unread_by_peer(fd)?;
        while before != 0 && socket::unread_by_peer(fd)? >= before {
            pause(interrupt)?;
        }
        Ok(before != 0)
    }
}

fn check_number(descriptors: usize) -> Result<()> {
    if descriptors <= Stream::MAX_DESCRIPTORS {
        return Ok(());
    }
    Err(Error::TooManyDescriptors {
        found: descriptors,
        limit: Stream::MAX_DESCRIPTORS,
    })
}

fn piece(fd: BorrowedFd<'_>) -> Result<usize> {
    Ok((socket::send_buffer(fd)? / 2).saturating_sub(64).min(PIECE))
}

fn ballast(fd: BorrowedFd<'_>, cargo: &Cargo<'_>) -> Result<&'static [u8]> {
    let Some((_, weight)) = &cargo.envelope else {
        return Ok(&[]);
    };
    let room = piece(fd)?.saturating_sub(MEMBER_HEADER + cargo.inline.len());
    Ok(&ZEROS[..(weight / BALLAST_SHARE).min(BALLAST).min(room)])
}

fn send_piece(
    fd: BorrowedFd<'_>,
    pieces: [&[u8]; 3],
    token: Option<&OwnedFd>,
    descriptors: &[OwnedFd],
    interrupt: &mut dyn Interrupt,
) -> Result<()> {
    let rights: Vec<BorrowedFd<'_>> = token
        .into_iter()
        .chain(descriptors)
        .map(AsFd::as_fd)
        .collect();
    let slices = pieces.map(IoSlice::new);
    let sent = loop {
        let sent = uninterrupted(interrupt, || {
            socket::send(fd, &slices, &rights, SendFlags::empty())
        });
        match sent {
            // As with a full buffer: others have to take theirs first.
            Err(Error::Os(error)) if error.errno == Errno::TOOMANYREFS => pause(interrupt)?,
            other => break other?,
        }
    };
    plain::send_rest(fd, true, pieces, sent, interrupt)
}

fn pause(interrupt: &mut dyn Interrupt) -> Result<()> {
    match bequeath_os::poll::wait(&[], Deadline::after(PATIENCE)) {
        Err(error) if !error.is_interrupted() => return Err(error.into()),
        _ => interrupt.check()?,
    }
    Ok(())
}

/// Takes an envelope back that was not sent: it is freed now, not when somebody looks for it.
fn reclaim(session: &Session, name: BlockName, token: OwnedFd) {
    drop(Envelope::from_kernel_token(session, name, token));
}

impl MemberFrame {
    /// Opens what came: `session` is this process's, if it has one.
    ///
    /// # Errors
    /// `NotForUs` without a session; `Lost` when the envelope is gone, which takes that one message.
    pub fn open(self, session: Option<&Session>) -> Result<Message> {
        let mut message = Message {
            kind: self.kind,
            payload: Payload::Inline(self.inline),
            descriptors: self.descriptors,
            ..Message::default()
        };
        let Some((name, token)) = self.envelope else {
            return Ok(message);
        };
        let sender = Error::pid_of(self.sender);
        let session = session.ok_or(Error::NotForUs { sender })?;
        let lost = |reason| Error::Lost { sender, reason };
        let mut envelope = Envelope::from_kernel_token(session, name, token).map_err(lost)?;
        message.buffers = envelope.take_blocks().map_err(lost)?;
        message.references = envelope.take_references().map_err(lost)?;
        message.payload = Payload::Envelope(envelope);
        Ok(message)
    }
}
