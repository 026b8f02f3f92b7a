//! A session for one test, with peers that are members of it.
#![allow(dead_code)]

#[cfg(shuttle)]
pub mod ending;
#[cfg(shuttle)]
pub mod model;
pub mod scenario;
pub mod waits;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, OnceLock};

use bequeath_channel::{board, Outgoing, Queue};
use bequeath_os::Deadline;
use bequeath_shm::{ForkTicket, Options, Session};
use bequeath_sync::Never;
use bequeath_testing::Peer;

/// Tests that fork and count descriptors take turns.
static TURN: Mutex<()> = Mutex::new(());

pub struct World {
    pub session: Session,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl World {
    pub fn new() -> Self {
        let turn = TURN
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Self {
            _turn: Some(turn),
            ..Self::without_turn()
        }
    }

    /// For a driver that has its turn already.
    pub fn without_turn() -> Self {
        let session = Session::create(&Options::default()).unwrap();
        static BOARD: OnceLock<()> = OnceLock::new();
        BOARD.get_or_init(|| board::create().unwrap());
        Self {
            session,
            _turn: None,
        }
    }

    pub fn queue(&self, capacity: Option<u64>) -> Queue {
        Queue::create(&self.session, capacity).unwrap()
    }

    /// A forked member of the session.
    pub fn spawn(&self, body: impl FnOnce()) -> Peer {
        let mut announced = self.announce();
        let peer = Peer::spawn(|| {
            announced.enter(&self.session);
            body();
        });
        announced.forked(&self.session, peer.pid());
        peer
    }

    /// Before a fork: the child will be a member from its first instruction on.
    pub fn announce(&self) -> Announced {
        Announced(Some(self.session.before_fork().unwrap()))
    }

    /// After all that was made is dropped.
    pub fn is_empty(&self) {
        self.session.scavenge();
        let usage = self.session.usage().unwrap();
        assert_eq!(
            (usage.places, usage.references),
            (0, 0),
            "leaked: {usage:?}"
        );
    }

    /// Overwrites the header of the record with this payload, as a member that ran amok might.
    pub fn scribble(&self, payload: &[u8], header: [u64; 2]) {
        let file = File::from(
            self.session
                .descriptor()
                .unwrap()
                .try_clone_to_owned()
                .unwrap(),
        );
        for place in self.session.census().unwrap().places {
            let mut piece = vec![0; place.backed as usize];
            let at = place.name.offset;
            file.read_exact_at(&mut piece, at).unwrap();
            let mut places = (0..piece.len().saturating_sub(payload.len())).step_by(16);
            if let Some(found) = places.find(|&place| piece[place..].starts_with(payload)) {
                let bytes: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
                file.write_all_at(&bytes, at + found as u64 - 16).unwrap();
                return;
            }
        }
        panic!("the record is not in the arena");
    }
}

/// A child that is about to be forked.
pub struct Announced(Option<ForkTicket>);

impl Announced {
    /// In the parent, once it is.
    pub fn forked(&mut self, session: &Session, child: u32) {
        session.after_fork_parent(self.0.take().unwrap(), Some(child));
    }

    /// In the child.
    pub fn enter(&mut self, session: &Session) {
        session.after_fork_child(self.0.take().unwrap()).unwrap();
    }
}

pub fn put(queue: &Queue, kind: u8, bytes: &[u8]) {
    queue
        .send(Outgoing::bytes(kind, bytes), Deadline::NEVER, &mut Never)
        .unwrap();
}

pub fn get(queue: &Queue) -> (u8, Vec<u8>) {
    let message = queue.recv(Deadline::NEVER, &mut Never).unwrap();
    (message.kind, message.payload.into_vec())
}
