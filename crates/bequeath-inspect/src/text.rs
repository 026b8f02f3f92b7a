//! The report for people: plain text, aligned, the important first.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use crate::report::{Head, Holder, Link, Lock, Pool, Process, Queue, Report, Session, Wait};

/// No more lines than this about one kind of object.
const MOST: usize = 40;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for session in &self.sessions {
            write!(f, "{session}")?;
        }
        Ok(())
    }
}

impl Report {
    /// Only who waits for whom: what `--waits` prints.
    #[must_use]
    pub fn waits(&self) -> String {
        let text = |session: &Session| waits(session) + &cycles(session);
        let all: String = self.sessions.iter().map(text).collect();
        if all.is_empty() {
            "nobody waits for an object of the session\n".to_owned()
        } else {
            all
        }
    }
}

impl Display for Session {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let memory = &self.memory;
        writeln!(
            f,
            "session {}: {} processes, {} of {} used",
            &self.id[..8.min(self.id.len())],
            self.processes.len(),
            bytes(memory.used),
            bytes(memory.limit),
        )?;
        f.write_str(&tree(self))?;
        f.write_str(&section(
            "queues",
            self.queues.iter().map(|one| queue(self, one)),
        ))?;
        f.write_str(&section("pools", self.pools.iter().flat_map(pool)))?;
        f.write_str(&section("locks", locks(self)))?;
        f.write_str(&section(
            "semaphores",
            self.semaphores.iter().map(|one| {
                let mut text = units(one.value, one.bound);
                for (holder, units) in &one.holders {
                    text += &format!(", {units} with {}", who(holder));
                }
                if let (true, Some(last)) = (one.holders.is_empty(), &one.last_taker) {
                    text += &format!(", last taken by {}", who(last));
                }
                line(&one.head, text + &waiting(self, &one.waiting))
            }),
        ))?;
        f.write_str(&section(
            "conditions",
            self.conditions.iter().map(|one| {
                let mut text = match one.waiting.len() {
                    0 => "nobody waits".to_owned(),
                    _ => format!("waited for by {}", names(self, &one.waiting)),
                };
                if !one.notified.is_empty() {
                    text += &format!(", notified: {}", names(self, &one.notified));
                }
                line(&one.head, text)
            }),
        ))?;
        f.write_str(&section(
            "events",
            self.events.iter().map(|one| {
                let text = if one.set { "set" } else { "not set" };
                line(&one.head, text.to_owned() + &waiting(self, &one.waiting))
            }),
        ))?;
        f.write_str(&section(
            "barriers",
            self.barriers.iter().map(|one| {
                let mut text = format!("{} of {} there", one.arrived, one.parties);
                if !one.present.is_empty() {
                    text += &format!(": {}", names(self, &one.present));
                }
                if one.broken {
                    text += ", broken";
                }
                line(&one.head, text)
            }),
        ))?;
        let total: u64 = self.values.iter().map(|value| value.bytes).sum();
        if !self.values.is_empty() {
            writeln!(
                f,
                "\nvalues and arrays\n  {} with {}",
                self.values.len(),
                bytes(total)
            )?;
        }
        f.write_str(&section(
            "deaths",
            self.deaths.iter().rev().map(|one| {
                let mut text = format!("{} ({}, {}): {}", one.name, one.pid, one.role, one.cause);
                if let Some(ago) = one.seconds_ago {
                    text += &format!(", {} ago", seconds(ago));
                }
                if !one.holds.is_empty() {
                    text += &format!("; still holds {}", one.holds.join(", "));
                }
                text
            }),
        ))?;
        f.write_str(&section(
            "memory",
            memory.kinds.iter().map(|usage| {
                let places = match usage.places {
                    0 => String::new(),
                    1 => "  in 1 place".to_owned(),
                    places => format!("  in {places} places"),
                };
                format!("{:>10}  {}{places}", bytes(usage.bytes), usage.kind)
            }),
        ))?;
        f.write_str(&waits(self))?;
        f.write_str(&cycles(self))
    }
}

fn section(title: &str, lines: impl IntoIterator<Item = String>) -> String {
    let lines: Vec<String> = lines.into_iter().collect();
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{title}\n");
    for line in lines.iter().take(MOST) {
        text += &format!("  {line}\n");
    }
    if lines.len() > MOST {
        text += &format!(
            "  … and {} more (--json has them all)\n",
            lines.len() - MOST
        );
    }
    text
}

fn line(head: &Head, text: String) -> String {
    let unsteady = if head.steady { "" } else { " (changing)" };
    format!("{:<28} {text}{unsteady}", head.name)
}

// --- processes ----------------------------------------------------------------------------------

fn tree(session: &Session) -> String {
    let known: Vec<u32> = session
        .processes
        .iter()
        .map(|process| process.pid)
        .collect();
    let mut children: BTreeMap<Option<u32>, Vec<&Process>> = BTreeMap::new();
    for process in &session.processes {
        let parent = process.parent.filter(|parent| known.contains(parent));
        children.entry(parent).or_default().push(process);
    }
    let mut text = "\nprocesses\n".to_owned();
    branch(session, &children, None, 0, &mut text);
    text
}

fn branch(
    session: &Session,
    children: &BTreeMap<Option<u32>, Vec<&Process>>,
    parent: Option<u32>,
    depth: usize,
    text: &mut String,
) {
    // (A parent's number is always another's: procfs has no circles, but may change meanwhile.)
    if depth > 32 {
        return;
    }
    for process in children.get(&parent).into_iter().flatten() {
        let name = format!("{}{} {}", "  ".repeat(depth), process.pid, process.name);
        let mut state = process.state.to_owned();
        if process.standing == "leaving" {
            state += ", ending";
        }
        if process.threads > 1 {
            state += &format!(", {} threads", process.threads);
        }
        let its = session
            .waits
            .iter()
            .filter(|wait| wait.who.pid == process.pid);
        let waits: Vec<String> = its.map(what).collect();
        let kept_out: Vec<String> = process
            .kept_out
            .iter()
            .map(|kept_out| format!("{} ({})", kept_out.module, kept_out.left))
            .collect();
        let last = if !waits.is_empty() {
            format!("waits {}", waits.join("; "))
        } else if !kept_out.is_empty() {
            format!("does without {}", kept_out.join(", "))
        } else {
            process.command.clone()
        };
        *text += format!("  {name:<32} {:<22} {state:<22} {last}", process.role).trim_end();
        text.push('\n');
        branch(session, children, Some(process.pid), depth + 1, text);
    }
}

fn name_of(session: &Session, pid: u32) -> String {
    let process = session.processes.iter().find(|process| process.pid == pid);
    match process {
        Some(process) => format!("{} ({pid})", process.name),
        None => format!("process {pid}"),
    }
}

fn names(session: &Session, pids: &[u32]) -> String {
    let names: Vec<String> = pids.iter().map(|pid| name_of(session, *pid)).collect();
    names.join(", ")
}

fn who(holder: &Holder) -> String {
    let mut text = format!("{} ({}", holder.process, holder.pid);
    if let (Some(thread), Some(name)) = (holder.thread, &holder.thread_name) {
        if thread != holder.pid {
            text += &format!(", thread {thread} {name}");
        }
    }
    if !holder.alive {
        text += ", dead";
    }
    text + ")"
}

fn waiting(session: &Session, pids: &[u32]) -> String {
    if pids.is_empty() {
        String::new()
    } else {
        format!("; waited for by {}", names(session, pids))
    }
}

// --- objects ------------------------------------------------------------------------------------

fn queue(session: &Session, queue: &Queue) -> String {
    let mut text = match queue.capacity {
        Some(capacity) => format!("{} of {capacity} messages", queue.depth),
        None => format!("{} messages", queue.depth),
    };
    text += &format!(", {}", bytes(queue.bytes));
    if !queue.senders.is_empty() {
        let from = |sender: &crate::report::Sender| {
            format!("{} from {}", sender.messages, name_of(session, sender.pid))
        };
        let from: Vec<String> = queue.senders.iter().map(from).collect();
        text += &format!(" ({})", from.join(", "));
    }
    if !queue.receivers_waiting.is_empty() {
        let who = names(session, &queue.receivers_waiting);
        text += &format!("; waiting for a message: {who}");
    }
    if !queue.senders_waiting.is_empty() {
        let who = names(session, &queue.senders_waiting);
        text += &format!("; waiting for room: {who}");
    }
    if !queue.joiners.is_empty() {
        let who = names(session, &queue.joiners);
        text += &format!("; {} not done, waited for by {who}", queue.unfinished);
    }
    text += &used(session, queue);
    if queue.closed {
        text += "; closed";
    }
    if queue.starved {
        text += "; nobody else has it: no message can come";
    }
    if let Some(busy) = &queue.busy {
        text += &format!("; being changed by {}", who(busy));
    }
    line(&queue.head, text)
}

/// Who used it last, and who else could.
fn used(session: &Session, queue: &Queue) -> String {
    let mut text = String::new();
    let mut told = Vec::new();
    let last = [
        ("last sent by", queue.last_sender),
        ("last taken by", queue.last_receiver),
    ];
    for (what, pid) in last {
        if let Some(pid) = pid {
            text += &format!("; {what} {}", name_of(session, pid));
            told.push(pid);
        }
    }
    told.extend(&queue.receivers_waiting);
    told.extend(&queue.senders_waiting);
    let mut others = queue.head.used_by.clone();
    others.retain(|pid| !told.contains(pid));
    if !others.is_empty() {
        let also = if told.is_empty() { "" } else { "also " };
        text += &format!("; {also}with {}", names(session, &others));
    }
    text
}

/// One line for the pool, and one for each worker.
fn pool(pool: &Pool) -> Vec<String> {
    let alive = pool.workers.iter().filter(|worker| worker.alive);
    let at_tasks = alive.clone().filter(|worker| worker.task.is_some()).count();
    let done: u64 = alive.clone().map(|worker| worker.tasks_done).sum();
    let all = alive.count();
    let text = format!("{at_tasks} of {all} workers at a task, {done} tasks done by these");
    let mut lines = vec![line(&pool.head, text)];
    lines.extend(pool.workers.iter().map(|worker| {
        let function = worker.function.as_deref().unwrap_or("being loaded");
        let (dead, what) = match (worker.task, worker.task_seconds) {
            (Some(task), Some(since)) => (
                "",
                format!("task {task}, {function}, for {}", seconds(since)),
            ),
            (Some(task), None) => (", dead", format!("had task {task}, {function}")),
            (None, _) if worker.alive => ("", "waits for a task".to_owned()),
            (None, _) => (", dead", "had no task".to_owned()),
        };
        format!("  {} ({}{dead}): {what}", worker.process, worker.pid)
    }));
    lines
}

/// Held ones each, free ones by number.
fn locks(session: &Session) -> Vec<String> {
    let told = |lock: &&Lock| lock.owner.is_some() || !lock.waiting.is_empty();
    let mut lines: Vec<String> = session
        .locks
        .iter()
        .filter(told)
        .map(|lock| one_lock(session, lock))
        .collect();
    let free = session.locks.len() - lines.len();
    if free > 0 {
        lines.push(format!("{free} free"));
    }
    lines
}

fn one_lock(session: &Session, lock: &Lock) -> String {
    let mut text = match &lock.owner {
        None => "free".to_owned(),
        Some(owner) if lock.abandoned => format!("abandoned: {} was killed", who(owner)),
        Some(owner) => format!("held by {}", who(owner)),
    };
    if lock.owner.is_some() {
        if lock.depth > 1 {
            text += &format!(", {} deep", lock.depth);
        }
        if let Some(held) = lock.held_seconds {
            let least = if lock.held_exactly { "" } else { "at least " };
            text += &format!(", for {least}{}", seconds(held));
        }
    }
    line(&lock.head, text + &waiting(session, &lock.waiting))
}

// --- waits --------------------------------------------------------------------------------------

fn what(wait: &Wait) -> String {
    let text = format!("{} {}", wait.waits, wait.object_name);
    format!("{text} ({})", seconds(wait.seconds))
}

fn waits(session: &Session) -> String {
    section(
        "waits",
        session.waits.iter().map(|wait| {
            let held: Vec<String> = wait.held_by.iter().map(who).collect();
            let held = match held.len() {
                0 => String::new(),
                _ => format!(", held by {}", held.join(", ")),
            };
            format!("{} waits {}{held}", who(&wait.who), what(wait))
        }),
    )
}

fn cycles(session: &Session) -> String {
    let mut text = String::new();
    for cycle in &session.cycles {
        text += "\nDEADLOCK: each waits for what the next one holds\n";
        let link =
            |link: &Link| format!("{} ({}) wants {}", link.process, link.pid, link.object_name);
        for one in cycle {
            text += &format!("  {}\n", link(one));
        }
    }
    text
}

// --- numbers ------------------------------------------------------------------------------------

fn units(value: u64, bound: u64) -> String {
    if bound >= bequeath_sync::semaphore::VALUE_MAX.into() {
        format!("{value} units there")
    } else {
        format!("{value} of {bound} units there")
    }
}

fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

fn seconds(seconds: f64) -> String {
    match seconds as u64 {
        0 if seconds < 0.1 => format!("{:.0} ms", seconds * 1e3),
        0..=119 => format!("{seconds:.1} s"),
        minutes @ 120..=7199 => format!("{} min", minutes / 60),
        hours => format!("{} h", hours / 3600),
    }
}
