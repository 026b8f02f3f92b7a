//! Putting a report together: the census of the arena, what procfs says of each member, and the two
//! brought together where a thread sleeps on an object.

use std::collections::{BTreeMap, HashMap};

use bequeath_os::Deadline;
use bequeath_process::ExitStatus;
use bequeath_shm::{kind, Census, HeldBy, Identity, Reference, Role};
use bequeath_sync::waiting::Sleeper;
use bequeath_sync::ProcessId;

use crate::ages::{Ages, Looks};
use crate::error::{Error, Result};
use crate::find::Arena;
use crate::graph;
use crate::objects::{Found, Objects};
use crate::procfs::{self, Mapped};
use crate::report::{Death, Holder, KeptOut, Memory, Process, Session, Usage, Wait};

/// Who is who.
pub(crate) struct People {
    names: HashMap<u64, String>,
    alive: HashMap<u64, bool>,
    sleepers: Vec<Sleeper>,
}

impl People {
    pub(crate) fn holder(&self, process: ProcessId, thread_number: Option<u64>) -> Holder {
        let (bits, number) = (process.to_bits(), thread_number.map(|number| number as u32));
        let its =
            |entry: &&Sleeper| entry.process == process && Some(entry.thread_number) == number;
        let thread = self.sleepers.iter().find(its).map(|entry| entry.thread_id);
        let name = self.names.get(&bits).cloned();
        let alive = self.alive.get(&bits).copied();
        Holder {
            pid: process.pid(),
            process: name
                .or_else(|| Some(procfs::process(process.pid())?.comm))
                .unwrap_or_else(|| "?".to_owned()),
            thread,
            thread_name: thread.and_then(|thread| procfs::thread_name(process.pid(), thread)),
            alive: alive.unwrap_or_else(|| !process.is_dead()),
            identity: bits,
            thread_number: number,
        }
    }
}

pub(crate) fn session(arena: Arena, looks: &mut Looks) -> Result<Session> {
    let pid = arena.pid;
    let unreadable = |source| Error::Unreadable { pid, source };
    let census = arena.observer.census().map_err(unreadable)?;
    let (processes, people) = people(&arena, &census);
    let mut found = Objects::find(&arena, &census, &people);
    let waits = waits(&arena, &people, &found);
    found.place_waits(&waits);
    let id = format!("{:032x}", census.id);
    let mut ages = Ages::new(&id, &waits, looks);
    found.place_ages(|lock| ages.least(lock));
    let deaths = deaths(&arena, &census, &people, &found);
    let memory = memory(&census, &found);
    let cycles = graph::cycles(&waits);
    let mut session = Session {
        id,
        processes,
        queues: Vec::new(),
        locks: Vec::new(),
        semaphores: Vec::new(),
        conditions: Vec::new(),
        events: Vec::new(),
        barriers: Vec::new(),
        values: Vec::new(),
        pools: Vec::new(),
        waits,
        cycles,
        deaths,
        memory,
    };
    let mut workers = Vec::new();
    for object in found.into_all() {
        match object {
            Found::Queue(queue) => session.queues.push(queue),
            Found::Lock(lock) => session.locks.push(lock),
            Found::Semaphore(semaphore) => session.semaphores.push(semaphore),
            Found::Condition(condition) => session.conditions.push(condition),
            Found::Event(event) => session.events.push(event),
            Found::Barrier(barrier) => session.barriers.push(barrier),
            Found::Value(value) => session.values.push(value),
            Found::Pool(pool) => session.pools.push(pool),
            Found::Worker(_, pool, worker) => workers.push((pool, worker)),
        }
    }
    workers.sort_by_key(|(_, worker)| worker.pid);
    for (id, worker) in workers {
        let pool = session.pools.iter_mut().find(|pool| pool.head.id == id);
        pool.into_iter()
            .for_each(|pool| pool.workers.push(worker.clone()));
    }
    Ok(session)
}

fn kept_out(words: &[String]) -> Vec<KeptOut> {
    let told = words.iter().filter_map(|word| word.split_once(": "));
    told.map(|(module, left)| KeptOut {
        module: module.to_owned(),
        left: left.to_owned(),
    })
    .collect()
}

fn people(arena: &Arena, census: &Census) -> (Vec<Process>, People) {
    let mut people = People {
        names: HashMap::new(),
        alive: HashMap::new(),
        sleepers: arena.observer.sleepers(),
    };
    let mut processes = Vec::new();
    for member in &census.members {
        let (process, bits) = (member.process, member.process.to_bits());
        // A child that is only being made still goes under its parent's number.
        let child_to_be = matches!(member.standing, "preparing" | "pending" | "settling");
        if child_to_be || people.alive.contains_key(&bits) {
            continue;
        }
        let alive = !process.is_dead();
        let about = arena.observer.about(process);
        let seen = procfs::process(process.pid()).filter(|_| alive || is_zombie(process));
        let told = about.as_ref().map(|about| about.name.clone());
        let name = told
            .filter(|name| !name.is_empty())
            .or_else(|| seen.as_ref().map(|seen| seen.comm.clone()))
            .unwrap_or_else(|| "?".to_owned());
        people.alive.insert(bits, alive);
        people.names.insert(bits, name.clone());
        if member.standing == "left" && !alive {
            continue;
        }
        let seen = seen.unwrap_or_default();
        let role = about.map_or(Role::Program, |about| about.role);
        // (Its children have its command line.)
        let is_template = matches!(role, Role::SpawnTemplate | Role::ForkServerTemplate);
        processes.push(Process {
            pid: process.pid(),
            parent: seen.parent,
            name,
            role: role.name(),
            state: if seen.state.is_empty() {
                "dead"
            } else {
                seen.state
            },
            standing: member.standing,
            threads: seen.threads,
            command: seen.command,
            kept_out: if is_template {
                kept_out(&seen.without)
            } else {
                Vec::new()
            },
        });
    }
    for death in arena.observer.deaths() {
        let name = people.names.entry(death.process.to_bits());
        name.or_insert(death.about.name);
    }
    processes.sort_by_key(|process| process.pid);
    (processes, people)
}

/// Dead, and its number is still its own.
fn is_zombie(process: ProcessId) -> bool {
    ProcessId::of(process.pid()) == Some(process)
}

fn waits(arena: &Arena, people: &People, found: &Objects) -> Vec<Wait> {
    let now = Deadline::now().as_nanos();
    let mut maps: HashMap<u32, Mapped> = HashMap::new();
    let mut waits = Vec::new();
    for entry in &people.sleepers {
        let who = people.holder(entry.process, Some(entry.thread_number.into()));
        if entry.place == 0 || !who.alive {
            continue;
        }
        let pid = entry.process.pid();
        let mapped = maps
            .entry(pid)
            .or_insert_with(|| Mapped::of(pid, arena.inode));
        let place = mapped.offset_of(entry.place);
        let on = place.and_then(|offset| found.at(offset));
        waits.push(Wait {
            who,
            object: on.as_ref().map(|on| on.head.id.clone()),
            object_name: on
                .as_ref()
                .map_or("something else".to_owned(), |on| on.head.name.clone()),
            waits: on.as_ref().map_or("for", |on| on.waits),
            seconds: now.saturating_sub(entry.since) as f64 / 1e9,
            held_by: on.map_or_else(Vec::new, |on| on.held_by),
        });
    }
    waits.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
    waits
}

fn deaths(arena: &Arena, census: &Census, people: &People, found: &Objects) -> Vec<Death> {
    let now = Deadline::now().as_nanos();
    let mut noted = Vec::new();
    let mut deaths: Vec<Death> = Vec::new();
    for death in arena.observer.deaths() {
        noted.push(death.process);
        // Noted for those who hold a handle of it, and no news.
        if death.status == Some(0) {
            continue;
        }
        deaths.push(Death {
            pid: death.process.pid(),
            name: death.about.name,
            role: death.about.role.name(),
            code: death.status,
            cause: cause(death.status),
            seconds_ago: Some(now.saturating_sub(death.at) as f64 / 1e9),
            holds: found.held_by(death.process),
        });
    }
    // Of two that had the same number the later comes last, as above.
    let mut members: Vec<_> = census.members.iter().collect();
    members.sort_by_key(|member| member.process.start_ticks());
    for member in members {
        let process = member.process;
        let dead = people.alive.get(&process.to_bits()) == Some(&false);
        if !dead || member.standing != "live" || noted.contains(&process) {
            continue;
        }
        noted.push(process);
        let about = arena.observer.about(process);
        let code = Some(process)
            .filter(|process| is_zombie(*process))
            .and_then(exit_code);
        deaths.push(Death {
            pid: process.pid(),
            name: about
                .as_ref()
                .map_or_else(String::new, |about| about.name.clone()),
            role: about.map_or("program", |about| about.role.name()),
            code,
            cause: cause(code),
            seconds_ago: None,
            holds: found.held_by(process),
        });
    }
    deaths
}

/// What a process that nobody reaped has left for its parent.
fn exit_code(process: ProcessId) -> Option<i32> {
    let status = procfs::exit_status(process.pid())?;
    Some(match status & 0x7f {
        0 => (status >> 8) & 0xff,
        signal => -signal,
    })
}

fn cause(code: Option<i32>) -> String {
    match code {
        None => "unknown: its parent has not asked".to_owned(),
        Some(code) if code < 0 => ExitStatus::Signaled(-code).to_string(),
        Some(code) => ExitStatus::Exited(code).to_string(),
    }
}

fn memory(census: &Census, found: &Objects) -> Memory {
    let mut kinds: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
    let kind_of = |reference: Reference| found.kind_at(reference.offset);
    for place in &census.places {
        let kind = match place.held_by {
            HeldBy::Free { .. } => "free, kept for the next use",
            HeldBy::Object => "objects",
            HeldBy::Member(_) | HeldBy::Moving(_) if place.object.is_some() => "objects",
            HeldBy::Member(_) | HeldBy::Moving(_) => "held by processes",
            HeldBy::Queued(_) if place.envelope => "messages in queues",
            HeldBy::Queued(_) => "segments of queues",
            HeldBy::PartOf(_) => "large parts of messages",
            HeldBy::Kept(reference) if kind_of(reference) == Some(kind::QUEUE) => {
                "segments of queues"
            }
            HeldBy::Kept(_) => "values and arrays",
            HeldBy::InKernel => "messages in sockets",
            _ => "unknown",
        };
        let entry = kinds.entry(kind).or_default();
        entry.0 += 1;
        entry.1 += place.backed;
    }
    let known: u64 = kinds.values().map(|(_, bytes)| bytes).sum();
    let mut kinds: Vec<Usage> = kinds
        .into_iter()
        .map(|(kind, (places, bytes))| Usage {
            kind,
            places,
            bytes,
        })
        .collect();
    kinds.push(Usage {
        kind: "tables, and slots never used",
        places: 0,
        bytes: census.used.saturating_sub(known),
    });
    kinds.sort_by_key(|usage| std::cmp::Reverse(usage.bytes));
    Memory {
        used: census.used,
        limit: census.limit,
        size: census.size,
        kinds,
        references: census.references.len() as u64,
    }
}

/// The living processes that have each object.
pub(crate) fn users(census: &Census) -> HashMap<Reference, Vec<u32>> {
    let mut users: HashMap<Reference, Vec<u32>> = HashMap::new();
    for reference in &census.references {
        if let (Some(object), HeldBy::Member(Some(process))) = (reference.object, reference.held_by)
        {
            users.entry(object).or_default().push(process.pid());
        }
    }
    for pids in users.values_mut() {
        pids.sort_unstable();
        pids.dedup();
    }
    users
}

/// Objects that are alive, in the order of their places.
pub(crate) fn living(census: &Census) -> impl Iterator<Item = (&Identity, u64)> {
    census.places.iter().filter_map(|place| {
        let object = place.object.as_ref()?;
        let alive = object.count > 0 && !object.dying;
        let held = !matches!(place.held_by, HeldBy::Free { .. });
        (alive && held).then_some((object, place.size))
    })
}
