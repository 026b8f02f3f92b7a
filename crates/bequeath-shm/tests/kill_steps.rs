//! SIGKILL at every instruction of each operation of the session; then counts, blocks and members are
//! as if the victim had never been, or as if it had finished, and everything still works.
//!
//! `BEQUEATH_FAULTS=full` kills at each instruction; else at about a hundred, spread over the operation.

#![allow(clippy::unwrap_used)]

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bequeath_shm::{
    Adopted, AnyHandle, Block, BlockName, Envelope, Handle, Memory, Object, Options, Reference,
    Room, Session,
};
use bequeath_sync::Cell;
use bequeath_testing::{Death, KillPoints, Peer, Scenario, Watchdog};

/// An object that can hold one block or envelope: the smallest queue there is.
#[repr(C)]
struct Place {
    cell: Cell<1>,
}

// SAFETY: a cell, which is atomics; zero is its initial state.
#[allow(unsafe_code)]
unsafe impl Object for Place {
    const KIND: u32 = 2001;

    fn destroy(&self, session: &Session, me: Reference) {
        if let Some(block) = self.take(session, me) {
            drop(block);
        }
    }

    fn refers_to(&self, _: &Session, _: Reference, block: BlockName) -> bool {
        self.cell.lock().state() == [block.to_bits()]
    }
}

impl Place {
    fn put(&self, block: Block, me: Reference) {
        let outgoing = block.prepare(me);
        let mut guard = self.cell.lock();
        guard.stage([outgoing.name().to_bits()]);
        guard.commit();
        outgoing.settle_queued();
    }

    fn put_envelope(&self, envelope: Envelope, me: Reference) {
        let outgoing = envelope.prepare(me);
        let mut guard = self.cell.lock();
        guard.stage([outgoing.name().to_bits()]);
        guard.commit();
        outgoing.settle_queued();
    }

    fn take(&self, session: &Session, me: Reference) -> Option<Block> {
        let mut guard = self.cell.lock();
        let name = BlockName::from_bits(guard.state()[0])?;
        let incoming =
            Block::claim(session, name, me).expect("what is in the place can be claimed");
        guard.stage([0]);
        guard.commit();
        Some(incoming.accept())
    }

    fn take_envelope(&self, session: &Session, me: Reference) -> Option<Envelope> {
        let mut guard = self.cell.lock();
        let name = BlockName::from_bits(guard.state()[0])?;
        let incoming =
            Envelope::claim(session, name, me).expect("what is in the place can be claimed");
        guard.stage([0]);
        guard.commit();
        Some(incoming.accept())
    }

    /// The wrong order, to see that it is found out: first gone from the place, then claimed.
    fn take_wrongly(&self, session: &Session, me: Reference) -> Option<Block> {
        let mut guard = self.cell.lock();
        let name = BlockName::from_bits(guard.state()[0])?;
        guard.stage([0]);
        guard.commit();
        Some(Block::claim(session, name, me).ok()?.accept())
    }
}

/// What there is in the session besides the victim.
struct World {
    session: Session,
    place: Handle<Place>,
    /// For operations on something that the survivor holds, too.
    memory: Handle<Memory>,
}

/// What the victim has.
#[derive(Default)]
struct Hands {
    session: Option<Session>,
    place: Option<Handle<Place>>,
    any: Vec<AnyHandle>,
    blocks: Vec<Block>,
    adopted: Vec<Adopted>,
    envelope: Option<Envelope>,
    descriptor: Option<OwnedFd>,
}

impl Hands {
    fn session(&self) -> &Session {
        self.session.as_ref().expect("entered")
    }

    fn place(&self) -> &Handle<Place> {
        self.place.as_ref().expect("entered")
    }
}

/// One operation: what the survivor and the victim have before it, and the operation.
struct Operation {
    arrange: fn(&World),
    enter: fn(&mut Hands, &World),
    act: fn(&mut Hands, &World),
}

const NOTHING: Operation = Operation {
    arrange: |_| {},
    enter: |_, _| {},
    act: |_, _| {},
};

struct Killed {
    operation: Operation,
    joins: bool,
    world: Option<World>,
    hands: Hands,
    places: u64,
    references: u64,
    undecided: usize,
}

impl Killed {
    fn new(operation: Operation) -> Self {
        let hands = Hands::default();
        Self {
            operation,
            joins: true,
            world: None,
            hands,
            places: 0,
            references: 0,
            undecided: 0,
        }
    }
}

fn in_place(world: &World) -> u64 {
    u64::from(world.place.cell.lock().state()[0] != 0)
}

impl Scenario for Killed {
    fn arrange(&mut self) {
        self.world = None;
        let session = Session::create(&Options::default()).unwrap();
        let world = World {
            place: session.create_object(|_: &Place| {}).unwrap(),
            memory: Memory::create(&session, 100_000).unwrap(),
            session,
        };
        let usage = world.session.usage().unwrap();
        (self.places, self.references) = (usage.places, usage.references);
        (self.operation.arrange)(&world);
        self.world = Some(world);
    }

    fn enter(&mut self) {
        let world = self.world.as_ref().expect("arranged");
        let descriptor = world
            .session
            .descriptor()
            .unwrap()
            .try_clone_to_owned()
            .unwrap();
        if self.joins {
            let session = Session::attach(descriptor).unwrap();
            self.hands.place = Some(session.open(world.place.reference()).unwrap());
            self.hands.session = Some(session);
            (self.operation.enter)(&mut self.hands, world);
        } else {
            self.hands.descriptor = Some(descriptor);
        }
    }

    fn act(&mut self) {
        (self.operation.act)(&mut self.hands, self.world.as_ref().expect("arranged"));
    }

    fn check(&mut self, death: &Death) {
        let world = self.world.take().expect("arranged");
        let session = &world.session;
        session.reap_pid(death.pid);
        session.scavenge();
        let usage = session.usage().unwrap();
        if usage.announced > 0 {
            // Between announcing a child and saying that there is none: nobody can know, for a minute.
            self.undecided += 1;
            return;
        }
        assert_eq!(usage.members, 1, "a member is left");
        assert_eq!(session.scavenge(), 0, "a second look finds something");
        assert_eq!(
            session.usage().unwrap(),
            usage,
            "a second look changes something"
        );
        // Whatever is in the place is whole, and all that there is besides what we have.
        let there = in_place(&world);
        let envelope = world.place.take_envelope(session, world.place.reference());
        assert_eq!(u64::from(envelope.is_some()), there);
        drop(envelope);
        let usage = session.usage().unwrap();
        assert_eq!(
            (usage.places, usage.references),
            (self.places, self.references),
            "leaked or lost: {:#?}",
            session.describe_places()
        );
        still_works(&world);
        let World {
            session,
            place,
            memory,
        } = world;
        drop((place, memory));
        let usage = session.usage().unwrap();
        assert_eq!(
            (usage.places, usage.references),
            (0, 0),
            "not all is given back"
        );
    }
}

fn still_works(world: &World) {
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

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(name: &str, operation: Operation) {
    let _watchdog = Watchdog::new(Duration::from_secs(900));
    let _turn = turn();
    bequeath_shm::register_kind::<Place>();
    KillPoints::from_environment().run(name, &mut Killed::new(operation));
}

fn envelope(session: &Session, handle: &AnyHandle) -> Envelope {
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

#[test]
fn joining() {
    let _watchdog = Watchdog::new(Duration::from_secs(900));
    let _turn = turn();
    let mut scenario = Killed::new(Operation {
        act: |hands, _| hands.session = Session::attach(hands.descriptor.take().unwrap()).ok(),
        ..NOTHING
    });
    scenario.joins = false;
    KillPoints::from_environment().run("joining", &mut scenario);
}

#[test]
fn making_an_object() {
    let act = |hands: &mut Hands, _: &World| {
        hands.any.push(
            hands
                .session()
                .create_object(|_: &Place| {})
                .unwrap()
                .erase(),
        );
    };
    run("making an object", Operation { act, ..NOTHING });
}

#[test]
fn making_an_object_with_bytes_in_a_block() {
    let act = |hands: &mut Hands, _: &World| {
        hands
            .any
            .push(Memory::create(hands.session(), 5000).unwrap().erase());
    };
    run(
        "making an object with a block",
        Operation { act, ..NOTHING },
    );
}

#[test]
fn opening_an_object() {
    let act = |hands: &mut Hands, world: &World| {
        hands
            .any
            .push(hands.session().open_any(world.memory.reference()).unwrap());
    };
    run("opening an object", Operation { act, ..NOTHING });
}

#[test]
fn dropping_a_reference() {
    let enter = |hands: &mut Hands, world: &World| {
        hands
            .any
            .push(hands.session().open_any(world.memory.reference()).unwrap());
    };
    run(
        "dropping a reference",
        Operation {
            enter,
            act: |hands, _| hands.any.clear(),
            ..NOTHING
        },
    );
}

#[test]
fn dropping_the_last_reference() {
    let enter = |hands: &mut Hands, _: &World| {
        hands
            .any
            .push(Memory::create(hands.session(), 5000).unwrap().erase());
    };
    run(
        "dropping the last reference",
        Operation {
            enter,
            act: |hands, _| hands.any.clear(),
            ..NOTHING
        },
    );
}

#[test]
fn dropping_the_last_reference_to_what_holds_an_envelope() {
    let enter = |hands: &mut Hands, world: &World| {
        let session = hands.session().clone();
        let handle = session.open_any(world.memory.reference()).unwrap();
        let holder = session.create_object(|_: &Place| {}).unwrap();
        holder.put_envelope(envelope(&session, &handle), holder.reference());
        hands.any.push(holder.erase());
    };
    run(
        "destroying what holds an envelope",
        Operation {
            enter,
            act: |hands, _| hands.any.clear(),
            ..NOTHING
        },
    );
}

#[test]
fn taking_a_small_block() {
    let act =
        |hands: &mut Hands, _: &World| hands.blocks.push(hands.session().allocate(100).unwrap());
    run("taking a small block", Operation { act, ..NOTHING });
}

#[test]
fn taking_a_block_of_pages() {
    let act =
        |hands: &mut Hands, _: &World| hands.blocks.push(hands.session().allocate(20_000).unwrap());
    run("taking a block of pages", Operation { act, ..NOTHING });
}

#[test]
fn taking_a_run() {
    let act = |hands: &mut Hands, _: &World| {
        hands
            .blocks
            .push(hands.session().allocate(9 << 20).unwrap())
    };
    run("taking a run", Operation { act, ..NOTHING });
}

#[test]
fn freeing_a_block() {
    let enter = |hands: &mut Hands, _: &World| {
        for len in [100, 20_000, 9 << 20] {
            hands.blocks.push(hands.session().allocate(len).unwrap());
        }
    };
    run(
        "freeing blocks",
        Operation {
            enter,
            act: |hands, _| hands.blocks.clear(),
            ..NOTHING
        },
    );
}

#[test]
fn freeing_a_block_beyond_the_warm_share() {
    let enter = |hands: &mut Hands, _: &World| {
        hands.session().set_limit(1 << 20);
        hands
            .blocks
            .push(hands.session().allocate(100_000).unwrap());
    };
    run(
        "freeing a block for good",
        Operation {
            enter,
            act: |hands, _| hands.blocks.clear(),
            ..NOTHING
        },
    );
}

#[test]
fn moving_a_block_in() {
    let enter = |hands: &mut Hands, _: &World| {
        hands.blocks.push(hands.session().allocate(5000).unwrap());
    };
    let act = |hands: &mut Hands, _: &World| {
        let block = hands.blocks.pop().unwrap();
        hands.place().put(block, hands.place().reference());
    };
    run(
        "moving a block in",
        Operation {
            enter,
            act,
            ..NOTHING
        },
    );
}

fn one_block_in(world: &World) {
    world.place.put(
        world.session.allocate(5000).unwrap(),
        world.place.reference(),
    );
}

#[test]
fn moving_a_block_out() {
    let act = |hands: &mut Hands, _: &World| {
        let block = hands
            .place()
            .take(hands.session(), hands.place().reference());
        hands.blocks.extend(block);
    };
    run(
        "moving a block out",
        Operation {
            arrange: one_block_in,
            act,
            ..NOTHING
        },
    );
}

#[test]
fn a_block_taken_out_in_the_wrong_order_is_found_leaked() {
    let _watchdog = Watchdog::new(Duration::from_secs(900));
    let _turn = turn();
    bequeath_shm::register_kind::<Place>();
    let act = |hands: &mut Hands, _: &World| {
        let block = hands
            .place()
            .take_wrongly(hands.session(), hands.place().reference());
        hands.blocks.extend(block);
    };
    let mut scenario = Killed::new(Operation {
        arrange: one_block_in,
        act,
        ..NOTHING
    });
    let report = KillPoints::every(2).search("the wrong order", &mut scenario);
    assert!(report
        .failure
        .is_some_and(|text| text.contains("leaked or lost")));
}

#[test]
fn making_and_sending_an_envelope() {
    let enter = |hands: &mut Hands, world: &World| {
        hands
            .any
            .push(hands.session().open_any(world.memory.reference()).unwrap());
    };
    let act = |hands: &mut Hands, _: &World| {
        let envelope = envelope(hands.session(), &hands.any[0]);
        hands
            .place()
            .put_envelope(envelope, hands.place().reference());
    };
    run(
        "making and sending an envelope",
        Operation {
            enter,
            act,
            ..NOTHING
        },
    );
}

#[test]
fn receiving_an_envelope() {
    let arrange = |world: &World| {
        let envelope = envelope(&world.session, &world.memory.erase());
        world.place.put_envelope(envelope, world.place.reference());
    };
    let act = |hands: &mut Hands, _: &World| {
        let place = hands.place().clone();
        let mut envelope = place
            .take_envelope(hands.session(), place.reference())
            .unwrap();
        hands.blocks = envelope.take_blocks().unwrap();
        hands.any = envelope.take_references().unwrap();
    };
    run(
        "receiving an envelope",
        Operation {
            arrange,
            act,
            ..NOTHING
        },
    );
}

#[test]
fn an_envelope_through_the_kernel() {
    let enter = |hands: &mut Hands, world: &World| {
        hands
            .any
            .push(hands.session().open_any(world.memory.reference()).unwrap());
        hands.envelope = Some(envelope(hands.session(), &hands.any[0]));
    };
    let act = |hands: &mut Hands, _: &World| {
        let envelope = hands.envelope.take().unwrap();
        let (name, token) = envelope.into_kernel_token().unwrap();
        hands.envelope = Envelope::from_kernel_token(hands.session(), name, token).ok();
    };
    run(
        "an envelope through the kernel",
        Operation {
            enter,
            act,
            ..NOTHING
        },
    );
}

#[test]
fn preparing_a_fork_that_does_not_happen() {
    let enter = |hands: &mut Hands, world: &World| {
        hands
            .any
            .push(hands.session().open_any(world.memory.reference()).unwrap());
        let block = hands.session().allocate(bequeath_shm::IN_PLACE).unwrap();
        hands.adopted.push(block.adopt());
    };
    let act = |hands: &mut Hands, _: &World| {
        let session = hands.session().clone();
        let ticket = session.before_fork().unwrap();
        session.after_fork_parent(ticket, None);
        hands.adopted.clear();
    };
    let _watchdog = Watchdog::new(Duration::from_secs(900));
    let _turn = turn();
    let mut scenario = Killed::new(Operation {
        enter,
        act,
        ..NOTHING
    });
    let report = KillPoints::from_environment().run("a fork that does not happen", &mut scenario);
    assert!(
        scenario.undecided * 20 < report.points,
        "{} undecided",
        scenario.undecided
    );
}

#[test]
fn cleaning_up_after_another() {
    let arrange = |world: &World| {
        let peer = Peer::spawn(|| {
            let fd = world
                .session
                .descriptor()
                .unwrap()
                .try_clone_to_owned()
                .unwrap();
            let session = Session::attach(fd).unwrap();
            let handle = session.open_any(world.memory.reference()).unwrap();
            let own = Memory::create(&session, 5000).unwrap();
            let mut things = (
                envelope(&session, &handle),
                session.allocate(20_000).unwrap(),
                own,
                handle,
            );
            things.1.set_len(1);
            std::process::abort();
        });
        peer.wait_dead();
    };
    let act = |hands: &mut Hands, _: &World| {
        hands.session().scavenge();
    };
    run(
        "cleaning up after another",
        Operation {
            arrange,
            act,
            ..NOTHING
        },
    );
}

/// A number that nobody changes, to see that a stale word is not read as one.
#[test]
fn a_name_is_never_zero() {
    let counter = AtomicU64::new(0);
    assert!(BlockName::from_bits(counter.load(Relaxed)).is_none());
    assert!(Reference::from_bits(counter.load(Relaxed)).is_none());
}
