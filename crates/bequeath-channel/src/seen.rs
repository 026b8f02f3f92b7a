//! What the words of a queue say, read from a copy by somebody who is no part of it: nothing is locked
//! or changed, and whatever the words are, nothing worse happens than that nonsense is told or reading
//! stops.

use std::collections::BTreeMap;
use std::mem::offset_of;

use bequeath_shm::BlockName;
use bequeath_sync::{seen, ProcessId};

use crate::queue::Body;
use crate::record::{Form, Header, HEADER};
use crate::segment::{FIRST, LONGEST_SEGMENT};
use crate::state::{State, CLOSED, WATCHED, WORDS};

/// No more messages than this are looked at for their senders.
const MOST: u64 = 100_000;

/// A queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSeen {
    /// Messages in it.
    pub count: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// The most messages there may be.
    pub capacity: Option<u64>,
    /// Messages that nobody reported as done.
    pub unfinished: u64,
    /// Whether it is closed for everybody.
    pub closed: bool,
    /// Whether somebody polls it by descriptor.
    pub watched: bool,
    /// The pid of who took the last message.
    pub last_receiver: Option<u32>,
    /// Who is changing it at this moment.
    pub cell_held_by: Option<ProcessId>,
}

/// What a thread waits for that sleeps on a word of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueWait {
    /// A message.
    Message,
    /// Room for one.
    Room,
    /// That all work is reported done.
    Done,
    /// That whoever changes the queue is through.
    Cell,
}

/// Reads the body of a queue; `None` when the words are no queue's.
#[must_use]
pub fn read(words: &[u64]) -> Option<QueueSeen> {
    let (state, cell_held_by) = seen::cell::<WORDS>(words)?;
    let state = State::decode(state).ok()?;
    let capacity = *words.get(offset_of!(Body, capacity) / 8)?;
    Some(QueueSeen {
        count: state.count,
        bytes: state.bytes,
        capacity: (capacity != 0).then_some(capacity),
        unfinished: state.unfinished,
        closed: state.has(CLOSED),
        watched: state.has(WATCHED),
        last_receiver: (state.receiver != 0).then_some(state.receiver),
        cell_held_by,
    })
}

/// What somebody waits for who sleeps at this offset of the body.
#[must_use]
pub fn wait_at(offset: usize) -> Option<QueueWait> {
    let places = [
        (offset_of!(Body, cell), QueueWait::Cell),
        (offset_of!(Body, not_empty), QueueWait::Message),
        (offset_of!(Body, not_full), QueueWait::Room),
        (offset_of!(Body, all_done), QueueWait::Done),
    ];
    let found = places.iter().find(|place| place.0 == offset);
    found.map(|place| place.1)
}

/// How many of the messages in the queue each process sent, by pid. `copy` gives words of the
/// arena from an offset on.
pub fn senders(
    words: &[u64],
    mut copy: impl FnMut(u64, usize) -> Option<Vec<u64>>,
) -> BTreeMap<u32, u64> {
    let mut found = BTreeMap::new();
    let state = seen::cell::<WORDS>(words).and_then(|(state, _)| State::decode(state).ok());
    if let Some(state) = state {
        let bytes = words.get(offset_of!(Body, segment) / 8).copied();
        let bytes = bytes.unwrap_or(0).min(LONGEST_SEGMENT as u64) as usize;
        walk(&state, bytes, &mut copy, &mut found);
    }
    found
}

/// The pid of who sent the last message, also when it was taken already: as long as its record has not
/// been written over. `copy` as for [`senders`].
pub fn last_sender(
    words: &[u64],
    mut copy: impl FnMut(u64, usize) -> Option<Vec<u64>>,
) -> Option<u32> {
    let state = State::decode(seen::cell::<WORDS>(words)?.0).ok()?;
    let segment = copy(BlockName::from_bits(state.tail_segment)?.offset, state.tail)?;
    let (mut at, mut last) = (FIRST, None);
    while at < state.tail {
        let header = Header::decode([*segment.get(at / 8)?, *segment.get(at / 8 + 1)?]).ok()?;
        last = Some(header.sender);
        at += header.size();
    }
    last
}

fn walk(
    state: &State,
    bytes: usize,
    copy: &mut dyn FnMut(u64, usize) -> Option<Vec<u64>>,
    found: &mut BTreeMap<u32, u64>,
) -> Option<()> {
    let (mut name, mut at) = (state.head_segment, state.head);
    let mut left = state.count.min(MOST);
    // Every segment but the first holds a message: a ring of empty ones ends here.
    let mut hops = left + 1;
    while left > 0 && hops > 0 {
        hops -= 1;
        let segment = copy(BlockName::from_bits(name)?.offset, bytes)?;
        while left > 0 {
            let words = match segment.get(at / 8..at / 8 + 2) {
                Some(words) if at + HEADER <= bytes => [words[0], words[1]],
                _ => Header::END,
            };
            let header = Header::decode(words).ok()?;
            if header.form == Form::End {
                (name, at) = (*segment.first()?, FIRST);
                break;
            }
            *found.entry(header.sender).or_insert(0) += 1;
            at += header.size();
            left -= 1;
        }
    }
    Some(())
}
