#![allow(unsafe_code)]
//! A worker's slate: which task it has in its hands, and what it has done so far. The worker writes; its pool reads it
//! when the worker has died, and anybody who looks at the session from outside.
//!
//! # Safety invariants
//! `repr(C)`, atomics only, valid for every bit pattern; all zero is the initial state: what [`Object`] asks.

use bequeath_sync::atomic::{AtomicU64, Ordering};
use bequeath_sync::ProcessId;

use crate::broken::{self, Mistake};
use crate::kind;
use crate::object::Object;
use crate::reference::Reference;

/// Bytes of a function's name that are kept: its end says most.
const NAME: usize = 48;

/// What a worker says of itself. (Only its main thread writes: no read-modify-write is needed.)
///
/// # If a peer dies
/// What stands there is true of the moment of its death: see [`Slate::at_task`].
#[repr(C)]
pub struct Slate {
    /// The task that it has begun, plus one; zero when it is at none.
    in_hand: AtomicU64,
    /// When it began that, on the monotonic clock.
    began: AtomicU64,
    /// The task that the parent wants it to stop, plus one: the one word that the parent writes.
    unwanted: AtomicU64,
    /// Tasks done.
    pub done: AtomicU64,
    /// Nanoseconds spent in tasks' functions.
    pub busy: AtomicU64,
    /// Nanoseconds spent waiting for tasks.
    pub idle: AtomicU64,
    /// Nanoseconds spent loading and pickling.
    pub pickling: AtomicU64,
    /// Bytes of messages received.
    pub received: AtomicU64,
    /// Bytes of messages sent.
    pub sent: AtomicU64,
    /// When it was ready for tasks.
    ready: AtomicU64,
    /// The worker, once it is ready.
    worker: AtomicU64,
    /// An object that all workers of its pool have: by which they are told from another pool's.
    pool: AtomicU64,
    /// Length of the name of the function that it calls; zero while it is not known.
    name_length: AtomicU64,
    name: [AtomicU64; NAME / 8],
}

// SAFETY: see the module's invariants.
unsafe impl Object for Slate {
    const KIND: u32 = kind::WORKER_SLATE;
}

/// A task in a worker's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InHand {
    /// Its number.
    pub task: u64,
    /// When it was begun.
    pub since: u64,
}

impl Slate {
    /// Does a task: from before `act` until after it, a death is this task's. `act` does it and answers; where it
    /// fails, nobody was answered, and the task stays in hand.
    ///
    /// # Errors
    /// What `act` returns.
    pub fn at_task<E>(
        &self,
        task: u64,
        now: u64,
        act: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        if broken::is(Mistake::BegunAfterwards) {
            act()?;
            self.begin(task, now);
        } else {
            self.begin(task, now);
            if broken::is(Mistake::EndedBeforehand) {
                self.end();
            }
            act()?;
        }
        self.end();
        Ok(())
    }

    fn begin(&self, task: u64, now: u64) {
        self.name_length.store(0, Ordering::Relaxed);
        if broken::is(Mistake::SinceTooLate) {
            self.in_hand.store(task + 1, Ordering::Release);
        }
        self.began.store(now, Ordering::Relaxed);
        self.in_hand.store(task + 1, Ordering::Release);
    }

    fn end(&self) {
        self.in_hand.store(0, Ordering::Release);
    }

    /// What it is at, or was when it died.
    #[must_use]
    pub fn in_hand(&self) -> Option<InHand> {
        let task = self.in_hand.load(Ordering::Acquire).checked_sub(1)?;
        let since = self.began.load(Ordering::Relaxed);
        Some(InHand { task, since })
    }

    /// The parent, before it interrupts.
    pub fn do_not_want(&self, task: u64) {
        self.unwanted.store(task + 1, Ordering::SeqCst);
    }

    /// For which task an interrupt of the parent's is under way. Told once.
    pub fn take_unwanted(&self) -> Option<u64> {
        self.unwanted.swap(0, Ordering::SeqCst).checked_sub(1)
    }

    /// Whether the task, just begun, is not wanted already.
    #[must_use]
    pub fn is_unwanted(&self, task: u64) -> bool {
        self.unwanted.load(Ordering::SeqCst) == task + 1
    }

    /// Whose workers' slate this is; said by the parent before there is a worker.
    pub fn set_pool(&self, pool: Reference) {
        self.pool.store(pool.to_bits(), Ordering::Relaxed);
    }

    /// This process is the worker, and takes tasks from now on.
    pub fn set_ready(&self, now: u64) {
        let me = ProcessId::current().to_bits();
        self.worker.store(me, Ordering::Relaxed);
        self.ready.store(now, Ordering::Relaxed);
    }

    /// When the worker was ready for tasks; zero if it is not yet.
    #[must_use]
    pub fn ready(&self) -> u64 {
        self.ready.load(Ordering::Relaxed)
    }

    /// What the task's function is called, for onlookers.
    pub fn name_function(&self, name: &str) {
        let mut start = name.len().saturating_sub(NAME);
        while !name.is_char_boundary(start) {
            start += 1;
        }
        let name = &name.as_bytes()[start..];
        for (word, bytes) in self.name.iter().zip(name.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
        self.name_length.store(name.len() as u64, Ordering::Relaxed);
    }

    /// What the words of a slate say; nothing where there are too few.
    #[must_use]
    pub fn read(words: &[u64]) -> Option<SlateSeen> {
        let words: &[u64; size_of::<Self>() / 8] = words.first_chunk()?;
        let [in_hand, began, _, done, busy, idle, pickling, _, _, ready, worker, pool, length, name @ ..] =
            words;
        let text: Vec<u8> = name.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let length = usize::try_from(*length).unwrap_or(usize::MAX).min(NAME);
        let text = std::str::from_utf8(&text[..length]).unwrap_or_default();
        let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
        Some(SlateSeen {
            worker: ProcessId::from_bits(*worker).filter(|_| *ready != 0),
            pool: Reference::from_bits(*pool),
            in_hand: in_hand.checked_sub(1).map(|task| InHand {
                task,
                since: *began,
            }),
            function: (!text.is_empty()).then_some(text),
            done: *done,
            busy: *busy,
            idle: *idle,
            pickling: *pickling,
        })
    }
}

/// A slate as an onlooker finds it; times in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlateSeen {
    /// The worker, once it was ready.
    pub worker: Option<ProcessId>,
    /// What tells its pool from others.
    pub pool: Option<Reference>,
    /// What it is at.
    pub in_hand: Option<InHand>,
    /// The end of the name of the function that it calls.
    pub function: Option<String>,
    /// Tasks done.
    pub done: u64,
    /// Spent in tasks' functions.
    pub busy: u64,
    /// Spent waiting for tasks.
    pub idle: u64,
    /// Spent loading and pickling.
    pub pickling: u64,
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn blank() -> Slate {
        let word = || AtomicU64::new(0);
        Slate {
            in_hand: word(),
            began: word(),
            unwanted: word(),
            done: word(),
            busy: word(),
            idle: word(),
            pickling: word(),
            received: word(),
            sent: word(),
            ready: word(),
            worker: word(),
            pool: word(),
            name_length: word(),
            name: std::array::from_fn(|_| word()),
        }
    }

    fn words(slate: &Slate) -> Vec<u64> {
        let all = [
            &slate.in_hand,
            &slate.began,
            &slate.unwanted,
            &slate.done,
            &slate.busy,
            &slate.idle,
            &slate.pickling,
            &slate.received,
            &slate.sent,
            &slate.ready,
            &slate.worker,
            &slate.pool,
            &slate.name_length,
        ];
        let words = all.into_iter().chain(&slate.name);
        words.map(|word| word.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn a_task_is_in_hand_while_it_is_done_and_an_onlooker_reads_the_same() {
        let slate = blank();
        assert_eq!(Slate::read(&words(&slate)).unwrap().in_hand, None);
        slate.set_ready(5);
        let task = Some(InHand { task: 0, since: 9 });
        let done = slate.at_task(0, 9, || {
            assert_eq!(slate.in_hand(), task);
            let seen = Slate::read(&words(&slate)).unwrap();
            assert_eq!((seen.in_hand, seen.function), (task, None));
            slate.name_function("module.function");
            let seen = Slate::read(&words(&slate)).unwrap();
            assert_eq!(seen.function.as_deref(), Some("module.function"));
            assert_eq!(seen.worker, Some(ProcessId::current()));
            Ok::<_, ()>(())
        });
        assert_eq!((done, slate.in_hand()), (Ok(()), None));
        // One that could not be answered is its worker's to the end.
        assert_eq!(slate.at_task(1, 10, || Err(7)), Err(7));
        assert_eq!(slate.in_hand(), Some(InHand { task: 1, since: 10 }));
    }

    #[test]
    fn a_long_name_loses_its_begin_and_rubbish_is_no_name() {
        let slate = blank();
        slate.name_function(&format!("x{}", "é".repeat(30)));
        let seen = Slate::read(&words(&slate)).unwrap();
        assert_eq!(seen.function, Some("é".repeat(24)));
        assert_eq!(Slate::read(&[u64::MAX; 19]).unwrap().function, None);
        assert_eq!(Slate::read(&[0; 18]), None);
    }
}
