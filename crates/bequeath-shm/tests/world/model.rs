//! Threads of shuttle that play processes of a session, one of which stops for ever.

use std::sync::{Arc, Mutex};

use super::{still_works, Place, World};
use bequeath_shm::{Options, Session};
use bequeath_sync::owner::model::{act_as, dies_after, stop_for_ever};
use bequeath_sync::ProcessId;
use bequeath_testing::model::{for_each_death, schedules, survived, thread, Explored};

const VICTIM: u32 = 2;

/// What a process of the model does.
pub type Act = fn(&Member);

/// A process of the model, in the session.
pub struct Member {
    pub session: Session,
    pub world: Arc<World>,
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

    pub fn memory(&self) -> bequeath_shm::AnyHandle {
        self.session
            .open_any(self.world.memory.reference())
            .unwrap()
    }

    pub fn place(&self) -> bequeath_shm::Handle<Place> {
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

pub struct Plan {
    /// Before all others: it leaves something to scavenge.
    pub dead: Option<Act>,
    pub arrange: fn(&World),
    pub victim: Act,
    pub others: [Act; 2],
    /// Of the arena; so small that its tables are quickly gone through.
    pub size: u64,
}

fn nothing(_: &Member) {}

pub const PLAN: Plan = Plan {
    dead: None,
    arrange: |_| {},
    victim: nothing,
    others: [nothing, nothing],
    size: 64 << 20,
};

/// Blocks of two sizes, one after the other, and all of it given back; what is in a block stays in it.
fn take(member: &Member, lengths: [usize; 2]) {
    for len in lengths {
        // (There may be no room left.)
        if let Ok(mut block) = member.session.allocate(len) {
            assert!(block.write_at(0, b"mine"));
            // Others go on meanwhile.
            member.session.usage().unwrap();
            let mut bytes = [0; 4];
            assert!(block.read_at(0, &mut bytes));
            assert_eq!(&bytes, b"mine", "the pages of a block are gone");
        }
    }
    member.session.trim().unwrap();
}

/// Extents of a tiny arena are given back and serve another size.
pub fn tiny() -> Plan {
    Plan {
        size: 2 << 20,
        victim: |member| take(member, [60_000, 200_000]),
        others: [|member| take(member, [200_000, 60_000]), scavenge],
        ..PLAN
    }
}

pub fn explore(name: &str, plan: Plan) -> Explored {
    explore_with(name, schedules(6, 60), plan)
}

fn explore_with(name: &str, schedules: usize, plan: Plan) -> Explored {
    let explored = for_each_death(name, schedules, move |stores| run(&plan, stores));
    assert!(explored.deaths > 5, "{explored:?}");
    explored
}

fn run(plan: &Plan, stores: u32) {
    let mut options = Options::default();
    options.size = Some(plan.size);
    let world = Arc::new(World::of(&options));
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

pub fn scavenge(member: &Member) {
    member.session.scavenge();
}
