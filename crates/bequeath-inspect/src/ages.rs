//! For how long a lock is held at least, where nobody waited for it. Who takes a free lock reads no clock,
//! so this is put together from what is known without its help:
//!
//! - its holder sleeps on something else: it had the lock before;
//! - no thread of its holder has run for a while: none can have taken it meanwhile (the kernel tells
//!   when each ran last; a thread that took the lock and has ended since is not seen);
//! - an earlier look found the same holding: a lock counts how often it was taken.

use std::collections::HashMap;
use std::time::Instant;

use crate::procfs;
use crate::report::{Lock, Wait};

/// What earlier looks saw, by session.
#[derive(Debug, Default)]
pub(crate) struct Looks(HashMap<String, Holdings>);

/// By the lock's name in the arena.
type Holdings = HashMap<String, Holding>;

/// One holding of one lock, and when it was seen first.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Holding {
    owner: u64,
    thread: u32,
    times: u32,
    since: Instant,
}

/// What one look knows beside the locks' own words.
pub(crate) struct Ages<'a> {
    waits: &'a [Wait],
    before: Holdings,
    now: &'a mut Holdings,
    still: HashMap<u32, Option<f64>>,
}

impl<'a> Ages<'a> {
    pub(crate) fn new(session: &str, waits: &'a [Wait], looks: &'a mut Looks) -> Self {
        let now = looks.0.entry(session.to_owned()).or_default();
        Self {
            waits,
            // Only what this look finds again is kept.
            before: std::mem::take(now),
            now,
            still: HashMap::new(),
        }
    }

    /// For how many seconds this lock is held at least.
    pub(crate) fn least(&mut self, lock: &Lock) -> Option<f64> {
        let owner = lock.owner.as_ref()?;
        let asleep = self.waits.iter().find(|wait| {
            wait.who.identity == owner.identity
                && wait.who.thread_number == owner.thread_number
                && owner.thread_number.is_some()
        });
        let still = self.still.entry(owner.pid);
        let still = *still.or_insert_with(|| procfs::still_for(owner.pid).filter(|_| owner.alive));
        let known = [
            asleep.map(|wait| wait.seconds),
            still,
            self.seen_before(lock),
        ];
        known.into_iter().flatten().reduce(f64::max)
    }

    /// Remembers the holding, and says for how long it has been seen.
    fn seen_before(&mut self, lock: &Lock) -> Option<f64> {
        let owner = lock.owner.as_ref()?;
        // Taken, and not signed yet: its count may be the last holding's.
        let thread = owner.thread_number?;
        let fresh = Holding {
            owner: owner.identity,
            thread,
            times: lock.times,
            since: Instant::now(),
        };
        let before = self.before.get(&lock.head.id).copied();
        let same = before.filter(|before| {
            *before
                == Holding {
                    since: before.since,
                    ..fresh
                }
        });
        self.now.insert(lock.head.id.clone(), same.unwrap_or(fresh));
        Some(same?.since.elapsed().as_secs_f64())
    }
}
