//! The line between a parent and the copy that it started: a socket pair that carries one start
//! downwards and one outcome upwards.
//!
//! A small value travels in the message itself. What is larger, or has objects with it, goes into
//! an envelope of the session, held by a descriptor in the same message: whoever dies, the kernel
//! closes that descriptor and the envelope is given back. So neither end ever waits for the other
//! to read, and an unread result costs nothing.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bequeath_os::socket::{self, RecvFlags, SendFlags, MAX_DESCRIPTORS};
use bequeath_shm::{BlockName, Envelope, Room, Session};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::codec;
use crate::error::{Error, Result};
use crate::transfer::Parts;

/// Largest value that travels in the message itself.
const INLINE: usize = 16 * 1024;
/// Largest message: room for an inline value and everything around it.
const MESSAGE: usize = INLINE + 16 * 1024;

/// One end of the line.
pub(crate) struct Line(OwnedFd);

#[derive(Serialize, Deserialize)]
struct Frame {
    head: Bytes,
    value: Value,
    /// Descriptors of the frame itself, before those of the value.
    extra: u32,
    /// All descriptors; those beyond what one message takes follow in messages of their own.
    descriptors: u32,
}

#[derive(Serialize, Deserialize)]
enum Value {
    Inline(Bytes),
    /// The envelope's name; its token is the first descriptor after the extra ones.
    Envelope(u64),
}

/// A frame that arrived and whose value has not been opened yet, because that takes a session.
pub(crate) struct Arrived<H> {
    pub(crate) head: H,
    pub(crate) extra: Vec<OwnedFd>,
    value: Value,
    descriptors: Vec<OwnedFd>,
}

impl Line {
    /// Both ends.
    pub(crate) fn pair() -> Result<(Self, Self)> {
        let (one, other) = socket::pair(socket::SocketType::SeqPacket)?;
        Ok((Self(one), Self(other)))
    }

    pub(crate) const fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Sends `head` and a prepared value, with `extra` descriptors for the receiver's own use.
    pub(crate) fn send<H: Serialize>(
        &self,
        head: &H,
        extra: Vec<OwnedFd>,
        packed: Packed,
    ) -> Result<()> {
        let extras = extra.len() as u32;
        let fds: Vec<OwnedFd> = extra.into_iter().chain(packed.descriptors).collect();
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let frame = codec::encode(&Frame {
            head: codec::encode(head)?.into(),
            value: packed.value,
            extra: extras,
            descriptors: fds.len() as u32,
        })?;
        let mut batches = fds.chunks(MAX_DESCRIPTORS);
        self.send_message(&frame, batches.next().unwrap_or_default())?;
        batches.try_for_each(|batch| self.send_message(&[0], batch))
    }

    fn send_message(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        loop {
            match socket::send(&self.0, &[IoSlice::new(bytes)], fds, SendFlags::empty()) {
                Err(error) if error.is_interrupted() => continue,
                sent => return Ok(sent.map(drop)?),
            }
        }
    }

    /// What the other end sent; `None` when it is gone without a word, or with `DONTWAIT` when
    /// nothing is there.
    pub(crate) fn recv<H: DeserializeOwned>(&self, flags: RecvFlags) -> Result<Option<Arrived<H>>> {
        let mut bytes = vec![0; MESSAGE];
        let Some((len, mut descriptors)) = self.recv_message(&mut bytes, flags)? else {
            return Ok(None);
        };
        let frame: Frame = codec::decode(bytes.get(..len).ok_or(LYING)?)?;
        while descriptors.len() < frame.descriptors as usize {
            // Under way: the sender sends them at once, or its end closes.
            let more = self.recv_message(&mut [0], RecvFlags::empty())?;
            let Some((_, more)) = more else {
                return Ok(None);
            };
            if more.is_empty() {
                return Err(LYING);
            }
            descriptors.extend(more);
        }
        if descriptors.len() != frame.descriptors as usize
            || descriptors.len() < frame.extra as usize
        {
            return Err(LYING);
        }
        let rest = descriptors.split_off(frame.extra as usize);
        Ok(Some(Arrived {
            head: codec::decode(&frame.head)?,
            extra: descriptors,
            value: frame.value,
            descriptors: rest,
        }))
    }

    fn recv_message(
        &self,
        bytes: &mut [u8],
        flags: RecvFlags,
    ) -> Result<Option<(usize, Vec<OwnedFd>)>> {
        loop {
            let received = match socket::recv(&self.0, bytes, MAX_DESCRIPTORS, flags) {
                Err(error) if error.is_interrupted() => continue,
                Err(error) if error.would_block() => return Ok(None),
                // The peer ended with something unread.
                Err(error) if error.errno == bequeath_os::Errno::CONNRESET => return Ok(None),
                received => received?,
            };
            if received.fds_truncated {
                return Err(bequeath_os::Error::new("recvmsg", bequeath_os::Errno::MFILE).into());
            }
            if received.truncated {
                return Err(LYING);
            }
            return Ok((received.len > 0).then_some((received.len, received.fds)));
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

const LYING: Error = Error::Malformed("a frame between a parent and its worker");

/// A value ready to go: nothing can be refused any more.
pub(crate) struct Packed {
    value: Value,
    descriptors: Vec<OwnedFd>,
}

impl Packed {
    /// No value.
    pub(crate) const fn empty() -> Self {
        Self {
            value: Value::Inline(Bytes(Vec::new())),
            descriptors: Vec::new(),
        }
    }
}

/// Puts a value where it will travel.
pub(crate) fn pack(session: &Session, mut parts: Parts) -> Result<Packed> {
    if parts.bytes.len() <= INLINE && parts.references.is_empty() && parts.blocks.is_empty() {
        let value = Value::Inline(parts.bytes.into());
        return Ok(Packed {
            value,
            descriptors: parts.descriptors,
        });
    }
    let room = Room {
        payload: parts.bytes.len(),
        blocks: parts.blocks.len(),
        references: parts.references.len(),
    };
    let mut envelope = Envelope::new(session, room)?;
    if !envelope.write_payload(0, &parts.bytes) {
        return Err(Error::Malformed("an envelope smaller than it was made"));
    }
    for block in parts.blocks {
        envelope.attach_block(block)?;
    }
    for reference in &parts.references {
        envelope.attach_reference(reference)?;
    }
    let (name, token) = envelope.into_kernel_token()?;
    parts.descriptors.insert(0, token);
    let value = Value::Envelope(name.to_bits());
    Ok(Packed {
        value,
        descriptors: parts.descriptors,
    })
}

impl<H> Arrived<H> {
    /// The value itself.
    pub(crate) fn open(self, session: &Session) -> Result<Parts> {
        let mut descriptors = self.descriptors;
        let name = match self.value {
            Value::Inline(bytes) => {
                return Ok(Parts {
                    bytes: bytes.into(),
                    descriptors,
                    ..Parts::default()
                })
            }
            Value::Envelope(name) => BlockName::from_bits(name).ok_or(LYING)?,
        };
        if descriptors.is_empty() {
            return Err(LYING);
        }
        let mut envelope = Envelope::from_kernel_token(session, name, descriptors.remove(0))?;
        let mut bytes = vec![0; envelope.payload().1];
        if !envelope.read_payload(0, &mut bytes) {
            return Err(LYING);
        }
        Ok(Parts {
            bytes,
            blocks: envelope.take_blocks()?,
            references: envelope.take_references()?,
            descriptors,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inline(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Packed {
        Packed {
            value: Value::Inline(bytes.to_vec().into()),
            descriptors,
        }
    }

    fn many(count: usize) -> Vec<OwnedFd> {
        let open = || std::fs::File::open("/dev/null").unwrap().into();
        (0..count).map(|_| open()).collect()
    }

    #[test]
    fn a_frame_arrives_whole_with_more_descriptors_than_one_message_takes() {
        let (one, other) = Line::pair().unwrap();
        one.send(&"head", many(3), inline(b"value", many(300)))
            .unwrap();
        let arrived = other.recv::<String>(RecvFlags::empty()).unwrap().unwrap();
        assert_eq!(
            (
                arrived.head.as_str(),
                arrived.extra.len(),
                arrived.descriptors.len()
            ),
            ("head", 3, 300)
        );
    }

    #[test]
    fn the_end_of_the_line_and_an_empty_line_are_nothing() {
        let (one, other) = Line::pair().unwrap();
        assert!(other.recv::<()>(RecvFlags::DONTWAIT).unwrap().is_none());
        drop(one);
        assert!(other.recv::<()>(RecvFlags::empty()).unwrap().is_none());
    }

    #[test]
    fn lying_frames_are_refused() {
        let (one, other) = Line::pair().unwrap();
        for bytes in [&[0xff; 40][..], &[0; 3], &vec![1; MESSAGE + 1]] {
            one.send_message(bytes, &[]).unwrap();
            assert!(other.recv::<()>(RecvFlags::empty()).is_err());
        }
        let promised = Frame {
            head: Bytes::default(),
            value: Value::Inline(Bytes::default()),
            extra: 5,
            descriptors: 2,
        };
        let fds = many(2);
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        one.send_message(&codec::encode(&promised).unwrap(), &fds)
            .unwrap();
        assert!(matches!(
            other.recv::<()>(RecvFlags::empty()),
            Err(Error::Malformed(_))
        ));
    }
}
