//! Atomics: core's, or those of a model checker. The only place that chooses; the crates above take
//! theirs from here.
//!
//! `--cfg loom` explores the cell and the primitives exhaustively, memory orderings included: see
//! `loomed.rs`. `--cfg shuttle` runs everything that stands on them under schedules chosen at random:
//! see `shuttled.rs`. In both, processes stop for ever after any store.

#[cfg(not(any(loom, shuttle)))]
pub use core::sync::atomic::{fence, AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
pub use {
    crate::loomed::{fence, AtomicU32, AtomicU64},
    core::sync::atomic::Ordering,
    loom::sync::atomic::{AtomicI32, AtomicI64},
};
#[cfg(shuttle)]
pub use {
    crate::shuttled::{AtomicI32, AtomicI64, AtomicU32, AtomicU64},
    core::sync::atomic::{fence, Ordering},
};

#[cfg(not(any(loom, shuttle)))]
pub use core::hint::spin_loop;
#[cfg(loom)]
pub use loom::hint::spin_loop;
#[cfg(shuttle)]
pub use shuttle::hint::spin_loop;

#[cfg(loom)]
pub(crate) use loom as checker;
#[cfg(shuttle)]
pub(crate) use shuttle as checker;

#[cfg(loom)]
pub use loom::thread_local as process_local;
#[cfg(shuttle)]
pub use shuttle::thread_local as process_local;
/// What a thread has for itself; in a model each thread is a process.
#[cfg(not(any(loom, shuttle)))]
pub use std::thread_local as process_local;

/// Whether a model checker runs this: time does not exist then, and each run must do the same.
pub(crate) const IS_MODEL: bool = cfg!(any(loom, shuttle));
