//! SIGKILL at every instruction of the window of a plain fork, in the parent and in the child: what the
//! parent counted for its child is the child's or nobody's, and a child that came to be has all of it.

// Tests may need a newer compiler than the library.
#![allow(clippy::unwrap_used, clippy::incompatible_msrv)]

mod world;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use bequeath_shm::{Adopted, AnyHandle, Error, ForkTicket, Memory, Session};
use bequeath_testing::{wait_until, Death, KillPoints, Peer, Scenario, Watchdog};
use world::{envelope, still_works, turn, Place, World};

const SLOT: usize = 100_000;
const RUN: usize = 9 << 20;

/// What a process holds when it forks.
struct Things {
    session: Session,
    handles: Vec<AnyHandle>,
    adopted: Vec<Adopted>,
}

impl Things {
    fn new(session: Session, world: &World) -> Self {
        let holder = session.create_object(|_: &Place| {}).unwrap();
        let memory = session.open_any(world.memory.reference()).unwrap();
        holder.put_envelope(envelope(&session, &memory), holder.reference());
        let handles = vec![
            holder.erase(),
            memory,
            Memory::create(&session, 5000).unwrap().erase(),
        ];
        let adopted = [SLOT, RUN].map(|len| {
            let mut block = session.allocate(len).unwrap();
            assert!(block.write_at(0, b"first") && block.write_at(len - 5, b"last."));
            block.adopt()
        });
        Self {
            session,
            handles,
            adopted: adopted.into(),
        }
    }

    /// In a child: everything is there, counted and with its content.
    fn are_whole(&self) -> bool {
        let bytes = |adopted: &Adopted, at: usize| {
            let first = adopted.as_ptr().wrapping_add(at);
            (0..5).map(move |index| {
                // SAFETY: inside the adopted bytes.
                #[allow(unsafe_code)]
                unsafe {
                    first.wrapping_add(index).read_volatile()
                }
            })
        };
        let content = self.adopted.iter().all(|adopted| {
            bytes(adopted, 0).eq(*b"first") && bytes(adopted, adopted.len() - 5).eq(*b"last.")
        });
        let alive = |handle: &AnyHandle| self.session.open_any(handle.reference()).is_ok();
        content && self.handles.iter().all(alive)
    }
}

/// The parent is killed; its child, if there is one, goes on.
#[derive(Default)]
struct InTheParent {
    world: Option<World>,
    things: Option<Things>,
    before: (u64, u64),
    ends: Option<(std::io::PipeReader, Option<std::io::PipeWriter>)>,
    /// Worlds in which nobody can know, for a minute, that there is no child.
    undecided: Vec<(World, Instant)>,
    left_open: usize,
    children: usize,
    late: usize,
}

impl Scenario for InTheParent {
    fn arrange(&mut self) {
        let world = World::new();
        let usage = world.session.usage().unwrap();
        self.before = (usage.places, usage.references);
        self.world = Some(world);
        let (reader, writer) = std::io::pipe().unwrap();
        self.ends = Some((reader, Some(writer)));
    }

    fn forked(&mut self, _: u32) {
        self.ends.as_mut().unwrap().1 = None;
    }

    fn enter(&mut self) {
        let world = self.world.as_ref().unwrap();
        let fd = world.session.descriptor().unwrap();
        let session = Session::attach(fd.try_clone_to_owned().unwrap()).unwrap();
        self.things = Some(Things::new(session, world));
    }

    fn act(&mut self) {
        let things = self.things.as_ref().unwrap();
        let ticket = things.session.before_fork().unwrap();
        let mut ticket = Some(ticket);
        let pid = Peer::leave_behind(|| {
            let said = match things.session.after_fork_child(ticket.take().unwrap()) {
                Ok(()) if things.are_whole() => b"+",
                // Somebody took it for dead meanwhile: its counts are its own from here on.
                Err(Error::TicketExpired) => b"~",
                _ => b"-",
            };
            let writer = self.ends.as_mut().unwrap().1.as_mut().unwrap();
            writer.write_all(said).unwrap();
        });
        let ticket = ticket.take().unwrap();
        things.session.after_fork_parent(ticket, Some(pid));
    }

    fn check(&mut self, death: &Death) {
        let world = self.world.take().unwrap();
        let session = &world.session;
        let mut said = Vec::new();
        // Until nobody holds the other end any more.
        self.ends.take().unwrap().0.read_to_end(&mut said).unwrap();
        assert!(said != b"-", "the child lacks something");
        assert!(!death.completed || said == b"+", "no child: {said:?}");
        self.children += said.len();
        self.late += usize::from(said == b"~");
        session.reap_pid(death.pid);
        if said.is_empty() {
            session.scavenge();
            if session.usage().unwrap().announced > 0 {
                // Nobody can know that there is no child; a minute later it does not matter.
                self.left_open += 1;
                if self.undecided.len() < 3 {
                    self.undecided.push((world, Instant::now()));
                }
                return;
            }
        }
        is_settled(&world, self.before);
        world.end();
    }
}

/// Nothing is left of the others, once the last of them is gone.
fn is_settled(world: &World, before: (u64, u64)) {
    let session = &world.session;
    wait_until("all others are gone", || {
        session.scavenge();
        let usage = session.usage().unwrap();
        usage.members == 1 && usage.announced == 0
    });
    let usage = session.usage().unwrap();
    assert_eq!(
        (usage.places, usage.references),
        before,
        "leaked or lost: {:#?}",
        session.describe_places()
    );
    still_works(world);
}

fn long() -> bool {
    std::env::var("BEQUEATH_FAULTS").is_ok_and(|value| matches!(value.as_str(), "full" | "long"))
}

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
        if long() {
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
