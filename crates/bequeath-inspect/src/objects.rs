//! The shared objects: which there are, what each says of itself, and what one waits for who sleeps at
//! a place inside of one.

use std::collections::{BTreeMap, HashMap};

use bequeath_channel::seen as queue;
use bequeath_os::Deadline;
use bequeath_shm::{kind, Census, Identity, Observer, Slate};
use bequeath_sync::seen::LockSeen;
use bequeath_sync::{Barrier, Condition, Event, Lock, ProcessId, RecursiveLock, Semaphore};

use crate::collect::{living, users, People};
use crate::find::Arena;
use crate::report::{self, Head, Holder, Sender, Wait};

/// More than any body has.
const BODY: usize = 4096;

/// One object, read.
#[derive(Clone)]
pub(crate) enum Found {
    Queue(report::Queue),
    Lock(report::Lock),
    Semaphore(report::Semaphore),
    Condition(report::Condition),
    Event(report::Event),
    Barrier(report::Barrier),
    Value(report::Value),
    Pool(report::Pool),
    /// With the name of its pool.
    Worker(Head, String, report::PoolWorker),
}

/// What somebody waits for.
pub(crate) struct WaitsFor {
    pub(crate) head: Head,
    pub(crate) waits: &'static str,
    pub(crate) held_by: Vec<Holder>,
}

/// All objects, by place.
pub(crate) struct Objects {
    all: BTreeMap<u64, (u64, u32, Found)>,
}

impl Objects {
    pub(crate) fn find(arena: &Arena, census: &Census, people: &People) -> Self {
        let users = users(census);
        let mut all = BTreeMap::new();
        let mut names: HashMap<String, u32> = HashMap::new();
        for (object, size) in living(census) {
            let used_by = users.get(&object.reference).cloned().unwrap_or_default();
            let Ok(body) = arena.observer.body(object, BODY) else {
                continue;
            };
            let mut head = head(object, used_by, body.steady);
            let same = names.entry(head.name.clone()).or_default();
            *same += 1;
            if *same > 1 {
                head.name = format!("{} #{same}", head.name);
            }
            let reading = Reading {
                observer: &arena.observer,
                people,
                words: &body.words,
                object,
            };
            if let Some(found) = reading.read(head) {
                all.insert(object.reference.offset, (size, object.kind, found));
            }
        }
        Self { all }
    }

    /// What stands at this place of the arena, as somebody meets it who sleeps there.
    pub(crate) fn at(&self, offset: u64) -> Option<WaitsFor> {
        let (start, (size, _, found)) = self.all.range(..=offset).next_back()?;
        let inside = offset.checked_sub(start + Observer::BODY)?;
        (offset < start + size).then(|| found.waits_at(inside as usize))
    }

    pub(crate) fn kind_at(&self, offset: u64) -> Option<u32> {
        self.all.get(&offset).map(|(_, kind, _)| *kind)
    }

    /// Names of what a process holds.
    pub(crate) fn held_by(&self, process: ProcessId) -> Vec<String> {
        let bits = process.to_bits();
        let held = self.all.values().filter_map(|(_, _, found)| match found {
            Found::Lock(lock) => {
                let owner = lock.owner.as_ref()?;
                (owner.identity == bits).then(|| lock.head.name.clone())
            }
            Found::Semaphore(semaphore) => {
                let mut holders = semaphore.holders.iter();
                let holds = holders.any(|(holder, _)| holder.identity == bits);
                holds.then(|| semaphore.head.name.clone())
            }
            _ => None,
        });
        held.collect()
    }

    /// Tells each object who waits for it.
    pub(crate) fn place_waits(&mut self, waits: &[Wait]) {
        for (_, _, found) in self.all.values_mut() {
            let id = found.head().id.clone();
            let on_it = waits
                .iter()
                .filter(|wait| wait.object.as_ref() == Some(&id));
            let pids = |what: &str| {
                let those = on_it.clone().filter(|wait| wait.waits == what);
                those.map(|wait| wait.who.pid).collect::<Vec<u32>>()
            };
            match found {
                Found::Queue(queue) => {
                    queue.receivers_waiting = pids(FOR_A_MESSAGE);
                    queue.senders_waiting = pids(FOR_ROOM);
                    queue.joiners = pids(FOR_WORK);
                    let receivers = &queue.receivers_waiting;
                    queue.starved = queue.depth == 0
                        && !queue.closed
                        && !receivers.is_empty()
                        && queue.head.references == queue.head.used_by.len() as u64
                        && queue.head.used_by.iter().all(|pid| receivers.contains(pid));
                }
                Found::Lock(lock) => lock.waiting = pids(TO_ACQUIRE),
                Found::Semaphore(semaphore) => semaphore.waiting = pids(FOR_A_UNIT),
                Found::Event(event) => event.waiting = pids(TO_BE_SET),
                Found::Condition(_) | Found::Barrier(_) | Found::Value(_) => {}
                Found::Pool(_) | Found::Worker(..) => {}
            }
        }
    }

    /// Tells each held lock the least of how long it is held, where that is more than it knows itself.
    pub(crate) fn place_ages(&mut self, mut least: impl FnMut(&report::Lock) -> Option<f64>) {
        for (_, _, found) in self.all.values_mut() {
            let Found::Lock(lock) = found else { continue };
            let known = lock.held_seconds.unwrap_or(0.0);
            let least = least(lock).filter(|_| !lock.held_exactly);
            if let Some(seconds) = least.filter(|seconds| *seconds > known) {
                lock.held_seconds = Some(seconds);
            }
        }
    }

    pub(crate) fn into_all(self) -> impl Iterator<Item = Found> {
        self.all.into_values().map(|(_, _, found)| found)
    }
}

const TO_ACQUIRE: &str = "to acquire";
const FOR_A_UNIT: &str = "for a unit of";
const FOR_A_MESSAGE: &str = "for a message of";
const FOR_ROOM: &str = "for room in";
const FOR_WORK: &str = "for the work of";
const TO_BE_NOTIFIED: &str = "to be notified by";
const TO_BE_SET: &str = "for";
const FOR_THE_OTHERS: &str = "for the others at";
const FOR_A_CHANGE: &str = "for somebody to finish a change of";

impl Found {
    pub(crate) fn head(&self) -> &Head {
        match self {
            Self::Queue(object) => &object.head,
            Self::Lock(object) => &object.head,
            Self::Semaphore(object) => &object.head,
            Self::Condition(object) => &object.head,
            Self::Event(object) => &object.head,
            Self::Barrier(object) => &object.head,
            Self::Value(object) => &object.head,
            Self::Pool(object) => &object.head,
            Self::Worker(head, ..) => head,
        }
    }

    /// By the word of the body on which one sleeps; a cell stands at its front.
    fn waits_at(&self, offset: usize) -> WaitsFor {
        let mut held_by = Vec::new();
        let waits = match self {
            Self::Lock(lock) => {
                held_by.extend(lock.owner.clone());
                TO_ACQUIRE
            }
            Self::Queue(queue) => match queue::wait_at(offset) {
                Some(queue::QueueWait::Message) => FOR_A_MESSAGE,
                Some(queue::QueueWait::Room) => FOR_ROOM,
                Some(queue::QueueWait::Done) => FOR_WORK,
                _ => {
                    held_by.extend(queue.busy.clone());
                    FOR_A_CHANGE
                }
            },
            Self::Condition(_) => TO_BE_NOTIFIED,
            _ if offset == 0 => FOR_A_CHANGE,
            Self::Semaphore(semaphore) => {
                if semaphore.value == 0 {
                    held_by.extend(semaphore.holders.iter().map(|(holder, _)| holder.clone()));
                }
                FOR_A_UNIT
            }
            Self::Event(_) => TO_BE_SET,
            Self::Barrier(_) => FOR_THE_OTHERS,
            Self::Value(_) | Self::Pool(_) | Self::Worker(..) => FOR_A_CHANGE,
        };
        WaitsFor {
            head: self.head().clone(),
            waits,
            held_by,
        }
    }
}

fn head(object: &Identity, used_by: Vec<u32>, steady: bool) -> Head {
    let what = match object.kind {
        kind::LOCK => "Lock",
        kind::RECURSIVE_LOCK => "RLock",
        kind::LOCKED_VALUE => "Lock<T>",
        kind::SEMAPHORE => "Semaphore",
        kind::CONDITION => "Condition",
        kind::EVENT => "Event",
        kind::BARRIER => "Barrier",
        kind::QUEUE => "Queue",
        kind::POOL_BELL => "Pool",
        kind::WORKER_SLATE => "Worker",
        _ => "Value",
    };
    let maker = &object.maker;
    let id = object.reference.to_string();
    let made_at = (!maker.file.is_empty()).then(|| format!("{}:{}", maker.file, maker.line));
    Head {
        name: match &made_at {
            Some(place) => format!("{what} {place}"),
            None => format!("{what} {id}"),
        },
        id,
        made_by: maker.pid,
        made_at,
        used_by,
        references: object.count,
        steady,
    }
}

struct Reading<'a> {
    observer: &'a Observer,
    people: &'a People,
    words: &'a [u64],
    object: &'a Identity,
}

impl Reading<'_> {
    fn read(&self, head: Head) -> Option<Found> {
        let words = self.words;
        Some(match self.object.kind {
            kind::LOCK | kind::LOCKED_VALUE => Found::Lock(self.lock(head, Lock::read(words)?)),
            kind::RECURSIVE_LOCK => Found::Lock(self.lock(head, RecursiveLock::read(words)?)),
            kind::SEMAPHORE => {
                let seen = Semaphore::read(words)?;
                let holding = |holding: &bequeath_sync::seen::Holding| {
                    (self.people.holder(holding.process, None), holding.units)
                };
                Found::Semaphore(report::Semaphore {
                    head,
                    value: seen.value,
                    bound: seen.bound,
                    holders: seen.holders.iter().map(holding).collect(),
                    last_taker: self.holder(seen.last_taker),
                    waiting: Vec::new(),
                })
            }
            kind::CONDITION => {
                let seen = Condition::read(words)?;
                Found::Condition(report::Condition {
                    head,
                    waiting: pids(&seen.waiting),
                    notified: pids(&seen.notified),
                })
            }
            kind::EVENT => {
                let seen = Event::read(words)?;
                Found::Event(report::Event {
                    head,
                    set: seen.set,
                    times: seen.times,
                    waiting: Vec::new(),
                })
            }
            kind::BARRIER => {
                let seen = Barrier::read(words)?;
                Found::Barrier(report::Barrier {
                    head,
                    parties: seen.parties,
                    arrived: seen.arrived,
                    present: pids(&seen.present),
                    generation: seen.generation,
                    broken: seen.broken,
                })
            }
            kind::QUEUE => Found::Queue(self.queue(head)?),
            kind::MEMORY => Found::Value(report::Value {
                head,
                bytes: self.object.extra_length,
            }),
            kind::POOL_BELL => Found::Pool(report::Pool {
                head,
                workers: Vec::new(),
            }),
            kind::WORKER_SLATE => self.worker(head)?,
            _ => return None,
        })
    }

    fn holder(&self, process: Option<ProcessId>) -> Option<Holder> {
        process.map(|process| self.people.holder(process, None))
    }

    fn lock(&self, head: Head, seen: LockSeen) -> report::Lock {
        let now = (Deadline::now().as_nanos() / 1_000_000) as u32;
        let since = seen.held_since;
        let owner = seen.owner;
        report::Lock {
            head,
            owner: owner.map(|owner| self.people.holder(owner, seen.thread)),
            depth: if owner.is_some() { seen.depth } else { 0 },
            times: seen.times,
            held_seconds: since.map(|since| f64::from(now.wrapping_sub(since.milliseconds)) / 1e3),
            held_exactly: since.is_some_and(|since| since.exact),
            abandoned: seen.abandoned,
            waiting: Vec::new(),
        }
    }

    /// Nothing as long as it is not ready.
    fn worker(&self, head: Head) -> Option<Found> {
        let seen = Slate::read(self.words)?;
        let who = self.people.holder(seen.worker?, None);
        let now = Deadline::now().as_nanos();
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let worker = report::PoolWorker {
            pid: who.pid,
            process: who.process,
            alive: who.alive,
            task: seen.in_hand.map(|at| at.task),
            function: seen.function.filter(|_| seen.in_hand.is_some()),
            task_seconds: seen
                .in_hand
                .filter(|_| who.alive)
                .map(|at| seconds(now.saturating_sub(at.since))),
            tasks_done: seen.done,
            busy_seconds: seconds(seen.busy),
            waiting_seconds: seconds(seen.idle),
            pickling_seconds: seconds(seen.pickling),
        };
        Some(Found::Worker(head, seen.pool?.to_string(), worker))
    }

    fn queue(&self, head: Head) -> Option<report::Queue> {
        let seen = queue::read(self.words)?;
        let copy = |offset, len| self.observer.words(offset, len).ok();
        let senders = queue::senders(self.words, copy);
        let last_sender = queue::last_sender(self.words, copy);
        Some(report::Queue {
            head,
            depth: seen.count,
            bytes: seen.bytes,
            capacity: seen.capacity,
            unfinished: seen.unfinished,
            closed: seen.closed,
            senders: senders
                .into_iter()
                .map(|(pid, messages)| Sender { pid, messages })
                .collect(),
            last_sender,
            last_receiver: seen.last_receiver,
            receivers_waiting: Vec::new(),
            senders_waiting: Vec::new(),
            joiners: Vec::new(),
            busy: self.holder(seen.cell_held_by),
            starved: false,
        })
    }
}

fn pids(processes: &[ProcessId]) -> Vec<u32> {
    processes.iter().map(|process| process.pid()).collect()
}
