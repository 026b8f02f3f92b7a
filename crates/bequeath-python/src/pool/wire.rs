//! Messages of a pool. Behind the pickle in each stands a label, so that it can always be read, whatever the pickle
//! is: which task this is, and what to make of it. A pickle ends by itself; nobody reads on.

use std::os::fd::OwnedFd;

use bequeath_channel::{Message, Outgoing, Payload};
use bequeath_shm::{AnyHandle, Block};
use pyo3::prelude::*;

use crate::pickle::give_back;
use crate::transfer::{self, Pickled};

/// Bytes of a label.
const BYTES: usize = 32;

/// A label as it stands behind a pickle.
pub type Trailer = [u8; BYTES];

/// A label of these words.
pub fn trailer(words: [u64; 4]) -> Trailer {
    let mut bytes = [0; BYTES];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Takes the label off a message; none where there is no room for one.
pub fn label_of(message: &mut Message) -> Option<[u64; 4]> {
    let length = message.payload.len().checked_sub(BYTES)?;
    let mut label = [0; BYTES];
    if message.kind != transfer::kind::PICKLE {
        // Only a pickle ends by itself.
        let bytes = std::mem::take(&mut message.payload).into_vec();
        message.payload = Payload::Inline(bytes);
    }
    match &mut message.payload {
        Payload::Inline(bytes) => {
            label.copy_from_slice(&bytes[length..]);
            bytes.truncate(length);
        }
        Payload::Envelope(envelope) => {
            envelope.read_payload(length, &mut label);
        }
    }
    let mut words = [0; 4];
    for (word, place) in words.iter_mut().zip(label.chunks_exact(8)) {
        *word = u64::from_le_bytes(place.try_into().ok()?);
    }
    Some(words)
}

/// A labelled message that is ready to be sent and may wait for that.
pub struct Parcel {
    kind: u8,
    bytes: Vec<u8>,
    buffers: Vec<Block>,
    references: Vec<AnyHandle>,
    descriptors: Vec<OwnedFd>,
    /// What its receiver must have been sent before, by number.
    pub needs: Vec<u64>,
}

impl Parcel {
    /// Puts a label behind a pickle.
    pub fn new(py: Python<'_>, mut pickled: Pickled, label: &Trailer) -> Self {
        let mut bytes = pickled.take_bytes(py, BYTES);
        bytes.extend_from_slice(label);
        Self {
            kind: pickled.kind,
            bytes,
            buffers: std::mem::take(&mut pickled.buffers),
            references: std::mem::take(&mut pickled.references),
            descriptors: std::mem::take(&mut pickled.descriptors),
            needs: Vec::new(),
        }
    }

    /// A label alone.
    pub fn bare(label: &Trailer) -> Self {
        Self {
            kind: transfer::kind::NONE,
            bytes: label.to_vec(),
            buffers: Vec::new(),
            references: Vec::new(),
            descriptors: Vec::new(),
            needs: Vec::new(),
        }
    }

    /// A message that came back unread, its label taken off.
    pub fn again(message: Message, label: &Trailer, needs: Vec<u64>) -> Self {
        let envelope = matches!(message.payload, Payload::Envelope(_));
        let mut bytes = message.payload.into_vec();
        if envelope {
            bytes.truncate(bytes.len() - BYTES); // read past, not cut off
        }
        bytes.extend_from_slice(label);
        Self {
            kind: message.kind,
            bytes,
            buffers: message.buffers,
            references: message.references,
            descriptors: message.descriptors,
            needs,
        }
    }

    pub fn len(&self) -> usize {
        self.bytes.len() + self.buffers.iter().map(Block::len).sum::<usize>()
    }

    /// Whether it is nothing but bytes, which stay here when it is sent.
    pub fn is_bytes(&self) -> bool {
        self.buffers.is_empty() && self.references.is_empty() && self.descriptors.is_empty()
    }

    /// As the channel takes it; what it carries besides bytes has moved out then.
    pub fn outgoing(&mut self) -> Outgoing<'_> {
        Outgoing {
            kind: self.kind,
            payload: &self.bytes,
            buffers: std::mem::take(&mut self.buffers),
            references: std::mem::take(&mut self.references),
            descriptors: std::mem::take(&mut self.descriptors),
        }
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.bytes));
    }
}
