//! A session for one kill point, with the smallest queue there is.
#![allow(dead_code, clippy::unwrap_used, clippy::incompatible_msrv)]

pub mod at_task;
pub mod definition;
pub mod fork;
pub mod killed;
#[cfg(shuttle)]
pub mod model;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bequeath_shm::{
    AnyHandle, Block, BlockName, Envelope, Handle, Memory, Object, Options, Reference, Room,
    Session,
};
use bequeath_sync::Cell;

/// An object that can hold one block or envelope: the smallest queue there is.
#[repr(C)]
pub struct Place {
    pub cell: Cell<1>,
}

// SAFETY: a cell, which is atomics; zero is its initial state.
#[allow(unsafe_code)]
unsafe impl Object for Place {
    const KIND: u32 = 2001;

    fn destroy(&self, session: &Session, me: Reference) {
        // (After a broken invariant everything goes as it is.)
        if !std::thread::panicking() {
            drop(self.take(session, me));
        }
    }

    fn refers_to(&self, _: &Session, _: Reference, block: BlockName) -> bool {
        self.cell.lock().state() == [block.to_bits()]
    }
}

impl Place {
    pub fn put(&self, block: Block, me: Reference) {
        let outgoing = block.prepare(me);
        let mut guard = self.cell.lock();
        guard.stage([outgoing.name().to_bits()]);
        guard.commit();
        outgoing.settle_queued();
    }

    /// Frees the block where somebody was faster.
    pub fn put_if_empty(&self, block: Block, me: Reference) {
        let outgoing = block.prepare(me);
        let mut guard = self.cell.lock();
        if guard.state() == [0] {
            guard.stage([outgoing.name().to_bits()]);
            guard.commit();
            outgoing.settle_queued();
        } else {
            drop(guard);
        }
    }

    pub fn put_envelope(&self, envelope: Envelope, me: Reference) {
        let outgoing = envelope.prepare(me);
        let mut guard = self.cell.lock();
        guard.stage([outgoing.name().to_bits()]);
        guard.commit();
        outgoing.settle_queued();
    }

    pub fn take(&self, session: &Session, me: Reference) -> Option<Block> {
        let mut guard = self.cell.lock();
        let name = BlockName::from_bits(guard.state()[0])?;
        let incoming =
            Block::claim(session, name, me).expect("what is in the place can be claimed");
        guard.stage([0]);
        guard.commit();
        Some(incoming.accept())
    }

    pub fn take_envelope(&self, session: &Session, me: Reference) -> Option<Envelope> {
        let mut guard = self.cell.lock();
        let name = BlockName::from_bits(guard.state()[0])?;
        let incoming =
            Envelope::claim(session, name, me).expect("what is in the place can be claimed");
        guard.stage([0]);
        guard.commit();
        Some(incoming.accept())
    }

    /// The wrong order, to see that it is found out: first gone from the place, then claimed.
    pub fn take_wrongly(&self, session: &Session, me: Reference) -> Option<Block> {
        let mut guard = self.cell.lock();
        let name = BlockName::from_bits(guard.state()[0])?;
        guard.stage([0]);
        guard.commit();
        Some(Block::claim(session, name, me).ok()?.accept())
    }
}

/// What there is in the session besides the victim.
pub struct World {
    pub session: Session,
    pub place: Handle<Place>,
    /// For operations on something that the survivor holds, too.
    pub memory: Handle<Memory>,
}

impl World {
    pub fn new() -> Self {
        Self::of(&Options::default())
    }

    pub fn of(options: &Options) -> Self {
        bequeath_shm::register_kind::<Place>();
        let session = Session::create(options).unwrap();
        Self {
            place: session.create_object(|_: &Place| {}).unwrap(),
            memory: Memory::create(&session, 100_000).unwrap(),
            session,
        }
    }

    /// Whatever is in the place is whole, and goes.
    pub fn empty_place(&self) {
        let there = self.place.cell.lock().state()[0] != 0;
        let envelope = self
            .place
            .take_envelope(&self.session, self.place.reference());
        assert_eq!(envelope.is_some(), there);
    }

    /// For a model, in which the dead share it: gives its objects back all the same.
    #[cfg(shuttle)]
    pub fn give_back(&self) {
        // SAFETY: a copy of a handle that nobody uses or drops any more.
        #[allow(unsafe_code)]
        let place = unsafe { std::ptr::read(&self.place) };
        // SAFETY: as above.
        #[allow(unsafe_code)]
        let memory = unsafe { std::ptr::read(&self.memory) };
        drop((place, memory));
        let usage = self.session.usage().unwrap();
        assert_eq!(
            (usage.places, usage.references),
            (0, 0),
            "not all is given back"
        );
        self.session.abandon();
    }

    /// Gives all back; nothing may be left.
    pub fn end(self) {
        let Self {
            session,
            place,
            memory,
        } = self;
        drop((place, memory));
        let usage = session.usage().unwrap();
        assert_eq!(
            (usage.places, usage.references),
            (0, 0),
            "not all is given back: {:#?}",
            session.describe_places()
        );
    }
}

/// One takes blocks, writes into them and reads, while another gives back every extent that is empty for a moment:
/// whether the pages of a block were ever gone in so many rounds.
pub fn loses_pages(rounds: usize) -> bool {
    let session = Session::create(&Options::default()).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                session.trim().unwrap();
            }
        });
        let lost = (0..rounds).any(|round| {
            let mut bytes = [0; 8];
            // (Each has its turn while the other is in between, also on one processor.)
            std::thread::yield_now();
            let mut block = session.allocate(60_000).unwrap();
            block.write_at(50_000, &round.to_ne_bytes());
            std::thread::yield_now();
            block.read_at(50_000, &mut bytes);
            bytes != round.to_ne_bytes()
        });
        over.store(true, Relaxed);
        lost
    })
}

pub fn still_works(world: &World) {
    let session = &world.session;
    let number = session.create_object(|_: &Place| {}).unwrap();
    let mut block = session.allocate(10_000).unwrap();
    assert!(block.write_at(0, b"whole"));
    let name = block.name();
    number.put(block, number.reference());
    let block = number.take(session, number.reference()).unwrap();
    let mut bytes = [0; 5];
    assert!(block.read_at(0, &mut bytes));
    assert_eq!((block.name(), &bytes), (name, b"whole"));
    let again = session.open::<Memory>(world.memory.reference()).unwrap();
    assert_eq!(again.extra().1, 100_000);
}

pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn envelope(session: &Session, handle: &AnyHandle) -> Envelope {
    let room = Room {
        payload: 300,
        blocks: 2,
        references: 2,
    };
    let mut envelope = Envelope::new(session, room).unwrap();
    for len in [5000, 100] {
        envelope
            .attach_block(session.allocate(len).unwrap())
            .unwrap();
    }
    for _ in 0..2 {
        envelope.attach_reference(handle).unwrap();
    }
    envelope
}
