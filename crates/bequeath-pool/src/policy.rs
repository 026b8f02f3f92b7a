//! [`Policy`]: what kind of pool it is.

/// What becomes of a task whose worker died with it in its hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDeath {
    /// It fails; nothing else does.
    Fail,
    /// It is given to another worker, at most so many times; then it fails.
    Retry(u32),
    /// It and all others fail: the pool is broken.
    Break,
}

/// How long a worker may take to follow before it is told in a harder way, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// From the interrupt to the request to end.
    pub terminate_after: u64,
    /// From the request to end to the kill.
    pub kill_after: u64,
}

/// What kind of pool it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many workers there are at most; one at least.
    pub workers: usize,
    /// How many tasks a worker does before it is replaced.
    pub max_tasks: Option<u64>,
    /// Workers are started as tasks need them, not at the beginning.
    pub on_demand: bool,
    /// What a worker's death does.
    pub on_death: OnDeath,
    /// How workers are stopped.
    pub escalation: Escalation,
}
