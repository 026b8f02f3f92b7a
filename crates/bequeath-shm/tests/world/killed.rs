//! One operation of a member, killed anywhere, and what the survivor must find.

use std::os::fd::OwnedFd;

use bequeath_shm::{Adopted, AnyHandle, Block, Envelope, Handle, Options, Session};
use bequeath_testing::{Death, Scenario};

use super::{still_works, Place, World};

/// What the victim has.
#[derive(Default)]
pub struct Hands {
    pub session: Option<Session>,
    pub place: Option<Handle<Place>>,
    pub any: Vec<AnyHandle>,
    pub blocks: Vec<Block>,
    pub adopted: Vec<Adopted>,
    pub envelope: Option<Envelope>,
    pub descriptor: Option<OwnedFd>,
}

impl Hands {
    pub fn session(&self) -> &Session {
        self.session.as_ref().expect("entered")
    }

    pub fn place(&self) -> &Handle<Place> {
        self.place.as_ref().expect("entered")
    }
}

/// One operation: what the survivor and the victim have before it, and the operation.
pub struct Operation {
    pub arrange: fn(&World),
    pub enter: fn(&mut Hands, &World),
    pub act: fn(&mut Hands, &World),
}

pub const NOTHING: Operation = Operation {
    arrange: |_| {},
    enter: |_, _| {},
    act: |_, _| {},
};

/// A few extents beside the tables: each that is given back is missed.
const TINY: u64 = 2 << 20;
/// Of two sizes of slots.
pub const SMALLER: usize = 60_000;
pub const LARGER: usize = 200_000;

/// Takes blocks of this length until the arena is full.
pub fn fill(session: &Session, len: usize) -> Vec<Block> {
    std::iter::from_fn(|| session.allocate(len).ok()).collect()
}

/// In a tiny arena: blocks of one size are freed, and a larger one is taken, which needs an extent that they were in.
pub fn shrinks_and_grows() -> Operation {
    Operation {
        enter: |hands, _| {
            hands.blocks = fill(hands.session(), SMALLER);
            // All but what is freed in the operation.
            let kept = hands.blocks.len() - 4;
            drop(hands.blocks.drain(..kept));
        },
        act: |hands, _| {
            hands.blocks.clear();
            hands.blocks.push(hands.session().allocate(LARGER).unwrap());
        },
        ..NOTHING
    }
}

/// How many of the largest blocks there is room for, when all else is given back.
fn room(session: &Session) -> usize {
    session.trim().unwrap();
    let room = fill(session, LARGER).len();
    session.trim().unwrap();
    room
}

pub struct Killed {
    pub operation: Operation,
    pub joins: bool,
    pub options: Options,
    pub world: Option<World>,
    pub hands: Hands,
    pub places: u64,
    pub references: u64,
    /// Of a tiny arena: how many of the largest blocks it has room for.
    room: usize,
    pub undecided: usize,
    /// Before what is in the place goes: whether it is as it must be.
    pub looks: fn(&World),
    /// While the victim lives and stands still: whether it is wronged.
    pub wrongs: fn(&World, u32) -> bool,
    wronged: bool,
}

impl Killed {
    pub fn new(operation: Operation) -> Self {
        let hands = Hands::default();
        Self {
            operation,
            joins: true,
            options: Options::default(),
            world: None,
            hands,
            places: 0,
            references: 0,
            room: 0,
            undecided: 0,
            looks: |_| {},
            wrongs: |_, _| false,
            wronged: false,
        }
    }

    /// Afterwards the arena has room for as much as ever.
    pub fn in_a_tiny_arena(operation: Operation) -> Self {
        let mut killed = Self::new(operation);
        killed.options.size = Some(TINY);
        killed
    }

    fn is_tiny(&self) -> bool {
        self.options.size == Some(TINY)
    }
}

impl Scenario for Killed {
    fn arrange(&mut self) {
        self.world = None;
        let world = World::of(&self.options);
        let usage = world.session.usage().unwrap();
        (self.places, self.references) = (usage.places, usage.references);
        if self.is_tiny() {
            self.room = room(&world.session);
        }
        (self.operation.arrange)(&world);
        self.world = Some(world);
    }

    fn forked(&mut self, victim: u32) {
        self.wronged = (self.wrongs)(self.world.as_ref().expect("arranged"), victim);
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
        assert!(!self.wronged, "the living was taken for dead");
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
        let accounts = session.census().unwrap().accounts;
        assert!(accounts.balance(), "bytes unaccounted for: {accounts:?}");
        (self.looks)(&world);
        world.empty_place();
        let usage = session.usage().unwrap();
        assert_eq!(
            (usage.places, usage.references),
            (self.places, self.references),
            "leaked or lost: {:#?}",
            session.describe_places()
        );
        still_works(&world);
        if self.is_tiny() {
            assert_eq!(room(&world.session), self.room, "an extent is lost");
        }
        world.end();
    }
}
