//! SIGKILL at every instruction of the window of a plain fork, in the parent and in the child: what the
//! parent counted for its child is the child's or nobody's, and a child that came to be has all of it.

// Tests may need a newer compiler than the library.
#![allow(clippy::unwrap_used, clippy::incompatible_msrv)]

mod world;

use std::time::Duration;

use bequeath_shm::ForkTicket;
use bequeath_testing::{is_long, Death, KillPoints, Scenario, Watchdog};
use world::fork::{is_settled, InTheParent, Things};
use world::{turn, World};

#[test]
fn the_parent_is_killed_in_the_window_of_a_fork() {
    let _watchdog = Watchdog::new(Duration::from_secs(1800));
    let _turn = turn();
    let mut scenario = InTheParent::default();
    let report = KillPoints::from_environment().run("fork, in the parent", &mut scenario);
    println!(
        "fork, in the parent: {} children lived on, {} of them found their ticket expired, {} points left open for a minute",
        scenario.children, scenario.late, scenario.left_open
    );
    assert!(!report.traced || scenario.children > 0);
    assert!(scenario.left_open * 3 < report.points);
    for (world, since) in scenario.undecided.drain(..) {
        if is_long() {
            // The minute is the engine's; this waits for what it is about.
            while since.elapsed() < Duration::from_secs(62) {
                std::thread::sleep(Duration::from_secs(1));
            }
            is_settled(&world, scenario.before);
            world.end();
        }
    }
}

/// The child is killed while it takes over what its parent counted for it.
struct InTheChild {
    with_ticket: bool,
    world: Option<World>,
    things: Option<Things>,
    before: (u64, u64),
    ticket: Option<ForkTicket>,
}

impl InTheChild {
    fn new(with_ticket: bool) -> Self {
        Self {
            with_ticket,
            world: None,
            things: None,
            before: (0, 0),
            ticket: None,
        }
    }
}

impl Scenario for InTheChild {
    fn arrange(&mut self) {
        self.things = None;
        let world = World::new();
        let session = world.session.clone();
        let things = Things::new(session.clone(), &world);
        // The first fork of all makes keepers of what was adopted; they are not what is looked for.
        let ticket = session.before_fork().unwrap();
        session.after_fork_parent(ticket, None);
        let usage = session.usage().unwrap();
        self.before = (usage.places, usage.references);
        self.ticket = self.with_ticket.then(|| session.before_fork().unwrap());
        (self.world, self.things) = (Some(world), Some(things));
    }

    fn forked(&mut self, victim: u32) {
        let session = &self.world.as_ref().unwrap().session;
        if let Some(ticket) = self.ticket.take() {
            session.after_fork_parent(ticket, Some(victim));
        }
    }

    fn act(&mut self) {
        let things = self.things.as_ref().unwrap();
        match self.ticket.take() {
            Some(ticket) => things.session.after_fork_child(ticket).unwrap(),
            None => things.session.join_forked_child().unwrap(),
        }
    }

    fn check(&mut self, death: &Death) {
        let (world, things) = (self.world.take().unwrap(), self.things.take().unwrap());
        world.session.reap_pid(death.pid);
        is_settled(&world, self.before);
        assert!(things.are_whole(), "the parent lacks something");
        drop(things);
        world.end();
    }
}

#[test]
fn the_child_is_killed_in_the_window_of_a_fork() {
    let _watchdog = Watchdog::new(Duration::from_secs(1800));
    let _turn = turn();
    KillPoints::from_environment().run("fork, in the child", &mut InTheChild::new(true));
}

#[test]
fn the_child_of_a_fork_that_nobody_saw_is_killed() {
    let _watchdog = Watchdog::new(Duration::from_secs(1800));
    let _turn = turn();
    KillPoints::from_environment().run("fork unseen, in the child", &mut InTheChild::new(false));
}
