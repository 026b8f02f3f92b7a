//! Operations of a queue beside put and get, killed anywhere, and what the survivors must find.

use std::os::fd::AsFd;
use std::time::Duration;

use super::{get, put, Announced, World};
use bequeath_channel::{board, Error, Options, Outgoing, Queue};
use bequeath_os::poll::{self, Events};
use bequeath_os::Deadline;
use bequeath_sync::Never;
use bequeath_testing::{Death, Outcome, Peer, Scenario};

const STUCK: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A receiver and a sender wait, at queues of their own.
    Close,
    /// Somebody waits until all is done.
    TaskDone,
    /// The victim waits until all is done.
    Join,
    /// The first to ask for the descriptor makes the sockets and pins them to the board.
    FirstReadiness,
}

struct Stage {
    world: World,
    queue: Queue,
    /// Bounded, and full.
    full: Queue,
    waiting: Vec<Peer>,
    announced: Option<Announced>,
    /// What a mistake tested before has left on the board, which is this process's.
    pinned_before: bool,
}

fn pinned() -> bool {
    let [_, board] = board::descriptors().unwrap();
    poll::is_ready(board.as_fd(), Events::IN).unwrap()
}

pub struct Waits {
    act: Act,
    stage: Option<Stage>,
}

fn recv(queue: &Queue, deadline: Deadline) -> Result<u8, Error> {
    let message = queue.recv(deadline, &mut Never)?;
    Ok(message.kind)
}

impl Waits {
    pub fn new(act: Act) -> Self {
        Self { act, stage: None }
    }

    fn stage(&mut self) -> &mut Stage {
        self.stage.as_mut().unwrap()
    }
}

impl Scenario for Waits {
    fn arrange(&mut self) {
        self.stage = None;
        let world = World::without_turn();
        let queue = world.queue(None);
        let mut options = Options::default();
        options.capacity = Some(1);
        let full = Queue::with_options(&world.session, options).unwrap();
        let mut stage = Stage {
            world,
            queue,
            full,
            waiting: Vec::new(),
            announced: None,
            pinned_before: pinned(),
        };
        let (world, queue, full) = (&stage.world, &stage.queue, &stage.full);
        match self.act {
            Act::Close => {
                put(full, 1, b"x");
                stage.waiting.push(world.spawn(|| {
                    // (Survivors find out by sending whether it is closed.)
                    let mut taken = Ok(0);
                    while taken.is_ok() {
                        taken = recv(queue, Deadline::NEVER);
                    }
                    assert!(matches!(taken, Err(Error::Closed)));
                }));
                stage.waiting.push(world.spawn(|| {
                    let message = Outgoing::bytes(2, b"y");
                    let closed = full.send(message, Deadline::NEVER, &mut Never);
                    assert!(matches!(closed, Err(Error::Closed)));
                }));
            }
            Act::TaskDone => {
                put(queue, 1, b"work");
                get(queue);
                stage.waiting.push(world.spawn(|| {
                    queue.join(Deadline::NEVER, &mut Never).unwrap();
                }));
            }
            Act::Join => {
                put(queue, 1, b"work");
                get(queue);
            }
            Act::FirstReadiness => put(queue, 1, b"there"),
        }
        stage.waiting.iter().for_each(Peer::wait_asleep);
        stage.announced = Some(stage.world.announce());
        self.stage = Some(stage);
    }

    fn forked(&mut self, victim: u32) {
        let stage = self.stage();
        let announced = stage.announced.as_mut().unwrap();
        announced.forked(&stage.world.session, victim);
    }

    fn enter(&mut self) {
        let stage = self.stage();
        let announced = stage.announced.as_mut().unwrap();
        announced.enter(&stage.world.session);
    }

    fn act(&mut self) {
        let act = self.act;
        let stage = self.stage();
        match act {
            Act::Close => {
                stage.queue.close().unwrap();
                stage.full.close().unwrap();
            }
            Act::TaskDone => stage.queue.task_done().unwrap(),
            Act::Join => stage.queue.join(Deadline::NEVER, &mut Never).unwrap(),
            Act::FirstReadiness => std::mem::forget(stage.queue.readiness().unwrap()),
        }
    }

    fn sleeps(&self) -> bool {
        self.act == Act::Join
    }

    fn nudge(&mut self) {
        let queue = &self.stage().queue;
        if queue.unfinished().unwrap() > 0 {
            queue.task_done().unwrap();
        }
    }

    fn check(&mut self, death: &Death) {
        let Stage {
            world,
            queue,
            full,
            waiting,
            pinned_before,
            ..
        } = self.stage.take().unwrap();
        match self.act {
            Act::Close => {
                let is_closed = |queue: &Queue| {
                    let sent = queue.send(Outgoing::bytes(0, b"z"), Deadline::PAST, &mut Never);
                    matches!(sent, Err(Error::Closed))
                };
                if death.completed {
                    assert!(is_closed(&queue) && is_closed(&full));
                }
                // For senders and receivers alike, or for neither.
                let ended = matches!(recv(&queue, Deadline::PAST), Err(Error::Closed));
                assert_eq!(ended, is_closed(&queue), "closed on one side");
                // Once more is no mistake; who was not told by the dead is told now.
                queue.close().unwrap();
                full.close().unwrap();
                assert!(is_closed(&queue) && is_closed(&full));
                // What was in it is taken before its end is told.
                assert_eq!(recv(&full, Deadline::PAST).unwrap(), 1);
                while queue.recv(Deadline::PAST, &mut Never).is_ok() {}
                assert!(matches!(recv(&full, Deadline::PAST), Err(Error::Closed)));
            }
            Act::TaskDone | Act::Join => {
                let left = queue.unfinished().unwrap();
                assert!(left == 0 || (left == 1 && !death.completed), "{left} left");
                if left == 1 {
                    let told = waiting.iter().any(Peer::has_ended);
                    assert!(!told, "all is said to be done, and one is not");
                    queue.task_done().unwrap();
                }
                let more = queue.task_done();
                assert!(matches!(more, Err(Error::TooManyDone)), "{more:?}");
                queue.join(Deadline::after(STUCK), &mut Never).unwrap();
            }
            Act::FirstReadiness => {
                let fd = queue.readiness().unwrap();
                let readable = || poll::is_ready(fd.as_fd(), Events::IN).unwrap();
                assert!(readable(), "not empty, yet not readable");
                get(&queue);
                queue.settle_readiness();
                assert!(!readable(), "empty, yet readable for ever");
                // Whoever comes by another way finds the same sockets.
                let other = world.spawn(|| {
                    let again = Queue::from_handle(&queue.handle()).unwrap();
                    let fd = again.readiness().unwrap();
                    put(&again, 2, b"more");
                    assert!(poll::is_ready(fd.as_fd(), Events::IN).unwrap());
                });
                assert_eq!(other.join(), Outcome::Exited(0));
                assert!(readable(), "the survivors watch two different descriptors");
            }
        }
        for peer in waiting {
            assert_eq!(peer.join(), Outcome::Exited(0), "who waited");
        }
        world.session.reap_pid(death.pid);
        drop((queue, full));
        world.is_empty();
        assert!(
            pinned_before || !pinned(),
            "sockets of a queue that is gone are pinned still"
        );
    }
}
