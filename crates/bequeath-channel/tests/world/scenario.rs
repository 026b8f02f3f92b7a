//! One operation on a queue, killed anywhere, and what the survivors must find.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bequeath_channel::{Error, Message, Options, Outgoing, Queue};
use bequeath_os::poll::{self, Events};
use bequeath_os::socket::{self, SocketType};
use bequeath_os::Deadline;
use bequeath_sync::Never;
use bequeath_testing::{Death, Outcome, Peer, Scenario};

use super::{Announced, World};

/// A survivor's operation that takes longer than this is stuck.
const STUCK: Duration = Duration::from_secs(10);
/// The number of the message that a survivor sends after the death.
const AFTER: u64 = 1_000_000;

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    Put,
    Get,
}

/// Who sleeps on the queue while the victim acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sleeper {
    Nobody,
    /// A survivor waits for a message.
    Receiver,
    /// A survivor waits for room.
    Sender,
    /// The victim itself sleeps, until a survivor does what it waits for.
    Victim,
}

/// What messages carry beside their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cargo {
    Nothing,
    Reference,
    Block,
    Descriptor,
}

/// The scenario; see the tests for values.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub act: Act,
    pub sleeper: Sleeper,
    pub cargo: Cargo,
    /// Messages sent (and as many taken again) before, to move the positions.
    pub passed: u64,
    /// Messages in the queue when the victim acts.
    pub present: u64,
    /// Bytes of each payload.
    pub size: usize,
    pub options: Options,
    /// Somebody polls the queue.
    pub watched: bool,
}

impl Plan {
    pub fn new(act: Act) -> Self {
        let present = if act == Act::Get { 3 } else { 0 };
        Self {
            act,
            sleeper: Sleeper::Nobody,
            cargo: Cargo::Nothing,
            passed: 0,
            present,
            size: 100,
            options: Options::default(),
            watched: false,
        }
    }
}

/// Everything of one kill point.
struct Stage {
    world: World,
    queue: Queue,
    /// What messages refer to.
    other: Queue,
    results: Queue,
    sleeper: Option<Peer>,
    announced: Option<Announced>,
    readiness: Option<OwnedFd>,
    /// The victim's message, made before it acts.
    made: Option<(Vec<u8>, Option<OwnedFd>)>,
    /// The far ends of descriptors that were sent: they hang up when no copy is left.
    watch: Vec<OwnedFd>,
    descriptors: usize,
}

pub struct QueueScenario {
    plan: Plan,
    stage: Option<Stage>,
}

fn payload(number: u64, size: usize) -> Vec<u8> {
    let rest = (8..size).map(|place| (number as usize * 31 + place) as u8);
    number.to_ne_bytes().into_iter().chain(rest).collect()
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

impl QueueScenario {
    pub fn new(plan: Plan) -> Self {
        Self { plan, stage: None }
    }

    fn stage(&mut self) -> &mut Stage {
        self.stage.as_mut().unwrap()
    }
}

impl Plan {
    /// Sends message `number`, made of parts that exist already.
    fn send(
        &self,
        stage: &Stage,
        payload: &[u8],
        descriptor: Option<OwnedFd>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let mut message = Outgoing::bytes(1, payload);
        match self.cargo {
            Cargo::Nothing => {}
            Cargo::Reference => message.references.push(stage.other.handle()),
            Cargo::Block => {
                let mut block = stage.world.session.allocate(5000)?;
                block.write_at(0, payload);
                message.buffers.push(block);
            }
            Cargo::Descriptor => message.descriptors.extend(descriptor),
        }
        stage.queue.send(message, deadline, &mut Never)
    }

    fn make(&self, stage: &mut Stage, number: u64) -> (Vec<u8>, Option<OwnedFd>) {
        let descriptor = (self.cargo == Cargo::Descriptor).then(|| {
            let (near, far) = socket::pair(SocketType::Stream).unwrap();
            bequeath_os::bytes::write(&far, &[std::io::IoSlice::new(&number.to_ne_bytes())])
                .unwrap();
            stage.watch.push(far);
            near
        });
        (payload(number, self.size), descriptor)
    }

    fn put(&self, stage: &mut Stage, number: u64) {
        let (payload, descriptor) = self.make(stage, number);
        self.send(stage, &payload, descriptor, Deadline::after(STUCK))
            .expect("a survivor's put");
    }

    /// The number of a message that is whole.
    fn check_message(&self, message: Message) -> u64 {
        let (buffers, references, descriptors) =
            (message.buffers, message.references, message.descriptors);
        let bytes = message.payload.into_vec();
        let number = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
        assert_eq!(bytes, payload(number, self.size), "torn message");
        match self.cargo {
            Cargo::Nothing => {}
            Cargo::Reference => assert_eq!(
                Queue::from_handle(&references[0]).unwrap().len().unwrap(),
                0
            ),
            Cargo::Block => {
                let mut copy = vec![0; self.size];
                assert!(
                    buffers[0].read_at(0, &mut copy) && buffers[0].len() == 5000,
                    "torn block"
                );
                assert_eq!(copy, bytes, "torn block");
            }
            Cargo::Descriptor => {
                let mut told = [0; 8];
                bequeath_os::bytes::read(&descriptors[0], &mut told).unwrap();
                assert_eq!(
                    u64::from_ne_bytes(told),
                    number,
                    "another message's descriptor"
                );
            }
        }
        number
    }

    fn get(&self, queue: &Queue, deadline: Deadline) -> Option<u64> {
        match queue.recv(deadline, &mut Never) {
            Ok(message) => Some(self.check_message(message)),
            Err(Error::Empty) => None,
            Err(error) => panic!("a survivor's get: {error}"),
        }
    }

    fn start_sleeper(&self, stage: &Stage) -> Option<Peer> {
        let report = |number: u64| super::put(&stage.results, 0, &number.to_ne_bytes());
        let peer = match self.sleeper {
            Sleeper::Nobody | Sleeper::Victim => return None,
            Sleeper::Receiver => stage
                .world
                .spawn(|| report(self.get(&stage.queue, Deadline::NEVER).unwrap())),
            Sleeper::Sender => stage.world.spawn(|| {
                self.send(stage, &payload(AFTER + 1, self.size), None, Deadline::NEVER)
                    .unwrap();
                report(AFTER + 1);
            }),
        };
        peer.wait_asleep();
        Some(peer)
    }
}

impl Scenario for QueueScenario {
    fn arrange(&mut self) {
        let plan = self.plan;
        let descriptors = open_descriptors();
        let world = World::without_turn();
        let queue = Queue::with_options(&world.session, plan.options).unwrap();
        let (other, results) = (world.queue(None), world.queue(None));
        let readiness = plan.watched.then(|| queue.readiness().unwrap());
        let mut stage = Stage {
            world,
            queue,
            other,
            results,
            sleeper: None,
            announced: None,
            readiness,
            made: None,
            watch: Vec::new(),
            descriptors,
        };
        for _ in 0..plan.passed {
            plan.put(&mut stage, 0);
        }
        for number in 0..plan.present {
            plan.put(&mut stage, number);
        }
        for _ in 0..plan.passed {
            plan.get(&stage.queue, Deadline::PAST).unwrap();
        }
        stage.sleeper = plan.start_sleeper(&stage);
        stage.made = Some(plan.make(&mut stage, plan.present));
        stage.announced = Some(stage.world.announce());
        self.stage = Some(stage);
    }

    fn forked(&mut self, victim: u32) {
        let stage = self.stage();
        let announced = stage.announced.as_mut().unwrap();
        announced.forked(&stage.world.session, victim);
        stage.made = None;
    }

    fn enter(&mut self) {
        let stage = self.stage();
        let announced = stage.announced.as_mut().unwrap();
        announced.enter(&stage.world.session);
    }

    fn act(&mut self) {
        let plan = self.plan;
        let stage = self.stage();
        match plan.act {
            Act::Put => {
                let (payload, descriptor) = stage.made.take().unwrap();
                plan.send(stage, &payload, descriptor, Deadline::NEVER)
                    .unwrap();
            }
            Act::Get => drop(stage.queue.recv(Deadline::NEVER, &mut Never).unwrap()),
        }
    }

    fn sleeps(&self) -> bool {
        self.plan.sleeper == Sleeper::Victim
    }

    fn nudge(&mut self) {
        let plan = self.plan;
        let stage = self.stage();
        match plan.act {
            Act::Get if stage.queue.is_empty().unwrap() => plan.put(stage, 0),
            Act::Put if stage.queue.is_full().unwrap() => {
                plan.get(&stage.queue, Deadline::PAST).unwrap();
            }
            _ => {}
        }
    }

    fn check(&mut self, death: &Death) {
        let plan = self.plan;
        let mut stage = self.stage.take().unwrap();
        let sleeping_victim = plan.sleeper == Sleeper::Victim;
        if sleeping_victim {
            // Whether it was nudged or not: a survivor takes what is there.
            let left = stage.queue.len().unwrap();
            while plan.get(&stage.queue, Deadline::PAST).is_some() {}
            assert!(left <= plan.options.capacity.unwrap_or(1) + 1);
        }
        let before = stage.queue.len().unwrap();
        if plan.watched && before > 0 {
            let fd = stage.readiness.as_ref().unwrap();
            assert!(
                poll::is_ready(fd.as_fd(), Events::IN).unwrap(),
                "not empty, yet not readable"
            );
        }
        let mut seen = Vec::new();
        if plan.sleeper == Sleeper::Sender {
            // The queue was full: the sleeper gets in once there is room, whoever makes it.
            seen.extend(plan.get(&stage.queue, Deadline::after(STUCK)));
        } else {
            plan.put(&mut stage, AFTER);
        }
        if let Some(sleeper) = stage.sleeper.take() {
            let told = stage
                .results
                .recv(Deadline::after(STUCK), &mut Never)
                .expect("the sleeper is stuck");
            let number = u64::from_ne_bytes(told.payload.into_vec().try_into().unwrap());
            if plan.sleeper == Sleeper::Receiver {
                seen.push(number);
            }
            assert_eq!(sleeper.join(), Outcome::Exited(0));
        }
        while let Some(number) = plan.get(&stage.queue, Deadline::PAST) {
            seen.push(number);
        }
        let all: Vec<u64> = match (plan.act, plan.sleeper) {
            (_, Sleeper::Victim) => vec![AFTER],
            (Act::Put, _) => (0..=plan.present).chain([AFTER]).collect(),
            (Act::Get, Sleeper::Sender) => (0..plan.present).chain([AFTER + 1]).collect(),
            (Act::Get, _) => (0..plan.present).chain([AFTER]).collect(),
        };
        if !sleeping_victim {
            let affected = if plan.act == Act::Put {
                plan.present
            } else {
                0
            };
            let without: Vec<u64> = all
                .iter()
                .copied()
                .filter(|number| *number != affected)
                .collect();
            let done = if plan.act == Act::Put { &all } else { &without };
            assert!(
                seen == all || seen == without,
                "lost, doubled or out of order: {seen:?}"
            );
            assert!(
                !death.completed || seen == *done,
                "completed and not to be seen: {seen:?}"
            );
            // Every message that came to be seen is work to be reported done, and no other is.
            let put = if plan.act == Act::Put {
                seen.len() as u64
            } else {
                plan.present + 1
            };
            assert_eq!(stage.queue.unfinished().unwrap(), plan.passed + put, "work");
        } else {
            assert_eq!(seen, all);
        }
        self.check_leaks(stage);
    }
}

impl QueueScenario {
    fn check_leaks(&self, stage: Stage) {
        assert_eq!(stage.queue.len().unwrap(), 0);
        if let Some(fd) = &stage.readiness {
            assert!(matches!(
                stage.queue.recv(Deadline::PAST, &mut Never),
                Err(Error::Empty)
            ));
            assert!(
                !poll::is_ready(fd.as_fd(), Events::IN).unwrap(),
                "empty, yet readable for ever"
            );
        }
        let Stage {
            world,
            queue,
            other,
            results,
            readiness,
            watch,
            descriptors,
            ..
        } = stage;
        // Capacity is what it was.
        if let Some(capacity) = self.plan.options.capacity {
            for _ in 0..capacity {
                queue
                    .send(Outgoing::bytes(0, b"x"), Deadline::PAST, &mut Never)
                    .expect("capacity was lost");
            }
            assert!(queue
                .send(Outgoing::bytes(0, b"x"), Deadline::PAST, &mut Never)
                .is_err());
        }
        drop((queue, other, results, readiness));
        world.is_empty();
        for far in &watch {
            let events = poll::wait_one(far.as_fd(), Events::IN, Deadline::PAST).unwrap();
            assert!(
                events.contains(Events::HUP),
                "a descriptor is still somewhere: {events:?}"
            );
        }
        drop((world, watch));
        assert_eq!(open_descriptors(), descriptors, "descriptors leaked");
    }
}
