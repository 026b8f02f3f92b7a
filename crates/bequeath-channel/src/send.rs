//! Sending: everything costly happens before the cell is locked; under it a record is appended and committed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bequeath_os::socket::MAX_DESCRIPTORS;
use bequeath_os::Deadline;
use bequeath_shm::{Block, Envelope, Outgoing as Moving, Room};
use bequeath_sync::waiting::Waiting;
use bequeath_sync::{Interrupt, ProcessId};

use crate::broken::{self, Mistake};
use crate::error::{Error, Result};
use crate::message::Outgoing;
use crate::queue::Queue;
use crate::record::{self, Form, Header, HEADER};
use crate::segment::{segment_bytes, Segment, FIRST};
use crate::state::{name, State, RAISED, WATCHED};
use crate::{parcel, wait};

/// A message ready to be appended. Dropped unsent, all that it holds is freed.
pub struct Prepared<'a> {
    header: Header,
    body: Content<'a>,
    descriptors: Vec<OwnedFd>,
    /// Bytes of payload, for the queue's account.
    bytes: u64,
}

enum Content<'a> {
    Inline(&'a [u8]),
    /// The envelope on its way in, until it has arrived.
    Envelope(Option<Moving>),
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(queue: &Queue, message: Outgoing<'a>) -> Result<Self> {
        let Outgoing {
            kind,
            payload,
            buffers,
            references,
            descriptors,
        } = message;
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(Error::TooManyDescriptors {
                count: descriptors.len(),
                limit: MAX_DESCRIPTORS,
            });
        }
        let count = descriptors.len() as u16;
        let header = |form, len| Header {
            form,
            kind,
            len,
            descriptors: count,
            parcel: 0,
            sender: ProcessId::current().pid(),
        };
        if payload.len() <= queue.handle.longest_inline()
            && buffers.is_empty()
            && references.is_empty()
        {
            let header = header(Form::Inline, payload.len());
            return Ok(Self {
                header,
                body: Content::Inline(payload),
                descriptors,
                bytes: payload.len() as u64,
            });
        }
        let bytes = (payload.len() + buffers.iter().map(Block::len).sum::<usize>()) as u64;
        let room = Room {
            payload: payload.len(),
            blocks: buffers.len(),
            references: references.len(),
        };
        let mut envelope = Envelope::new(queue.session(), room)
            .map_err(|error| over_budget(queue, bytes, error))?;
        envelope.write_payload(0, payload);
        for block in buffers {
            envelope.attach_block(block)?;
        }
        for handle in &references {
            envelope
                .attach_reference(handle)
                .map_err(|error| over_budget(queue, bytes, error))?;
        }
        let moving = envelope.prepare(queue.reference());
        let header = header(Form::Envelope, record::ENVELOPE_PAYLOAD);
        Ok(Self {
            header,
            body: Content::Envelope(Some(moving)),
            descriptors,
            bytes,
        })
    }

    fn write(&self, segment: Segment, at: usize) -> Result<()> {
        segment.set_words(at, self.header.encode())?;
        match &self.body {
            Content::Inline(payload) => segment.write(at + HEADER, payload),
            Content::Envelope(Some(moving)) => {
                segment.set_words(at + HEADER, [moving.name().to_bits(), self.bytes])
            }
            Content::Envelope(None) => Err(Error::Closed),
        }
    }

    /// The commit is done: the envelope is the queue's.
    fn arrived(&mut self) {
        if let Content::Envelope(moving) = &mut self.body {
            if let Some(moving) = moving.take() {
                moving.settle_queued();
            }
        }
        self.descriptors.clear();
    }
}

impl Queue {
    /// What to say when memory for `bytes` bytes of a message to this queue was refused.
    #[must_use]
    pub fn refused(&self, bytes: u64, why: bequeath_shm::Error) -> Error {
        over_budget(self, bytes, why)
    }
}

fn over_budget(queue: &Queue, bytes: u64, error: bequeath_shm::Error) -> Error {
    match (error, queue.state()) {
        (source, Ok(state)) if source.is_out_of_memory() => Error::Budget {
            queue: queue.maker(),
            message: bytes,
            count: state.count,
            queued: state.bytes,
            source,
        },
        (error, _) => error.into(),
    }
}

/// What became of an attempt to append.
enum Appended {
    /// Staged nothing yet: the new state, and a segment that moves in with it.
    Done(Option<Moving>),
    /// The tail is full and nothing is spare.
    NeedsSegment,
}

impl Queue {
    /// Appends a prepared message, waiting for room until the deadline. A message is sent once: sending it again is [`Error::Closed`] or sends it
    /// again without what it carried.
    ///
    /// # Errors
    /// As [`Queue::send`]; except after success, `prepared` can be tried again.
    pub fn send_prepared(
        &self,
        prepared: &mut Prepared<'_>,
        deadline: Deadline,
        interrupt: &mut dyn Interrupt,
    ) -> Result<()> {
        let body = &*self.handle;
        let mut fresh: Option<Block> = None;
        let mut waiting = Waiting::new();
        loop {
            let mut guard = self.lock_until(deadline, interrupt, Error::Full)?;
            let mut state = State::decode(guard.state())?;
            if state.refuses() {
                return Err(Error::Closed);
            }
            if body
                .capacity()
                .is_some_and(|capacity| state.count >= capacity)
            {
                wait::sleep(
                    guard,
                    &body.not_full,
                    deadline,
                    interrupt,
                    Error::Full,
                    &mut waiting,
                )?;
                continue;
            }
            let before = state;
            prepared.header.parcel = if prepared.descriptors.is_empty() {
                0
            } else {
                state.parcel + 1
            };
            let moving = match self.append(&mut state, prepared, &mut fresh)? {
                Appended::Done(moving) => moving,
                Appended::NeedsSegment => {
                    // Never allocated under the cell: allocation may have to ask every object about its blocks.
                    drop(guard);
                    let block = self.session().allocate(segment_bytes(self.session()));
                    fresh = Some(block.map_err(|error| over_budget(self, prepared.bytes, error))?);
                    continue;
                }
            };
            state.count += 1;
            if !broken::is(Mistake::WorkCountedLater) {
                state.unfinished += 1;
            }
            state.bytes = state.bytes.saturating_add(prepared.bytes);
            if !prepared.descriptors.is_empty() {
                // The number is committed before the parcel is sent: should we die in between, nobody sends another under the same number.
                state.parcel += 1;
                if !broken::is(Mistake::NumberNotConsumed) {
                    let consumed = State {
                        parcel: state.parcel,
                        ..before
                    };
                    guard.stage(consumed.encode());
                    guard.commit_and_hold();
                }
                if !self.send_parcel(before.count, prepared)? {
                    wait::sleep(
                        guard,
                        &body.not_full,
                        deadline,
                        interrupt,
                        Error::Full,
                        &mut waiting,
                    )?;
                    continue;
                }
            }
            if state.has(WATCHED) && !state.has(RAISED) {
                // Raised before the commit that says so: "not empty" implies "readable" at every instruction.
                if !broken::is(Mistake::RaiseAfterCommit) {
                    self.companions.raise(self)?;
                }
                state.flags |= RAISED;
            }
            if broken::is(Mistake::SettleBeforeCommit) {
                prepared.arrived();
            }
            guard.stage(state.encode());
            if broken::is(Mistake::CommitBeforeBytes)
                || broken::is(Mistake::RaiseAfterCommit)
                || broken::is(Mistake::WorkCountedLater)
            {
                guard.commit_and_hold();
                self.repent(&mut state, prepared)?;
                guard.stage(state.encode());
            }
            guard.commit_and_wake(&body.not_empty, 1);
            if let Some(moving) = moving {
                moving.settle_kept();
            }
            prepared.arrived();
            return Ok(());
        }
    }

    /// Does late what a deliberate mistake left undone.
    #[cold]
    fn repent(&self, state: &mut State, prepared: &Prepared<'_>) -> Result<()> {
        if broken::is(Mistake::WorkCountedLater) {
            state.unfinished += 1;
            return Ok(());
        }
        if broken::is(Mistake::RaiseAfterCommit) {
            return self.companions.raise(self);
        }
        let segment = Segment::at(self.session(), name(state.tail_segment)?)?;
        prepared.write(segment, state.tail - prepared.header.size())
    }

    /// Sends the message's descriptors ahead; false when the kernel has no room for them.
    fn send_parcel(&self, count: u64, prepared: &Prepared<'_>) -> Result<bool> {
        let descriptors: Vec<BorrowedFd<'_>> =
            prepared.descriptors.iter().map(AsFd::as_fd).collect();
        let number = prepared.header.parcel;
        if parcel::send(self, number, &descriptors)? {
            return Ok(true);
        }
        if count > 0 {
            return Ok(false);
        }
        // No record names any of those that fill the socket: they were left by the dead.
        parcel::discard_all(self);
        parcel::send(self, number, &descriptors)
    }

    /// Writes the record behind the tail, in a further segment where needed.
    fn append(
        &self,
        state: &mut State,
        prepared: &Prepared<'_>,
        fresh: &mut Option<Block>,
    ) -> Result<Appended> {
        let size = prepared.header.size();
        if state.count == 0 && state.tail_segment != 0 {
            // Nothing is reachable: start over at the front of the warm segment.
            state.head_segment = state.tail_segment;
            state.head = FIRST;
            state.tail = FIRST;
        }
        let mut moving = None;
        let segment =
            if state.tail_segment != 0 && state.tail + size <= segment_bytes(self.session()) {
                Segment::at(self.session(), name(state.tail_segment)?)?
            } else {
                let (word, segment) = if state.spare != 0 {
                    let word = std::mem::take(&mut state.spare);
                    (word, Segment::at(self.session(), name(word)?)?)
                } else if let Some(block) = fresh.take() {
                    let segment = Segment::in_block(&block)?;
                    let outgoing = block.prepare(self.reference());
                    let word = outgoing.name().to_bits();
                    moving = Some(outgoing);
                    (word, segment)
                } else {
                    return Ok(Appended::NeedsSegment);
                };
                self.link(state, word, segment)?;
                segment
            };
        if !broken::is(Mistake::CommitBeforeBytes) {
            prepared.write(segment, state.tail)?;
        }
        state.tail += size;
        Ok(Appended::Done(moving))
    }

    /// Makes a segment the tail. What is written into the old one lies beyond the committed tail.
    fn link(&self, state: &mut State, word: u64, segment: Segment) -> Result<()> {
        segment.set_next(0)?;
        if state.tail_segment == 0 {
            state.head_segment = word;
            state.head = FIRST;
        } else {
            let old = Segment::at(self.session(), name(state.tail_segment)?)?;
            old.set_next(word)?;
            if state.tail + HEADER <= old.len() {
                old.set_words(state.tail, Header::END)?;
            }
        }
        state.tail_segment = word;
        state.tail = FIRST;
        Ok(())
    }
}
