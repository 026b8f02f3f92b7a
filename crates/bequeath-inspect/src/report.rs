//! What is reported, as data: `--json` prints these structures under these names.
//!
//! Additions do not change [`SCHEMA`]; a name that goes or means something else does. What is not known
//! is `null`. Seconds are counted until the moment of the report.

use serde::Serialize;

/// The version of the structures.
pub const SCHEMA: u32 = 1;

/// What was found.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Of bequeath.
    pub version: &'static str,
    /// The process that was asked for.
    pub pid: u32,
    /// Its sessions; one, as a rule.
    pub sessions: Vec<Session>,
}

/// The processes of one tree, and what they share.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Session {
    /// 128 random bits in hexadecimal digits.
    pub id: String,
    /// Members that are alive, and dead ones that still matter.
    pub processes: Vec<Process>,
    /// Queues.
    pub queues: Vec<Queue>,
    /// Locks, recursive or not, and those around a value of a Rust program.
    pub locks: Vec<Lock>,
    /// Semaphores.
    pub semaphores: Vec<Semaphore>,
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// Events.
    pub events: Vec<Event>,
    /// Barriers.
    pub barriers: Vec<Barrier>,
    /// Shared values and arrays.
    pub values: Vec<Value>,
    /// Pools of workers.
    pub pools: Vec<Pool>,
    /// Who waits, and for what.
    pub waits: Vec<Wait>,
    /// Circles of threads each of which waits for the next.
    pub cycles: Vec<Vec<Link>>,
    /// The latest deaths with a cause, the oldest first.
    pub deaths: Vec<Death>,
    /// The arena.
    pub memory: Memory,
}

/// One member.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent's, of whatever program.
    pub parent: Option<u32>,
    /// The name it gave itself, else the kernel's.
    pub name: String,
    /// "program", a start method, "template of …", "spare", "trial", "worker".
    pub role: &'static str,
    /// "running", "sleeping", "stopped", "traced", "zombie", "dead", …
    pub state: &'static str,
    /// What the session says: "live", "leaving" (it is ending in order), "left", …
    pub standing: &'static str,
    /// How many threads it has.
    pub threads: u32,
    /// Its command line, shortened.
    pub command: String,
    /// A template's: the modules that it does without.
    pub kept_out: Vec<KeptOut>,
}

/// A module that a template does without.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct KeptOut {
    /// Its name.
    pub module: String,
    /// What it left behind when it was imported.
    pub left: String,
}

/// What all objects have.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Head {
    /// Its name in the arena.
    pub id: String,
    /// Kind and place of creation.
    pub name: String,
    /// The process that made it.
    pub made_by: u32,
    /// Where, as far as it is known.
    pub made_at: Option<String>,
    /// The processes that have it.
    pub used_by: Vec<u32>,
    /// How many processes and messages refer to it.
    pub references: u64,
    /// False when it changed all the time while it was read: the numbers may not belong together.
    pub steady: bool,
}

/// A process, or a thread of one, that has something.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub process: String,
    /// The thread's number, where it is known.
    pub thread: Option<u32>,
    /// The thread's name likewise.
    pub thread_name: Option<String>,
    /// Whether the process is alive.
    pub alive: bool,
    #[serde(skip)]
    pub(crate) identity: u64,
    #[serde(skip)]
    pub(crate) thread_number: Option<u32>,
}

/// A queue.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Queue {
    /// What all objects have.
    #[serde(flatten)]
    pub head: Head,
    /// Messages in it.
    pub depth: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// The most messages there may be.
    pub capacity: Option<u64>,
    /// Messages that nobody reported as done.
    pub unfinished: u64,
    /// Closed for everybody.
    pub closed: bool,
    /// Who sent the messages that are in it.
    pub senders: Vec<Sender>,
    /// Who sent the last message, as long as it is known.
    pub last_sender: Option<u32>,
    /// Who took the last message.
    pub last_receiver: Option<u32>,
    /// Processes that wait for a message.
    pub receivers_waiting: Vec<u32>,
    /// Processes that wait for room.
    pub senders_waiting: Vec<u32>,
    /// Processes that wait until all work is reported done.
    pub joiners: Vec<u32>,
    /// Who is changing it at this moment; a stopped process stays in here.
    pub busy: Option<Holder>,
    /// All that have it wait for a message that nobody can send.
    pub starved: bool,
}

/// Messages in a queue by sender.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Sender {
    /// The process.
    pub pid: u32,
    /// How many.
    pub messages: u64,
}

/// A lock.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Lock {
    /// What all objects have.
    #[serde(flatten)]
    pub head: Head,
    /// Who holds it, dead or alive.
    pub owner: Option<Holder>,
    /// How often the owner took it.
    pub depth: u32,
    /// How often anybody took it so far (modulo 2^32).
    pub times: u32,
    /// For how long, as far as it is known.
    pub held_seconds: Option<f64>,
    /// Whether `held_seconds` is exact; else it is the least.
    pub held_exactly: bool,
    /// Its holder was killed.
    pub abandoned: bool,
    /// Processes that wait for it.
    pub waiting: Vec<u32>,
}

/// A semaphore.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Semaphore {
    /// What all objects have.
    #[serde(flatten)]
    pub head: Head,
    /// Units that are there.
    pub value: u64,
    /// The most there may be.
    pub bound: u64,
    /// Who holds how many; known of robust ones.
    pub holders: Vec<(Holder, i64)>,
    /// Who took a unit last.
    pub last_taker: Option<Holder>,
    /// Processes that wait for a unit.
    pub waiting: Vec<u32>,
}

/// A condition.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Condition {
    /// What all objects have.
    #[serde(flatten)]
    pub head: Head,
    /// Processes that wait to be notified.
    pub waiting: Vec<u32>,
    /// Processes that were notified and have not gone on yet.
    pub notified: Vec<u32>,
}

/// An event.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// What all objects have.
    #[serde(flatten)]
    pub head: Head,
    /// Whether it is set.
    pub set: bool,
    /// How often it was.
    pub times: u64,
    /// Processes that wait for it.
    pub waiting: Vec<u32>,
}

/// A barrier.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Barrier {
    /// What all objects have.
    #[serde(flatten)]
    pub head: Head,
    /// How many it takes.
    pub parties: u64,
    /// How many are there.
    pub arrived: u64,
    /// Which.
    pub present: Vec<u32>,
    /// Which round this is.
    pub generation: u64,
    /// Whether it is broken.
    pub broken: bool,
}

/// Plain shared memory.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Value {
    /// What all objects have.
    #[serde(flatten)]
    pub head: Head,
    /// How long it is.
    pub bytes: u64,
}

/// A pool of workers.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Pool {
    /// What all objects have.
    #[serde(flatten)]
    pub head: Head,
    /// Its workers: those that are ready, and dead ones that it still knows.
    pub workers: Vec<PoolWorker>,
}

/// A worker of a pool, as its own words say.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PoolWorker {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub process: String,
    /// Whether it is alive.
    pub alive: bool,
    /// The number of the task in its hands.
    pub task: Option<u64>,
    /// What that calls; known once its arguments have been loaded.
    pub function: Option<String>,
    /// For how long; of one that is dead nobody knows.
    pub task_seconds: Option<f64>,
    /// Tasks that it has done.
    pub tasks_done: u64,
    /// How long it was inside of their functions (without the one in hand).
    pub busy_seconds: f64,
    /// How long it waited for tasks.
    pub waiting_seconds: f64,
    /// How long it loaded arguments, and pickled results.
    pub pickling_seconds: f64,
}

/// A thread that waits.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Wait {
    /// Who.
    #[serde(flatten)]
    pub who: Holder,
    /// The object's `id`; `null` when it is none of this session's.
    pub object: Option<String>,
    /// The object's `name`.
    pub object_name: String,
    /// "to acquire", "for a message", "for room", …
    pub waits: &'static str,
    /// For how long.
    pub seconds: f64,
    /// Who has it.
    pub held_by: Vec<Holder>,
}

/// One of a circle: a thread, and what it waits for. The next one holds it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Link {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub process: String,
    /// The thread.
    pub thread: Option<u32>,
    /// What it waits for: an object's `id`.
    pub object: String,
    /// Its `name`.
    pub object_name: String,
}

/// One death.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Death {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// As [`Process::role`].
    pub role: &'static str,
    /// The exit code, or the ending signal's number negated; `null` while its parent has not asked.
    pub code: Option<i32>,
    /// In words.
    pub cause: String,
    /// How long ago it was noticed; `null` for one that nobody noticed yet.
    pub seconds_ago: Option<f64>,
    /// Names of locks and semaphores that it still holds.
    pub holds: Vec<String>,
}

/// The arena.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Memory {
    /// Bytes of pages that it has, by the kernel's count.
    pub used: u64,
    /// The budget.
    pub limit: u64,
    /// Its fixed size.
    pub size: u64,
    /// By kind: "queues' segments", "messages in queues", …
    pub kinds: Vec<Usage>,
    /// Counted references.
    pub references: u64,
}

/// What one kind of use takes.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Usage {
    /// Which.
    pub kind: &'static str,
    /// How many places.
    pub places: u64,
    /// Bytes of pages behind them.
    pub bytes: u64,
}

impl Report {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}
