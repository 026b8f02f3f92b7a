//! What the words of a primitive say, read from a copy by somebody who is no part of it.
//!
//! Nothing is locked and nothing is changed: a program that is stopped, or stuck, is looked at all
//! the same. The words may be garbage; then what is told is garbage, and nothing else happens. Numbers
//! are native-endian words as they stand in the memory of the machine.

use crate::owner::{ProcessId, PID_MASK};

/// A lock, or a recursive one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockSeen {
    /// The process that holds it, dead or alive.
    pub owner: Option<ProcessId>,
    /// The number of its thread ([`crate::owner::thread_number`]), when it has signed.
    pub thread: Option<u64>,
    /// How often that thread took it.
    pub depth: u32,
    /// How often it was taken so far, the low 32 bits: tells one holding from the next.
    pub times: u32,
    /// Its holder was killed, and a waiter proved it.
    pub abandoned: bool,
    /// Its holder took it from one that was killed.
    pub recovered: bool,
    /// Somebody waits, or did.
    pub contended: bool,
    /// Since when it is held: known only where somebody had to wait.
    pub held_since: Option<HeldSince>,
}

/// A moment at which a lock was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldSince {
    /// Milliseconds of the monotonic clock, the low 32 bits.
    pub milliseconds: u32,
    /// It was taken then; else it was held then already.
    pub exact: bool,
}

/// A semaphore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SemaphoreSeen {
    /// Units that are there.
    pub value: u64,
    /// The most there may be.
    pub bound: u64,
    /// Whether the killed give back what they hold.
    pub robust: bool,
    /// Who took a unit last.
    pub last_taker: Option<ProcessId>,
    /// Who holds how many; known of robust ones.
    pub holders: Vec<Holding>,
    /// Who is changing it at this moment.
    pub cell_held_by: Option<ProcessId>,
}

/// What one process took and did not give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Which.
    pub process: ProcessId,
    /// How many units.
    pub units: i64,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionSeen {
    /// Who waits.
    pub waiting: Vec<ProcessId>,
    /// Who was notified and did not go on yet.
    pub notified: Vec<ProcessId>,
    /// How many wait beyond those with a slot of their own.
    pub overflow: u32,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSeen {
    /// Whether it is set.
    pub set: bool,
    /// How often it was set.
    pub times: u64,
    /// Who is changing it at this moment.
    pub cell_held_by: Option<ProcessId>,
}

/// A barrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BarrierSeen {
    /// How many it takes.
    pub parties: u64,
    /// How many are there.
    pub arrived: u64,
    /// Which round this is.
    pub generation: u64,
    /// Whether it is broken.
    pub broken: bool,
    /// All are there, and the last one runs the action.
    pub acting: bool,
    /// Who is there, as far as they are watched.
    pub present: Vec<ProcessId>,
    /// Who is changing it at this moment.
    pub cell_held_by: Option<ProcessId>,
}

/// The committed state of a cell at the front of `words`, and who holds it at this moment.
#[must_use]
pub fn cell<const N: usize>(words: &[u64]) -> Option<([u64; N], Option<ProcessId>)> {
    let word = *words.first()?;
    let first = 1 + (word & 1) as usize * N;
    let state = words.get(first..first + N)?.try_into().ok()?;
    let held = word & PID_MASK != 0;
    Some((state, ProcessId::from_word(word).filter(|_| held)))
}
