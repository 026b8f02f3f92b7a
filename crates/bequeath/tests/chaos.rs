//! Workers that use everything at once and are killed at random: nothing is torn, no place has two
//! owners, and in the end everything is given back.
//!
//! `BEQUEATH_CHAOS_KILLS` sets how many are killed; many also need a larger `BEQUEATH_TEST_SECONDS`.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use bequeath::{Block, Child, Error, Event, ExitStatus, Lock, LockError, Message, Queue, Session};
use serde::{Deserialize, Serialize};

tests!(nothing_is_torn_lost_or_kept_when_workers_are_killed);

#[derive(Clone, Serialize, Deserialize)]
struct World {
    blocks: Queue<()>,
    objects: Queue<(Event, Queue<u64>, u64)>,
    count: Lock<[u64; 40]>,
    seed: u64,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A block whose bytes all say whose it is: a second owner would be seen.
struct Marked {
    block: Block,
    mark: u64,
}

const SIZES: [u64; 8] = [40, 256, 900, 5000, 70_000, 300_000, 1_200_000, 6_000_000];
/// How far apart the places of a block are that are written and looked at.
const STRIDE: usize = 1000;

impl Marked {
    fn new(session: &Session, random: &mut Random) -> Option<Self> {
        let size = SIZES[random.below(SIZES.len() as u64) as usize];
        let len = (8 + random.below(size)) as usize;
        let mark = u64::from(std::process::id()) << 32 | random.below(1 << 32);
        match session.allocate(len) {
            Ok(mut block) => {
                for at in places(len) {
                    assert!(block.write_at(at, &mark.to_ne_bytes()));
                }
                Some(Self { block, mark })
            }
            // The others may have taken the budget.
            Err(Error::Session(bequeath_shm::Error::Budget { .. })) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn check(&self) {
        for at in places(self.block.len()) {
            let mut found = [0; 8];
            assert!(self.block.read_at(at, &mut found));
            let found = u64::from_ne_bytes(found);
            assert_eq!(found, self.mark, "at {at} of {} bytes", self.block.len());
        }
    }
}

fn places(len: usize) -> impl Iterator<Item = usize> {
    let last = len - 8;
    let overlaps = last % STRIDE < 8;
    (0..=last)
        .step_by(STRIDE)
        .chain((!overlaps).then_some(last))
}

fn receive(world: &World) -> Option<Marked> {
    let mut message = match world.blocks.try_recv_message() {
        Ok(message) => message,
        Err(Error::Empty) => return None,
        Err(error) => panic!("{error}"),
    };
    let mark = u64::from_ne_bytes(message.bytes[..8].try_into().unwrap());
    let marked = Marked {
        block: message.blocks.pop().unwrap(),
        mark,
    };
    marked.check();
    for handle in &message.handles {
        Event::from_handle(handle).unwrap().set();
    }
    Some(marked)
}

fn one_step(session: &Session, world: &World, kept: &mut Vec<Marked>, random: &mut Random) {
    match random.below(7) {
        0 | 1 if kept.len() < 6 => kept.extend(Marked::new(session, random)),
        2 if !kept.is_empty() => {
            let marked = kept.swap_remove(random.below(kept.len() as u64) as usize);
            let handles = (0..random.below(3))
                .map(|_| session.event().unwrap().to_handle())
                .collect();
            let message = Message {
                bytes: marked
                    .mark
                    .to_ne_bytes()
                    .repeat(1 + random.below(900) as usize),
                blocks: vec![marked.block],
                handles,
                ..Message::default()
            };
            world.blocks.send_message(message).or_else(full).unwrap();
        }
        3 => kept.extend(receive(world)),
        4 => {
            let inner = session.queue(None).unwrap();
            inner.send(&random.below(9)).unwrap();
            let event = session.event().unwrap();
            world
                .objects
                .send(&(event, inner, 3))
                .or_else(full)
                .unwrap();
        }
        5 => {
            if let Ok((event, inner, _)) = world.objects.try_recv() {
                event.set();
                assert!(inner.recv().unwrap() < 9 && event.is_set());
            }
        }
        _ => {
            let mut guard = world.count.lock().or_else(LockError::recover).unwrap();
            assert!(
                guard.iter().all(|word| *word == guard[0]),
                "torn: {:?}",
                *guard
            );
            *guard = [guard[0] + 1; 40];
        }
    }
    if !kept.is_empty() && random.below(3) == 0 {
        kept.swap_remove(random.below(kept.len() as u64) as usize)
            .check();
    }
}

/// No room left in the budget is no failure here.
fn full(error: Error) -> Result<(), Error> {
    match error {
        Error::Queue(_) | Error::Session(bequeath_shm::Error::Budget { .. }) => Ok(()),
        error => Err(error),
    }
}

fn work(world: World) {
    let session = Session::current().unwrap();
    let mut random = Random(world.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut kept = Vec::new();
    loop {
        one_step(&session, &world, &mut kept, &mut random);
    }
}

fn start(session: &Session, world: &World, seed: u64) -> Child<()> {
    let world = World {
        seed,
        ..world.clone()
    };
    session.worker().daemon(true).spawn(work, world).unwrap()
}

fn nothing_is_torn_lost_or_kept_when_workers_are_killed() {
    let asked = std::env::var("BEQUEATH_CHAOS_KILLS")
        .ok()
        .and_then(|text| text.parse().ok());
    let kills = asked.unwrap_or(60_u64);
    let mut options = bequeath::Options::default();
    options.limit = Some(160 << 20);
    let session = Session::with(&options).unwrap();
    let before = session.usage().unwrap();
    let world = World {
        blocks: session.queue(None).unwrap(),
        objects: session.queue(None).unwrap(),
        count: session.lock([0; 40]).unwrap(),
        seed: 0,
    };
    let mut random = Random(std::process::id().into());
    let mut workers: Vec<_> = (1..5).map(|seed| start(&session, &world, seed)).collect();
    for kill in 0..kills {
        let index = random.below(4) as usize;
        let pause = Duration::from_micros(random.below(20_000));
        if let Some(status) = workers[index].wait_timeout(pause).unwrap() {
            let child = workers.swap_remove(index);
            panic!("a worker failed, {status}: {}", child.result().unwrap_err());
        }
        workers[index].kill().unwrap();
        assert_eq!(workers[index].wait().unwrap(), ExitStatus::Signaled(9));
        workers[index] = start(&session, &world, 100 + kill);
        if kill % 8 == 0 {
            // Otherwise the unbounded queues would hold the whole budget.
            while receive(&world).is_some() || world.objects.try_recv().is_ok() {}
        }
    }
    for worker in &workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    let done = world.count.lock().or_else(LockError::recover).unwrap()[0];
    assert!(done > 0);
    while receive(&world).is_some() || world.objects.try_recv().is_ok() {}
    drop((world, workers));
    session.scavenge();
    let after = session.usage().unwrap();
    let figures = |usage: bequeath::Usage| (usage.references, usage.places, usage.members);
    assert_eq!(figures(after), figures(before), "{after:?}");
    println!("{kills} kills, {done} rounds under the lock");
}
