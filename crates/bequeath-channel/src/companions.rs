//! The sockets that a queue needs beside shared memory, fetched or made when first needed.
//!
//! * *Readiness*: one byte or more lies in a socket pair while the queue is not empty, so that `select`, `epoll` and asyncio can watch
//!   it. Invariant at every instruction: *not empty and watched ⇒ readable*. Readable though empty is allowed, and heals: whoever finds the
//!   queue empty under its cell takes the bytes out.
//! * *Parcels*: see `parcel.rs`.
//!
//! All functions that make or find them are called with the queue's cell held, so that there is one pair per queue and purpose.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use bequeath_os::socket::{self, RecvFlags, SendFlags, SocketType};

use crate::board::{self, Purpose};
use crate::broken::{self, Mistake};
use crate::error::{Error, Result};
use crate::pair::Pair;
use crate::queue::Queue;
use crate::state::{State, RAISED, WATCHED};

/// What this process has of a queue's sockets.
pub(crate) struct Companions {
    readiness: Mutex<Option<Arc<Pair>>>,
    parcels: Mutex<Option<Arc<Pair>>>,
}

impl Companions {
    pub(crate) fn new() -> Self {
        Self {
            readiness: Mutex::new(None),
            parcels: Mutex::new(None),
        }
    }

    fn place(&self, purpose: Purpose) -> &Mutex<Option<Arc<Pair>>> {
        match purpose {
            Purpose::Readiness => &self.readiness,
            Purpose::Parcels => &self.parcels,
        }
    }

    /// The pair, if any process of the session made it.
    pub(crate) fn find(&self, queue: &Queue, purpose: Purpose) -> Result<Option<Arc<Pair>>> {
        // The cell that callers hold keeps other threads out. Where the lock is taken all the same, a fork copied it in that state: do without it.
        let known = self
            .place(purpose)
            .try_lock()
            .ok()
            .and_then(|place| place.clone());
        if let Some(pair) = known.filter(|pair| pair.is_intact()) {
            return Ok(Some(pair));
        }
        let found = board::find(queue.session(), queue.reference(), purpose)?.map(Arc::new);
        self.remember(purpose, found.as_ref());
        Ok(found)
    }

    fn remember(&self, purpose: Purpose, pair: Option<&Arc<Pair>>) {
        if let Ok(mut place) = self.place(purpose).try_lock() {
            *place = pair.cloned();
        }
    }

    /// The pair, made if need be.
    pub(crate) fn find_or_make(&self, queue: &Queue, purpose: Purpose) -> Result<Arc<Pair>> {
        if let Some(pair) = self.find(queue, purpose)? {
            return Ok(pair);
        }
        let pair = Pair::create(match purpose {
            Purpose::Readiness => SocketType::Stream,
            Purpose::Parcels => SocketType::SeqPacket,
        })?;
        board::pin(queue.session(), queue.reference(), purpose, &pair)?;
        let pair = Arc::new(pair);
        self.remember(purpose, Some(&pair));
        Ok(pair)
    }

    /// Makes the queue's descriptor readable.
    pub(crate) fn raise(&self, queue: &Queue) -> Result<()> {
        let pair = self.find_or_make(queue, Purpose::Readiness)?;
        match socket::send(
            pair.sender()?,
            &[IoSlice::new(&[1])],
            &[],
            SendFlags::DONTWAIT,
        ) {
            Ok(_) => Ok(()),
            Err(error) if error.would_block() => Ok(()), // full, so it is readable
            Err(error) => Err(error.into()),
        }
    }

    /// Makes it unreadable, as far as this process can: readable though empty is allowed.
    pub(crate) fn lower(&self, queue: &Queue) {
        let Ok(Some(pair)) = self.find(queue, Purpose::Readiness) else {
            return;
        };
        let mut bytes = [0; 256];
        while let Ok(receiver) = pair.receiver() {
            match socket::recv(receiver, &mut bytes, 0, RecvFlags::DONTWAIT) {
                Ok(received) if received.len == bytes.len() => {}
                Err(error) if error.is_interrupted() => {}
                _ => return,
            }
        }
    }
}

impl Queue {
    /// A descriptor that is readable whenever the queue is not empty (and now and then when it is). The number stays good while
    /// the returned value lives; read nothing from it.
    ///
    /// # Errors
    /// When descriptors ran out; [`Error::NoBoard`].
    pub fn readiness(&self) -> Result<OwnedFd> {
        let mut guard = self.lock()?;
        let mut state = State::decode(guard.state())?;
        if broken::is(Mistake::WatchedBeforePinned) {
            let before = state.flags;
            state.flags |= WATCHED;
            guard.stage(state.encode());
            guard.commit_and_hold();
            state.flags = before;
        }
        let pair = self.companions.find_or_make(self, Purpose::Readiness)?;
        if !state.has(WATCHED) {
            if state.count > 0 {
                self.companions.raise(self)?;
                state.flags |= RAISED;
            }
            state.flags |= WATCHED;
            guard.stage(state.encode());
            guard.commit();
        }
        let copy = pair.receiver()?.as_fd().try_clone_to_owned();
        copy.map_err(|_| Error::NoRoomForDescriptors { count: 1 })
    }
}

#[cfg(shuttle)]
impl Queue {
    /// For a model: the process that held this is dead, whose sockets the kernel would have closed.
    pub fn abandon(&self) {
        self.companions.remember(Purpose::Readiness, None);
        self.companions.remember(Purpose::Parcels, None);
    }
}

impl Queue {
    /// Takes back readability of a queue that is empty: for who woke up and found nothing.
    pub fn settle_readiness(&self) {
        let Ok(mut guard) = self.lock() else { return };
        let Ok(mut state) = State::decode(guard.state()) else {
            return;
        };
        if state.count == 0 && state.has(WATCHED) {
            if state.has(RAISED) {
                state.flags &= !RAISED;
                guard.stage(state.encode());
                guard.commit_and_hold();
            }
            self.companions.lower(self);
        }
    }
}
