#![allow(unsafe_code)]
//! The queue: many senders, many receivers, records in chained segments of shared memory.
//!
//! Everything true about a queue is in the committed copy of one cell (`State`); what a send or receive prepares lies beyond
//! what that copy reaches, so a death at any instruction leaves the queue as it was or as it was to become. The steps and what each
//! death means are argued in the crate's README.
//!
//! # Safety invariants
//! [`Body`] is `repr(C)`, atomics only, valid for every bit pattern, and all zero is an empty unbounded queue: what [`Object`] asks.

use bequeath_os::Deadline;
use bequeath_shm::{kind, AnyHandle, BlockName, Handle, Maker, Object, Reference, Session};
use bequeath_sync::atomic::{AtomicU64, Ordering};
use bequeath_sync::waiting::Waiting;
use bequeath_sync::{Cell, Guard, Interrupt, WaitWord};

use crate::broken::{self, Mistake};
use crate::companions::Companions;
use crate::error::{Error, Result};
use crate::message::{Message, Outgoing};
use crate::record::LONGEST_PAYLOAD;
use crate::segment::segment_bytes;
use crate::send::Prepared;
use crate::state::{State, CLOSED, REFUSING, WORDS};
use crate::wait;

/// What all processes share of a queue.
#[repr(C)]
pub struct Body {
    pub(crate) cell: Cell<WORDS>,
    pub(crate) not_empty: WaitWord,
    pub(crate) not_full: WaitWord,
    pub(crate) all_done: WaitWord,
    /// 0 = unbounded.
    pub(crate) capacity: AtomicU64,
    /// Payloads up to this travel inside records; 0 = as long as a record may be.
    longest_inline: AtomicU64,
    /// Bytes of its segments, for onlookers.
    pub(crate) segment: AtomicU64,
}

const _: () = assert!(std::mem::size_of::<Body>() == 256);

// SAFETY: see the module's invariants.
unsafe impl Object for Body {
    const KIND: u32 = kind::QUEUE;

    fn destroy(&self, session: &Session, me: Reference) {
        crate::recv::empty_out(self, session, me);
    }

    fn refers_to(&self, session: &Session, me: Reference, block: BlockName) -> bool {
        let _ = me;
        crate::walk::refers_to(self, session, block)
    }
}

impl Body {
    pub(crate) fn capacity(&self) -> Option<u64> {
        let capacity = self.capacity.load(Ordering::Relaxed);
        (capacity != 0).then_some(capacity)
    }

    pub(crate) fn longest_inline(&self) -> usize {
        match self.longest_inline.load(Ordering::Relaxed) {
            0 => LONGEST_PAYLOAD,
            limit => usize::try_from(limit)
                .unwrap_or(LONGEST_PAYLOAD)
                .min(LONGEST_PAYLOAD),
        }
    }
}

/// How a new queue differs from the usual one.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Most messages at a time; `None` = as many as the session's memory holds.
    pub capacity: Option<u64>,
    /// Payloads longer than this travel in an envelope; `None` = what a record holds. Lowered by tests, so that few instructions lead there.
    pub longest_inline: Option<usize>,
}

/// A queue's state, in words for people.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Account {
    /// Messages in it.
    pub count: u64,
    /// The most there may be.
    pub capacity: Option<u64>,
    /// The pid of who sent the oldest of them.
    pub oldest_from: Option<u32>,
    /// How many processes and messages refer to the queue.
    pub references: u64,
    /// Who made it, and where.
    pub maker: bequeath_shm::Maker,
    /// How many wait for a message; the dead may be among them.
    pub receivers_waiting: u32,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the queue made at {} ", self.maker)?;
        match self.capacity {
            Some(capacity) => write!(f, "holds {} of {capacity} messages", self.count)?,
            None => write!(f, "holds {} messages", self.count)?,
        }
        if let Some(pid) = self.oldest_from {
            write!(f, ", the oldest from process {pid}")?;
        }
        match self.references {
            0 | 1 => f.write_str("; no other process has it")?,
            count => write!(f, "; {count} processes and messages refer to it")?,
        }
        if self.receivers_waiting > 0 {
            write!(f, "; {} others wait for a message", self.receivers_waiting)?;
        }
        Ok(())
    }
}

/// A queue as this process holds it. Messages of one sender arrive in the order sent.
///
/// # Errors
/// Each method says which [`Error`] it can meet; shared memory that no queue writes is [`Error::Corrupted`].
///
/// # After fork
/// Valid in the child, which is a sender and receiver of its own; a message taken by the parent is the parent's only.
///
/// # If a peer dies
/// A sender's message is there wholly or not at all. What a receiver had taken dies with it; whatever it had not taken is taken by another.
/// A survivor's next operation takes milliseconds more when the dead held the cell.
pub struct Queue {
    pub(crate) handle: Handle<Body>,
    pub(crate) companions: Companions,
}

impl Queue {
    /// A new, empty queue; `capacity` bounds the number of messages.
    ///
    /// # Errors
    /// The session's, for lack of memory.
    #[track_caller]
    pub fn create(session: &Session, capacity: Option<u64>) -> Result<Self> {
        Self::with_options(
            session,
            Options {
                capacity,
                ..Options::default()
            },
        )
    }

    /// A new, empty queue.
    ///
    /// # Errors
    /// The session's, for lack of memory.
    #[track_caller]
    pub fn with_options(session: &Session, options: Options) -> Result<Self> {
        let handle = session.create_object::<Body>(|body| {
            body.segment
                .store(segment_bytes(session) as u64, Ordering::Relaxed);
            body.capacity
                .store(options.capacity.unwrap_or(0), Ordering::Relaxed);
            body.longest_inline.store(
                options.longest_inline.unwrap_or(0) as u64,
                Ordering::Relaxed,
            );
        })?;
        Ok(Self {
            handle,
            companions: Companions::new(),
        })
    }

    /// The queue that a received handle refers to.
    ///
    /// # Errors
    /// The session's, for an object of another kind.
    pub fn from_handle(handle: &AnyHandle) -> Result<Self> {
        Ok(Self {
            handle: handle.downcast::<Body>()?,
            companions: Companions::new(),
        })
    }

    /// A handle to pass on.
    #[must_use]
    pub fn handle(&self) -> AnyHandle {
        self.handle.erase()
    }

    /// Its name.
    #[must_use]
    pub fn reference(&self) -> Reference {
        self.handle.reference()
    }

    /// Who made it, and at which line of its program.
    #[must_use]
    pub fn maker(&self) -> Maker {
        self.handle.maker()
    }

    /// The session it lives in.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.handle.session()
    }

    /// Most messages at a time.
    #[must_use]
    pub fn capacity(&self) -> Option<u64> {
        self.handle.capacity()
    }

    /// Appends a message, waiting for room until the deadline.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Closed`], [`Error::Budget`], [`Error::Interrupted`], descriptors' and system errors. Nothing was sent then.
    pub fn send(
        &self,
        message: Outgoing<'_>,
        deadline: Deadline,
        interrupt: &mut dyn Interrupt,
    ) -> Result<()> {
        let mut prepared = self.prepare(message)?;
        self.send_prepared(&mut prepared, deadline, interrupt)
    }

    /// Makes a message ready: large payloads and handles move into an envelope of the arena. Needs no lock.
    ///
    /// # Errors
    /// [`Error::Budget`], [`Error::TooManyDescriptors`], and the session's.
    pub fn prepare<'a>(&self, message: Outgoing<'a>) -> Result<Prepared<'a>> {
        Prepared::new(self, message)
    }

    /// Takes the oldest message, waiting for one until the deadline.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Closed`] once nothing is left, [`Error::Interrupted`], [`Error::NoRoomForDescriptors`] (the message stays).
    pub fn recv(&self, deadline: Deadline, interrupt: &mut dyn Interrupt) -> Result<Message> {
        let mut message = Message::default();
        self.recv_into(&mut message, deadline, interrupt)?;
        Ok(message)
    }

    /// Locks the cell, if this process may.
    pub(crate) fn lock(&self) -> Result<Guard<'_, WORDS>> {
        self.session().check_at_home()?;
        Ok(self.handle.cell.lock())
    }

    /// As [`lock`](Self::lock); `late` when the cell's owner is stopped and the deadline passes.
    #[inline]
    pub(crate) fn lock_until(
        &self,
        deadline: Deadline,
        interrupt: &mut dyn Interrupt,
        late: Error,
    ) -> Result<Guard<'_, WORDS>> {
        self.session().check_at_home()?;
        wait::lock(&self.handle.cell, deadline, interrupt, late)
    }

    /// The committed state.
    pub(crate) fn state(&self) -> Result<State> {
        State::decode(self.lock()?.state())
    }

    /// How many messages are in it, exactly.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn len(&self) -> Result<u64> {
        Ok(self.state()?.count)
    }

    /// As [`len`](Self::len) without the cell, which somebody may hold who was stopped: what was sent before this
    /// was called is counted, what is just being sent or received may be or not.
    ///
    /// # Errors
    /// When the session is another process's.
    pub fn len_at_a_glance(&self) -> Result<u64> {
        self.session().check_at_home()?;
        Ok(State::count_of(self.handle.cell.peek()))
    }

    /// Whether somebody is in the middle of an operation at this moment. A hint: it may be over when this returns.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.handle.cell.owner().is_some()
    }

    /// What there is to say when somebody waited in vain. Cheap, but not free.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn account(&self) -> Result<Account> {
        let guard = self.lock()?;
        let state = State::decode(guard.state())?;
        let oldest_from = (state.count > 0)
            .then(|| crate::recv::oldest_sender(self.session(), &state))
            .flatten();
        drop(guard);
        let header = self.handle().identity();
        Ok(Account {
            count: state.count,
            capacity: self.capacity(),
            oldest_from,
            references: header.as_ref().map_or(0, |header| header.count),
            maker: header.map(|header| header.maker).unwrap_or_default(),
            receivers_waiting: self.handle.not_empty.sleepers(),
        })
    }

    /// Whether no message is in it.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Whether a sender would have to wait.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn is_full(&self) -> Result<bool> {
        Ok(self
            .capacity()
            .is_some_and(|capacity| self.len().is_ok_and(|len| len >= capacity)))
    }

    /// Messages sent and not yet reported done.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn unfinished(&self) -> Result<u64> {
        Ok(self.state()?.unfinished)
    }

    /// Locks the cell, and reads the state.
    fn lock_state(&self) -> Result<(Guard<'_, WORDS>, State)> {
        let early = broken::is(Mistake::ReadBeforeHeld).then(|| self.state());
        let guard = self.lock()?;
        let state = early.unwrap_or_else(|| State::decode(guard.state()))?;
        Ok((guard, state))
    }

    /// Reports that the work for one received message is done.
    ///
    /// # Errors
    /// [`Error::TooManyDone`].
    pub fn task_done(&self) -> Result<()> {
        let (mut guard, mut state) = self.lock_state()?;
        if broken::is(Mistake::ToldBeforeDone) && state.unfinished == 1 {
            guard.commit_and_wake(&self.handle.all_done, u32::MAX >> 1);
            (guard, state) = self.lock_state()?;
        }
        state.unfinished = state.unfinished.checked_sub(1).ok_or(Error::TooManyDone)?;
        guard.stage(state.encode());
        if state.unfinished == 0 {
            guard.commit_and_wake(&self.handle.all_done, u32::MAX >> 1);
        } else {
            guard.commit();
        }
        Ok(())
    }

    /// Waits until every message sent was reported done.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::Interrupted`].
    pub fn join(&self, deadline: Deadline, interrupt: &mut dyn Interrupt) -> Result<()> {
        let mut waiting = Waiting::new();
        loop {
            let guard = self.lock_until(deadline, interrupt, Error::TimedOut)?;
            if State::decode(guard.state())?.unfinished == 0 {
                return Ok(());
            }
            let woken = wait::sleep(
                guard,
                &self.handle.all_done,
                deadline,
                interrupt,
                Error::TimedOut,
                &mut waiting,
            )?;
            if woken && broken::is(Mistake::ToldBeforeDone) {
                return Ok(());
            }
        }
    }

    /// Waits until there is a message, without taking it.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Closed`], [`Error::Interrupted`].
    pub fn wait_message(&self, deadline: Deadline, interrupt: &mut dyn Interrupt) -> Result<()> {
        let mut waiting = Waiting::new();
        loop {
            let guard = self.lock_until(deadline, interrupt, Error::Empty)?;
            let state = State::decode(guard.state())?;
            if state.count > 0 {
                // A wake that was meant for a receiver may have come to us: hand it on.
                guard.commit_and_wake(&self.handle.not_empty, 1);
                return Ok(());
            }
            if state.has(CLOSED) {
                return Err(Error::Closed);
            }
            wait::sleep(
                guard,
                &self.handle.not_empty,
                deadline,
                interrupt,
                Error::Empty,
                &mut waiting,
            )?;
        }
    }

    /// Closes it for everybody: senders are refused, receivers take what is left and then get [`Error::Closed`].
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn close(&self) -> Result<()> {
        let (mut guard, mut state) = self.lock_state()?;
        if broken::is(Mistake::ClosedInTwoSteps) {
            state.flags |= REFUSING;
            guard.stage(state.encode());
            guard.commit_and_hold();
        }
        state.flags |= CLOSED;
        guard.stage(state.encode());
        guard.commit_and_wake(&self.handle.not_empty, u32::MAX >> 1);
        self.handle
            .cell
            .lock()
            .commit_and_wake(&self.handle.not_full, u32::MAX >> 1);
        Ok(())
    }
}
