#![allow(unsafe_code)]
//! What a pool's processes look at together, beside each worker's slate: whether the parent sleeps.
//!
//! # Safety invariants
//! The body is `repr(C)`, atomics only, valid for every bit pattern; all zero is its initial state: what
//! [`Object`] asks.

use std::sync::atomic::{fence, AtomicU64, Ordering};

use bequeath_os::{eventfd, Deadline};
use bequeath_shm::{kind, Object};
use std::os::fd::BorrowedFd;

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
