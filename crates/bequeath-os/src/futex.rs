#![allow(unsafe_code)]
//! Waiting for a word of shared memory to change, and waking who waits.
//!
//! All futexes here are the *shared* kind (keyed by the page, not by the address), because every
//! word lives in memory that several processes map at different places.
//!
//! # Safety invariants
//! The kernel reads and writes only the words whose references it is given. The one cast, from a
//! 64-bit atomic to its low half, is never dereferenced in Rust: only its address goes to the kernel.

use core::num::NonZeroU32;
use core::sync::atomic::{AtomicU32, AtomicU64};

use rustix::thread::futex::{self, Flags, WakeOp, WakeOpCmp};

use crate::clock::Deadline;
use crate::errno::{Errno, Named, Result};

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Somebody woke us (or the kernel did without a reason: look again).
    Woken,
    /// The word did not hold the expected value.
    Changed,
    /// The deadline came.
    TimedOut,
    /// A signal arrived.
    Interrupted,
}

/// The 32-bit half of `word` that the kernel compares when a thread sleeps on it.
#[must_use]
pub fn low_half(word: &AtomicU64) -> &AtomicU32 {
    let first: *const AtomicU32 = core::ptr::from_ref(word).cast();
    let index = if cfg!(target_endian = "big") { 1 } else { 0 };
    // SAFETY: an AtomicU64 is eight bytes, so both halves lie inside it.
    let half = unsafe { first.add(index) };
    // SAFETY: aligned (to 8), alive as long as `word`, and an AtomicU32 accepts any bits.
    unsafe { &*half }
}

/// Sleeps while `word` holds `expected`, until `deadline` at the latest.
pub fn wait(word: &AtomicU32, expected: u32, deadline: Deadline) -> Wait {
    let timeout = deadline.timespec();
    // The bitset form takes an absolute time on CLOCK_MONOTONIC; all bits set means "any waker".
    match futex::wait_bitset(
        word,
        Flags::empty(),
        expected,
        timeout.as_ref(),
        NonZeroU32::MAX,
    ) {
        Ok(()) => Wait::Woken,
        Err(Errno::TIMEDOUT) => Wait::TimedOut,
        Err(Errno::INTR) => Wait::Interrupted,
        // EAGAIN. Anything else would be a bug of ours; "look again" is right for both.
        Err(_) => Wait::Changed,
    }
}

/// Wakes up to `count` sleepers of `word` and says how many there were.
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    futex::wake(word, Flags::empty(), count.min(i32::MAX as u32)).unwrap_or(0)
}

/// In one system call: stores `value` into `half`, wakes up to `count` sleepers of `event`, and, if
/// the old value of `half` was negative as a signed number, wakes one sleeper of `half`. Since a
/// SIGKILL acts only at the return to user mode, store and wakes cannot come apart.
///
/// # Errors
/// Where the operation does not exist (some sandboxes and emulators); then nothing was stored.
pub fn wake_op_set(event: &AtomicU32, count: u32, half: &AtomicU32, value: u16) -> Result<usize> {
    if cfg!(miri) {
        return Err(crate::Error::new("futex", Errno::NOSYS));
    }
    // The kernel reads the operand as a signed 12-bit number.
    if value >= 1 << 11 {
        return Err(crate::Error::new("futex", Errno::INVAL));
    }
    let count = count.min(i32::MAX as u32);
    futex::wake_op(
        event,
        Flags::empty(),
        count,
        1,
        half,
        WakeOp::Set,
        WakeOpCmp::Lt,
        value,
        0,
    )
    .named("futex")
}
