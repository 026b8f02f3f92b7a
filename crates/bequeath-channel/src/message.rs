//! What travels: a message as its sender hands it over, and as its receiver gets it.
//!
//! Payload bytes mean nothing here; `kind` is a number that the two ends agree on (pickle, raw bytes, small scalar).

use std::os::fd::OwnedFd;

use bequeath_shm::{AnyHandle, Block, Envelope};

/// What the payload of a message of ours is; both faces, Python's and Rust's, write and read these.
pub mod kind {
    /// A pickle of protocol 5 or less.
    pub const PICKLE: u8 = 0;
    /// The bytes themselves.
    pub const BYTES: u8 = 1;
    /// A 64-bit integer in native order.
    pub const INT: u8 = 2;
    /// A double in native order.
    pub const FLOAT: u8 = 3;
    /// Nothing.
    pub const NONE: u8 = 4;
    /// True.
    pub const TRUE: u8 = 5;
    /// False.
    pub const FALSE: u8 = 6;
    /// UTF-8 text.
    pub const TEXT: u8 = 7;
}

/// A message on its way out. What it owns is freed when it is dropped unsent.
#[derive(Default)]
pub struct Outgoing<'a> {
    /// What the payload is, as the two ends agree.
    pub kind: u8,
    /// The bytes, copied once: into a record, an envelope or a socket.
    pub payload: &'a [u8],
    /// Blocks that go along without a copy; the receiver adopts them.
    pub buffers: Vec<Block>,
    /// Objects of the session: each is counted for the message while it is under way.
    pub references: Vec<AnyHandle>,
    /// Descriptors, duplicated into the receiver.
    pub descriptors: Vec<OwnedFd>,
}

impl<'a> Outgoing<'a> {
    /// A message of bytes only.
    #[must_use]
    pub fn bytes(kind: u8, payload: &'a [u8]) -> Self {
        Self {
            kind,
            payload,
            ..Self::default()
        }
    }

    /// Whether there is nothing but bytes.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.buffers.is_empty() && self.references.is_empty() && self.descriptors.is_empty()
    }
}

/// A message that arrived: all of it is this process's own.
#[derive(Default)]
pub struct Message {
    /// What the payload is, as the two ends agree.
    pub kind: u8,
    /// The bytes.
    pub payload: Payload,
    /// Blocks to adopt, in the order they were attached.
    pub buffers: Vec<Block>,
    /// Objects, in the order they were attached.
    pub references: Vec<AnyHandle>,
    /// Descriptors, in the order they were attached.
    pub descriptors: Vec<OwnedFd>,
}

impl Message {
    /// Whether there is nothing but bytes.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.buffers.is_empty() && self.references.is_empty() && self.descriptors.is_empty()
    }
}

/// Where the bytes of a received message are.
pub enum Payload {
    /// Copied out of a record or a socket.
    Inline(Vec<u8>),
    /// In an envelope of the arena, which is freed with this value.
    Envelope(Envelope),
}

impl Default for Payload {
    fn default() -> Self {
        Self::Inline(Vec::new())
    }
}

impl Payload {
    /// First byte and length. The memory stays where it is while this value lives. The bytes of an envelope are shared memory that no
    /// member writes any more; copy from it, make no slice of it.
    #[must_use]
    pub fn parts(&self) -> (*const u8, usize) {
        match self {
            Self::Inline(bytes) => (bytes.as_ptr(), bytes.len()),
            Self::Envelope(envelope) => {
                let (first, len) = envelope.payload();
                (first.cast_const(), len)
            }
        }
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts().1
    }

    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes as an owned vector: a copy for an envelope.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Inline(bytes) => bytes,
            Self::Envelope(envelope) => {
                let mut bytes = vec![0; envelope.payload().1];
                envelope.read_payload(0, &mut bytes);
                bytes
            }
        }
    }
}
