//! What stands behind the pickle in each message of a pool, so that it can always be read, whatever the pickle
//! is: which task this is, and what to make of it. A pickle ends by itself; nobody reads on.

use std::os::fd::OwnedFd;

use bequeath_channel::{Message, Outgoing, Payload};
use bequeath_shm::{AnyHandle, Block};
use pyo3::prelude::*;

use crate::pickle::give_back;
use crate::transfer::{self, Pickled};

/// Bytes of a trailer.
const BYTES: usize = 32;

/// What the pickle of a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Shape {
    /// No task: the worker shall end.
    Stop = 0,
    /// Function, arguments, keyword arguments.
    Call = 1,
    /// An argument of a function that was sent before.
    Item = 2,
    /// A tuple of such: a chunk of `map`.
    Items = 3,
    /// A tuple of tuples of arguments: a chunk of `starmap`.
    Arguments = 4,
    /// A function, or whatever tasks will name by its number.
    Definition = 5,
}

impl Shape {
    fn from_byte(byte: u64) -> Option<Self> {
        [
            Self::Stop,
            Self::Call,
            Self::Item,
            Self::Items,
            Self::Arguments,
            Self::Definition,
        ]
        .into_iter()
        .find(|shape| *shape as u64 == byte)
    }
}

/// What became of a task, or of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// The pickle is the result.
    Returned = 0,
    /// It is the packed exception.
    Raised = 1,
    /// The parent's interrupt ended it.
    Interrupted = 2,
    /// No task: the initializer is done.
    Ready = 3,
    /// No task: the initializer raised this.
    NotReady = 4,
    /// No task, and no worker: the parent's thread asks the one that hears the workers to look around.
    Nudge = 5,
}

impl Verdict {
    fn from_byte(byte: u64) -> Option<Self> {
        [
            Self::Returned,
            Self::Raised,
            Self::Interrupted,
            Self::Ready,
            Self::NotReady,
            Self::Nudge,
        ]
        .into_iter()
        .find(|verdict| *verdict as u64 == byte)
    }
}

/// Behind a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLabel {
    pub task: u64,
    pub shape: Shape,
    /// The number of the function that was sent before.
    pub definition: u64,
}

impl TaskLabel {
    pub fn encode(self) -> [u8; BYTES] {
        words([self.task, self.shape as u64, self.definition, 0])
    }

    /// Takes the label off a message; none when no parent of ours sent it.
    pub fn take(message: &mut Message) -> Option<Self> {
        let [task, shape, definition, _] = take(message)?;
        let shape = Shape::from_byte(shape)?;
        Some(Self {
            task,
            shape,
            definition,
        })
    }
}

/// Behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerLabel {
    pub task: u64,
    pub worker: u32,
    pub verdict: Verdict,
    /// Nanoseconds from its beginning to here.
    pub took: u64,
}

impl AnswerLabel {
    pub fn encode(self) -> [u8; BYTES] {
        words([
            self.task,
            u64::from(self.worker),
            self.verdict as u64,
            self.took,
        ])
    }

    /// Takes the label off a message; none when no worker of ours sent it.
    pub fn take(message: &mut Message) -> Option<Self> {
        let [task, worker, verdict, took] = take(message)?;
        Some(Self {
            task,
            worker: u32::try_from(worker).ok()?,
            verdict: Verdict::from_byte(verdict)?,
            took,
        })
    }
}

fn words(words: [u64; 4]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn take(message: &mut Message) -> Option<[u64; 4]> {
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
    pub fn new(py: Python<'_>, mut pickled: Pickled, label: &[u8; BYTES]) -> Self {
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
    pub fn bare(label: &[u8; BYTES]) -> Self {
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
    pub fn again(message: Message, label: &[u8; BYTES], needs: Vec<u64>) -> Self {
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
