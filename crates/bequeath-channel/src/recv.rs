//! Receiving: under the cell the oldest record is checked and copied out, then the state without it is committed.

use std::os::fd::OwnedFd;

use bequeath_os::Deadline;
use bequeath_shm::{Block, BlockName, Envelope, Incoming, IncomingEnvelope, Reference, Session};
use bequeath_sync::waiting::Waiting;
use bequeath_sync::{Interrupt, Never};

use crate::broken::{self, Mistake};
use crate::error::{Error, Result};
use crate::message::{Message, Payload};
use crate::queue::{Body, Queue};
use crate::record::{Form, Header, HEADER, LONGEST_PAYLOAD};
use crate::segment::{Segment, FIRST};
use crate::state::{name, State, CLOSED, RAISED, WATCHED};
use crate::{parcel, wait};

/// The oldest record, and the state once it is taken.
struct Taken {
    header: Header,
    segment: Segment,
    at: usize,
    /// A drained segment that leaves the queue with the commit.
    released: Option<Incoming>,
}

/// Finds the oldest record of a queue that is not empty and turns `state` into what remains.
fn take(session: &Session, me: Reference, state: &mut State) -> Result<Taken> {
    let mut segment = Segment::at(session, name(state.head_segment)?)?;
    let at_end = state.head + HEADER > segment.len();
    let mut header = Header::decode(if at_end {
        Header::END
    } else {
        segment.words(state.head)?
    })?;
    let mut released = None;
    if header.form == Form::End {
        let drained = state.head_segment;
        if drained == state.tail_segment {
            return Err(Error::Corrupted("it ends before its tail"));
        }
        state.head_segment = segment.next()?;
        state.head = FIRST;
        segment = Segment::at(session, name(state.head_segment)?)?;
        header = Header::decode(segment.words(FIRST)?)?;
        if state.spare == 0 {
            state.spare = drained;
        } else {
            released = Some(Block::claim(session, name(drained)?, me)?);
        }
    }
    let at = state.head;
    if header.form == Form::End || at + header.size() > segment.len() {
        return Err(Error::Corrupted("a record leaves its segment"));
    }
    state.head += header.size();
    state.count -= 1;
    Ok(Taken {
        header,
        segment,
        at,
        released,
    })
}

impl Taken {
    /// The envelope that the record names and the bytes it carries.
    fn envelope(&self, session: &Session, me: Reference) -> Result<(IncomingEnvelope, u64)> {
        let [word, bytes] = self.segment.words(self.at + HEADER)?;
        let envelope =
            BlockName::from_bits(word).ok_or(Error::Corrupted("an envelope has no name"))?;
        Ok((Envelope::claim(session, envelope, me)?, bytes))
    }
}

impl Queue {
    /// As [`Queue::recv`]; `message` is overwritten, and the room of an inline payload in it is used again.
    ///
    /// # Errors
    /// As [`Queue::recv`].
    pub fn recv_into(
        &self,
        message: &mut Message,
        deadline: Deadline,
        interrupt: &mut dyn Interrupt,
    ) -> Result<()> {
        self.take_oldest(message, deadline, interrupt, true)
    }

    /// Takes the oldest message, if there is one, and leaves its descriptors behind: for one whose
    /// descriptors cannot be had ([`Error::NoRoomForDescriptors`], [`Error::DescriptorsLost`]) and which would
    /// be the oldest for ever.
    ///
    /// # Errors
    /// As [`Queue::recv`].
    pub fn recv_without_descriptors(&self, message: &mut Message) -> Result<()> {
        self.take_oldest(message, Deadline::PAST, &mut Never, false)
    }

    fn take_oldest(
        &self,
        message: &mut Message,
        deadline: Deadline,
        interrupt: &mut dyn Interrupt,
        with_descriptors: bool,
    ) -> Result<()> {
        let body = &*self.handle;
        let mut inline = match std::mem::take(&mut message.payload) {
            Payload::Inline(bytes) => bytes,
            Payload::Envelope(_) => Vec::new(),
        };
        inline.clear();
        inline.reserve(LONGEST_PAYLOAD); // not under the cell
        let mut waiting = Waiting::new();
        loop {
            let mut guard = self.lock_until(deadline, interrupt, Error::Empty)?;
            let mut state = State::decode(guard.state())?;
            if state.count == 0 {
                if state.has(WATCHED) {
                    // Found empty: any readability is spurious, whatever the flag says.
                    if state.has(RAISED) {
                        state.flags &= !RAISED;
                        guard.stage(state.encode());
                        guard.commit_and_hold();
                    }
                    self.companions.lower(self);
                }
                if state.has(CLOSED) {
                    return Err(Error::Closed);
                }
                wait::sleep(
                    guard,
                    &body.not_empty,
                    deadline,
                    interrupt,
                    Error::Empty,
                    &mut waiting,
                )?;
                continue;
            }
            let taken = take(self.session(), self.reference(), &mut state)?;
            let (mut header, mut envelope, mut bytes) =
                (taken.header, None, taken.header.len as u64);
            let wakes = body.capacity().is_some() || header.descriptors > 0;
            if !with_descriptors {
                // Their parcel, if it is there, is smaller than the next one that is looked for, and dropped then.
                header.descriptors = 0;
            }
            if header.form == Form::Inline {
                taken
                    .segment
                    .read(taken.at + HEADER, header.len, &mut inline)?;
            } else {
                let (incoming, carried) = taken.envelope(self.session(), self.reference())?;
                (envelope, bytes) = (Some(incoming), carried);
            }
            let mut descriptors: Vec<OwnedFd> = Vec::new();
            if header.descriptors > 0 {
                descriptors = parcel::peek(self, header.parcel, usize::from(header.descriptors))?;
            }
            state.bytes = state.bytes.saturating_sub(bytes);
            let lowers = state.count == 0 && state.has(RAISED);
            if lowers {
                state.flags &= !RAISED;
            }
            if header.descriptors > 0 && broken::is(Mistake::DiscardBeforeCommit) {
                parcel::discard(self);
            }
            state.receiver = guard.holder().pid();
            guard.stage(state.encode());
            if lowers || header.descriptors > 0 {
                guard.commit_and_hold();
                if lowers {
                    self.companions.lower(self);
                }
                if header.descriptors > 0 && !broken::is(Mistake::DiscardBeforeCommit) {
                    parcel::discard(self);
                }
            }
            if wakes {
                guard.commit_and_wake(&body.not_full, 1);
            } else {
                guard.commit();
            }
            drop(taken.released.map(Incoming::accept));
            message.kind = header.kind;
            message.descriptors = descriptors;
            message.buffers = Vec::new();
            message.references = Vec::new();
            message.payload = match envelope.map(IncomingEnvelope::accept) {
                None => Payload::Inline(inline),
                Some(mut envelope) => {
                    message.buffers = envelope.take_blocks()?;
                    message.references = envelope.take_references()?;
                    Payload::Envelope(envelope)
                }
            };
            return Ok(());
        }
    }
}

/// Who sent the oldest message of a queue that is not empty.
pub(crate) fn oldest_sender(session: &Session, state: &State) -> Option<u32> {
    oldest(session, state).ok().map(|header| header.sender)
}

fn oldest(session: &Session, state: &State) -> Result<Header> {
    let segment = Segment::at(session, name(state.head_segment)?)?;
    let fits = state.head + HEADER <= segment.len();
    let header = Header::decode(if fits {
        segment.words(state.head)?
    } else {
        Header::END
    })?;
    if header.form != Form::End {
        return Ok(header);
    }
    let next = Segment::at(session, name(segment.next()?)?)?;
    Header::decode(next.words(FIRST)?)
}

/// Frees all that a queue to which nobody refers holds, one commit at a time: whoever continues after our death finds the rest.
pub(crate) fn empty_out(body: &Body, session: &Session, me: Reference) {
    while let Ok(true) = drop_one(body, session, me) {}
    while let Ok(true) = drop_segment(body, session, me) {}
    crate::board::forget(session, me);
}

fn drop_one(body: &Body, session: &Session, me: Reference) -> Result<bool> {
    let mut guard = body.cell.lock();
    let mut state = State::decode(guard.state())?;
    if state.count == 0 {
        return Ok(false);
    }
    let taken = take(session, me, &mut state)?;
    let mut envelope = None;
    if taken.header.form == Form::Envelope {
        envelope = Some(taken.envelope(session, me)?.0);
    }
    guard.stage(state.encode());
    guard.commit();
    drop(taken.released.map(Incoming::accept));
    // May run the end of further objects: nothing is locked here.
    drop(envelope.map(IncomingEnvelope::accept));
    Ok(true)
}

fn drop_segment(body: &Body, session: &Session, me: Reference) -> Result<bool> {
    let mut guard = body.cell.lock();
    let mut state = State::decode(guard.state())?;
    let word = if state.spare != 0 {
        state.spare
    } else {
        state.tail_segment
    };
    if word == 0 {
        return Ok(false);
    }
    let claimed = Block::claim(session, name(word)?, me)?;
    if state.spare != 0 {
        state.spare = 0;
    } else {
        (state.head_segment, state.tail_segment) = (0, 0);
    }
    guard.stage(state.encode());
    guard.commit();
    drop(claimed.accept());
    Ok(true)
}
