#![allow(unsafe_code)]
//! What a pool's processes look at together: plain words, each written by one of them.
//!
//! # Safety invariants
//! Both bodies are `repr(C)`, atomics only, valid for every bit pattern; all zero is their initial state:
//! what [`Object`] asks.

use std::sync::atomic::{fence, AtomicU64, Ordering};

use bequeath_os::{eventfd, Deadline};
use bequeath_shm::{kind, Object};
use std::os::fd::BorrowedFd;

/// What a worker has in its hands, and what it has done. The worker writes, but for `unwanted`.
#[repr(C)]
pub struct Slate {
    /// The task that it has begun, plus one; zero when it is at none.
    in_hand: AtomicU64,
    /// When it began that, on the monotonic clock.
    began: AtomicU64,
    /// The task that the parent wants it to stop, plus one.
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
    pub ready: AtomicU64,
    spare: [AtomicU64; 2],
}

// SAFETY: see the module's invariants.
unsafe impl Object for Slate {
    const KIND: u32 = kind::WORKER_SLATE;
}

/// A task in a worker's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InHand {
    pub task: u64,
    /// When it was begun.
    pub since: u64,
}

impl Slate {
    /// Before a task is begun: from here on a death is this task's.
    pub fn begin(&self, task: u64, now: u64) {
        self.began.store(now, Ordering::Relaxed);
        self.in_hand.store(task + 1, Ordering::Release);
    }

    /// After its answer was sent.
    pub fn end(&self) {
        self.in_hand.store(0, Ordering::Release);
    }

    pub fn in_hand(&self) -> Option<InHand> {
        let task = self.in_hand.load(Ordering::Acquire).checked_sub(1)?;
        let since = self.began.load(Ordering::Relaxed);
        Some(InHand { task, since })
    }

    /// The parent, before it interrupts.
    pub fn do_not_want(&self, task: u64) {
        self.unwanted.store(task + 1, Ordering::SeqCst);
    }

    /// Whether an interrupt of the parent's is under way, and whether it is for the task in hand. Told once.
    pub fn take_unwanted(&self) -> Option<bool> {
        let unwanted = self.unwanted.swap(0, Ordering::SeqCst);
        (unwanted != 0).then(|| unwanted == self.in_hand.load(Ordering::Relaxed))
    }

    /// Whether the task, just begun, is not wanted already.
    pub fn is_unwanted(&self, task: u64) -> bool {
        self.unwanted.load(Ordering::SeqCst) == task + 1
    }
}

/// Whether the parent sleeps: workers ring only then.
#[repr(C)]
pub struct Bell {
    asleep: AtomicU64,
}

// SAFETY: see the module's invariants.
unsafe impl Object for Bell {
    const KIND: u32 = kind::POOL_BELL;
}

impl Bell {
    /// The parent, before it looks whether anything has come, and then sleeps if not. Either it sees
    /// what was sent before, or the sender sees that it sleeps.
    pub fn about_to_sleep(&self) {
        self.asleep.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub fn awake(&self) {
        self.asleep.store(0, Ordering::Relaxed);
    }

    /// After something was sent; a sender that dies before this is seen to end.
    pub fn ring(&self, fd: BorrowedFd<'_>) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) != 0 && self.asleep.swap(0, Ordering::SeqCst) != 0 {
            // A bell that cannot be rung belongs to a parent that is gone.
            let _ = eventfd::raise(fd);
        }
    }
}

/// This moment, as `began` says it.
pub fn now() -> u64 {
    Deadline::now().as_nanos()
}
