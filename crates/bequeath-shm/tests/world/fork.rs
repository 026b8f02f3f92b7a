//! The window of a plain fork: the parent is killed in it, and its child goes on.

use std::io::{Read, Write};
use std::time::Instant;

use bequeath_shm::{Adopted, AnyHandle, Envelope, Error, Memory, Room, Session};
use bequeath_testing::{wait_until, Death, Peer, Scenario};

use super::{envelope, still_works, Place, World};

const SLOT: usize = 100_000;
const RUN: usize = 9 << 20;

/// What a process holds when it forks.
pub struct Things {
    pub session: Session,
    pub handles: Vec<AnyHandle>,
    adopted: Vec<Adopted>,
}

impl Things {
    pub fn new(session: Session, world: &World) -> Self {
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
    pub fn are_whole(&self) -> bool {
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
        // Counted once more, which only a living object is.
        let room = Room {
            references: self.handles.len(),
            ..Room::default()
        };
        let mut envelope = Envelope::new(&self.session, room).unwrap();
        let mut counted = self.handles.iter().map(|it| envelope.attach_reference(it));
        content && counted.all(|counted| counted.is_ok())
    }
}

/// The parent is killed; its child, if there is one, goes on.
#[derive(Default)]
pub struct InTheParent {
    world: Option<World>,
    things: Option<Things>,
    pub before: (u64, u64),
    ends: Option<(std::io::PipeReader, Option<std::io::PipeWriter>)>,
    /// The child goes on when nobody holds the writing end: once its dead parent was cleaned up after.
    go: Option<(std::io::PipeReader, Option<std::io::PipeWriter>)>,
    /// Worlds in which nobody can know, for a minute, that there is no child.
    pub undecided: Vec<(World, Instant)>,
    pub left_open: usize,
    pub children: usize,
    pub late: usize,
}

impl Scenario for InTheParent {
    fn arrange(&mut self) {
        let world = World::new();
        let usage = world.session.usage().unwrap();
        self.before = (usage.places, usage.references);
        self.world = Some(world);
        let (reader, writer) = std::io::pipe().unwrap();
        self.ends = Some((reader, Some(writer)));
        let (reader, writer) = std::io::pipe().unwrap();
        self.go = Some((reader, Some(writer)));
    }

    fn forked(&mut self, _: u32) {
        self.ends.as_mut().unwrap().1 = None;
    }

    fn enter(&mut self) {
        let world = self.world.as_ref().unwrap();
        let fd = world.session.descriptor().unwrap();
        let session = Session::attach(fd.try_clone_to_owned().unwrap()).unwrap();
        self.things = Some(Things::new(session, world));
        self.go.as_mut().unwrap().1 = None;
    }

    fn act(&mut self) {
        let things = self.things.as_ref().unwrap();
        let ticket = things.session.before_fork().unwrap();
        let mut ticket = Some(ticket);
        let pid = Peer::leave_behind(|| {
            let claimed = things.session.after_fork_child(ticket.take().unwrap());
            let mut nothing = Vec::new();
            let go = &mut self.go.as_mut().unwrap().0;
            go.read_to_end(&mut nothing).unwrap();
            let said = match claimed {
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
        session.reap_pid(death.pid);
        self.go = None;
        let mut said = Vec::new();
        // Until nobody holds the other end any more.
        self.ends.take().unwrap().0.read_to_end(&mut said).unwrap();
        assert!(said != b"-", "the child lacks something");
        assert!(!death.completed || said == b"+", "no child: {said:?}");
        self.children += said.len();
        self.late += usize::from(said == b"~");
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
pub fn is_settled(world: &World, before: (u64, u64)) {
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
