//! Registry, blocks, envelopes and scavenger under shuttle: `make long` runs these with `RUSTFLAGS="--cfg shuttle"`.
//!
//! Threads play processes: each joins the session by itself, maps the arena for itself and has its own identity. One of them, the
//! victim, stops for ever after its first store, after its second and so on, while the others go on at the same time.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used)]

mod world;

use std::sync::{Arc, Mutex};

use bequeath_shm::{Memory, Options, Session};
use bequeath_sync::owner::model::{act_as, dies_after, stop_for_ever};
use bequeath_sync::ProcessId;
use bequeath_testing::model::{for_each_death, schedules, survived, thread, Explored};
use world::{envelope, still_works, Place, World};

const VICTIM: u32 = 2;

/// What a process of the model does.
type Act = fn(&Member);

/// A process of the model, in the session.
struct Member {
    session: Session,
    world: Arc<World>,
}

impl Member {
    /// Joins under the identity of the thread that calls this.
    fn join(world: &Arc<World>) -> Self {
        let fd = world.session.descriptor().unwrap();
        Self {
            session: Session::attach(fd.try_clone_to_owned().unwrap()).unwrap(),
            world: Arc::clone(world),
        }
    }

    fn memory(&self) -> bequeath_shm::AnyHandle {
        self.session
            .open_any(self.world.memory.reference())
            .unwrap()
    }

    fn place(&self) -> bequeath_shm::Handle<Place> {
        self.session.open(self.world.place.reference()).unwrap()
    }
}

/// Sessions of the dead: what the kernel would take back is taken back at the end.
type Graves = Arc<Mutex<Vec<Session>>>;

/// Runs `act` as process `pid`, which then is dead, if it was not before.
fn doomed(pid: u32, stores: u32, world: &Arc<World>, graves: &Graves, act: Act) {
    let (world, graves) = (Arc::clone(world), Arc::clone(graves));
    thread::spawn(move || {
        act_as(pid);
        let member = Member::join(&world);
        graves.lock().unwrap().push(member.session.clone());
        dies_after(stores);
        act(&member);
        if pid == VICTIM {
            survived();
        }
        stop_for_ever();
    });
}

fn wait_for_death(pid: u32) {
    while !ProcessId::of(pid).unwrap().is_dead() {
        thread::yield_now();
    }
}

struct Plan {
    /// Before all others: it leaves something to scavenge.
    dead: Option<Act>,
    arrange: fn(&World),
    victim: Act,
    others: [Act; 2],
}

fn nothing(_: &Member) {}

const PLAN: Plan = Plan {
    dead: None,
    arrange: |_| {},
    victim: nothing,
    others: [nothing, nothing],
};

fn explore(name: &str, plan: Plan) -> Explored {
    explore_with(name, schedules(6, 60), plan)
}

fn explore_with(name: &str, schedules: usize, plan: Plan) -> Explored {
    let explored = for_each_death(name, schedules, move |stores| run(&plan, stores));
    assert!(explored.deaths > 5, "{explored:?}");
    explored
}

fn run(plan: &Plan, stores: u32) {
    let world = Arc::new(World::of(&small()));
    let session = &world.session;
    let usage = session.usage().unwrap();
    let before = (usage.places, usage.references);
    let graves = Graves::default();
    (plan.arrange)(&world);
    if let Some(act) = plan.dead {
        doomed(5, u32::MAX, &world, &graves, act);
        wait_for_death(5);
    }
    doomed(VICTIM, stores, &world, &graves, plan.victim);
    let others: Vec<_> = (3..)
        .zip(plan.others)
        .map(|(pid, act)| {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                act_as(pid);
                act(&Member::join(&world));
            })
        })
        .collect();
    for other in others {
        other.join().unwrap();
    }
    wait_for_death(VICTIM);
    session.scavenge();
    assert_eq!(session.scavenge(), 0, "a second look finds something");
    assert_eq!(
        session.usage().unwrap().members,
        1,
        "{:?} are left: {:#?}",
        (2..6)
            .filter(|pid| session.has_member(*pid))
            .collect::<Vec<_>>(),
        session.describe_places()
    );
    world.empty_place();
    let usage = session.usage().unwrap();
    assert_eq!(
        (usage.places, usage.references),
        before,
        "leaked or lost: {:#?}",
        session.describe_places()
    );
    still_works(&world);
    for session in graves.lock().unwrap().drain(..) {
        session.abandon();
        std::mem::forget(session);
    }
    // The dead have their share of it for ever.
    world.give_back();
}

/// An arena whose tables are quickly gone through.
fn small() -> Options {
    let mut options = Options::default();
    options.size = Some(64 << 20);
    options
}

fn scavenge(member: &Member) {
    member.session.scavenge();
}

#[test]
fn an_object_is_made_and_given_back() {
    let act = |member: &Member| {
        let object = member.session.create_object(|_: &Place| {}).unwrap();
        let again = member.session.open_any(object.reference()).unwrap();
        drop((object, again));
    };
    explore(
        "making and dropping objects",
        Plan {
            victim: act,
            others: [act, scavenge],
            ..PLAN
        },
    );
}

#[test]
fn references_to_one_object_come_and_go() {
    let act = |member: &Member| drop((member.memory(), member.place()));
    explore(
        "counting references",
        Plan {
            victim: act,
            others: [act, act],
            ..PLAN
        },
    );
}

#[test]
fn an_object_with_bytes_in_a_block() {
    let act = |member: &Member| drop(Memory::create(&member.session, 5000).unwrap());
    explore(
        "objects with a block",
        Plan {
            victim: act,
            others: [act, scavenge],
            ..PLAN
        },
    );
}

#[test]
fn blocks_move_in_and_out() {
    let put = |member: &Member| {
        let place = member.place();
        if place.cell.lock().state() == [0] {
            let block = member.session.allocate(5000).unwrap();
            place.put_if_empty(block, place.reference());
        }
    };
    let take = |member: &Member| {
        let place = member.place();
        drop(place.take(&member.session, place.reference()));
    };
    explore(
        "blocks, the sender stops",
        Plan {
            victim: put,
            others: [take, scavenge],
            ..PLAN
        },
    );
    explore(
        "blocks, the receiver stops",
        Plan {
            arrange: |world| {
                let block = world.session.allocate(5000).unwrap();
                world.place.put(block, world.place.reference());
            },
            victim: take,
            others: [take, scavenge],
            ..PLAN
        },
    );
}

#[test]
fn envelopes_move_in_and_out() {
    let put = |member: &Member| {
        let place = member.place();
        place.put_envelope(
            envelope(&member.session, &member.memory()),
            place.reference(),
        );
    };
    let take = |member: &Member| {
        let place = member.place();
        if let Some(mut envelope) = place.take_envelope(&member.session, place.reference()) {
            let blocks = envelope.take_blocks().unwrap();
            let references = envelope.take_references().unwrap();
            assert_eq!((blocks.len(), references.len()), (2, 2));
        }
    };
    explore(
        "envelopes, the sender stops",
        Plan {
            victim: put,
            others: [take, scavenge],
            ..PLAN
        },
    );
    explore(
        "envelopes, the receiver stops",
        Plan {
            arrange: |world| {
                let envelope = envelope(&world.session, &world.memory.erase());
                world.place.put_envelope(envelope, world.place.reference());
            },
            victim: take,
            others: [take, scavenge],
            ..PLAN
        },
    );
}

#[test]
fn runs_are_laid_out() {
    let act = |member: &Member| drop(member.session.allocate(5 << 20).unwrap());
    explore(
        "runs",
        Plan {
            victim: act,
            others: [act, scavenge],
            ..PLAN
        },
    );
}

#[test]
fn scavengers_clean_up_at_once_and_one_of_them_stops() {
    let dead = |member: &Member| {
        let memory = member.memory();
        let object = Memory::create(&member.session, 5000).unwrap();
        let holder = member.session.create_object(|_: &Place| {}).unwrap();
        holder.put_envelope(envelope(&member.session, &memory), holder.reference());
        let block = member
            .session
            .allocate(5000)
            .unwrap()
            .prepare(member.world.place.reference());
        std::mem::forget((memory, object, holder, block));
    };
    explore(
        "scavengers",
        Plan {
            dead: Some(dead),
            victim: scavenge,
            others: [scavenge, scavenge],
            ..PLAN
        },
    );
}
