//! The fused cell: lock, owner and commit in one word; the state kept twice.
//!
//! ```text
//! bit 0        which of the two copies of the state is true
//! bits 1..7    zero (the word must fit the 11-bit operand of FUTEX_OP_SET)
//! bits 8..30   owner's pid, 0 = free
//! bit 31       somebody sleeps on the lock (the sign bit of the low half, on purpose)
//! bits 32..63  owner's start time, stale while free
//! ```
//!
//! The rule that makes repair code unnecessary: between lock and commit a holder writes only the
//! copy that is *not* selected, and memory that the selected copy does not reach. Dying before the
//! commit changes nothing, dying after it changes everything. Commit and unlock are one store, and
//! with sleepers registered one system call that also wakes them. The crate's README argues each step.

use bequeath_os::futex::Wait;
use bequeath_os::Deadline;

use crate::atomic::{fence, AtomicU64, Ordering};
use crate::broken::{self, Mistake};
use crate::error::{Error, Result};
use crate::owner::{ProcessId, PID_MASK};
use crate::park::{self, Interrupt, Never, Slices};
use crate::wait_word::{misses, WaitOutcome, WaitWord};
use crate::waiting::Waiting;

const SELECTOR: u64 = 1;
/// Never set by anybody who holds a cell.
const UNUSED: u64 = 0xfe;
pub(crate) const SLEEPERS: u64 = 1 << 31;
/// The longest sleep on a held cell before its owner's life is looked at again.
const LOCK_SLICE: core::time::Duration = core::time::Duration::from_millis(32);
/// A cell is held for less than a microsecond unless its owner was stopped. So even a caller who may
/// not wait waits this long for it: that somebody else is looking says nothing about the state.
const GRACE: core::time::Duration = core::time::Duration::from_secs(1);

/// `N` words of state that survive the death of whoever changes them. All zero is a valid cell with
/// an all-zero state.
///
/// # After fork
/// Valid in both processes; a child does not hold what its parent held.
///
/// # If a peer dies
/// Holding the cell: the next to lock it takes over, and sees the last committed state. Sleeping:
/// nothing happens but an unneeded wake now and then.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Cell<const N: usize> {
    word: AtomicU64,
    copies: [[AtomicU64; N]; 2],
}

const _: () = assert!(cfg!(loom) || core::mem::size_of::<Cell<3>>() == 64);

impl<const N: usize> Cell<N> {
    /// A free cell whose state is all zero.
    #[must_use]
    pub fn new() -> Self {
        let zeros = || core::array::from_fn(|_| AtomicU64::new(0));
        Self {
            word: AtomicU64::new(0),
            copies: [zeros(), zeros()],
        }
    }

    /// Locks the cell, taking it over from a dead owner. Meant for critical sections without waits.
    #[inline]
    pub fn lock(&self) -> Guard<'_, N> {
        match self.try_take() {
            Some(guard) => guard,
            None => match self.lock_slow(Deadline::NEVER, &mut Never) {
                Ok(guard) => guard,
                Err(_) => unreachable!("neither a deadline nor an interrupt was given"),
            },
        }
    }

    /// As [`lock`](Self::lock), but gives up at the deadline (after a second at the earliest) or when
    /// told to: a *stopped* owner keeps the cell for as long as it is stopped.
    ///
    /// # Errors
    /// [`Error::TimedOut`] and [`Error::Interrupted`].
    #[inline]
    pub fn lock_until(
        &self,
        deadline: Deadline,
        interrupt: &mut dyn Interrupt,
    ) -> Result<Guard<'_, N>> {
        match self.try_take() {
            Some(guard) => Ok(guard),
            None => self.lock_slow(deadline, interrupt),
        }
    }

    /// Who holds it at this moment: for messages and tests.
    #[must_use]
    pub fn owner(&self) -> Option<ProcessId> {
        ProcessId::from_word(self.word.load(Ordering::Relaxed))
    }

    /// The committed state without locking: for onlookers, who may have no right to write. While others
    /// commit one after the other it can be a mixture of two states; of a cell at rest it is exact.
    #[must_use]
    pub fn peek(&self) -> [u64; N] {
        let mut left = 100;
        loop {
            let word = self.word.load(Ordering::Acquire);
            let copy = &self.copies[(word & SELECTOR) as usize];
            let state = core::array::from_fn(|index| copy[index].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            left -= 1;
            if self.word.load(Ordering::Relaxed) & SELECTOR == word & SELECTOR || left == 0 {
                return state;
            }
        }
    }

    #[inline]
    fn try_take(&self) -> Option<Guard<'_, N>> {
        let word = self.word.load(Ordering::Relaxed);
        if word & PID_MASK == 0 {
            self.take_from(word, word & SLEEPERS)
        } else {
            None
        }
    }

    /// One attempt to put our name where `word` stands.
    #[inline]
    fn take_from(&self, word: u64, sleepers: u64) -> Option<Guard<'_, N>> {
        let selector = word & SELECTOR;
        let me = ProcessId::current();
        let mine = me.to_bits() | sleepers | selector;
        let taken = self
            .word
            .compare_exchange(word, mine, Ordering::Acquire, Ordering::Relaxed);
        // Built only when taken: a guard that comes into being unlocks when it goes.
        taken.is_ok().then(|| Guard {
            cell: self,
            me,
            selector,
            staged: false,
            dead: None,
        })
    }

    #[cold]
    fn lock_slow(&self, deadline: Deadline, interrupt: &mut dyn Interrupt) -> Result<Guard<'_, N>> {
        // Each look takes the cache line from the owner, who needs it back to go on: looking ever less
        // often lets it finish several sections in a row where processors are far from each other.
        let (mut left, mut pause) = (2 * park::lock_spins(), 1);
        while left > 0 {
            for _ in 0..pause {
                crate::atomic::spin_loop();
            }
            if let Some(guard) = self.try_take() {
                return Ok(guard);
            }
            left = left.saturating_sub(pause);
            pause *= 2;
        }
        let mut slices = Slices::growing(LOCK_SLICE);
        let deadline = deadline.max(Deadline::after(GRACE));
        let mut waiting = Waiting::new();
        loop {
            let word = self.word.load(Ordering::Relaxed);
            if word & PID_MASK == 0 {
                // The mark of sleepers stays: others may sleep too, and only we know that somebody did.
                let mark = if broken::is(Mistake::MarkForgotten) {
                    0
                } else {
                    SLEEPERS
                };
                if let Some(guard) = self.take_from(word, mark) {
                    return Ok(guard);
                }
                continue;
            }
            if deadline.is_past() {
                return Err(Error::TimedOut);
            }
            let marked = word | SLEEPERS;
            if word != marked
                && self
                    .word
                    .compare_exchange(word, marked, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            waiting.on(&self.word);
            match park::wait_low(&self.word, marked as u32, slices.next(deadline)) {
                // A signal ends a slice too: with a timer that ticks faster than slices the death of
                // an owner would never be noticed otherwise.
                Wait::TimedOut | Wait::Interrupted => {
                    if self.word.load(Ordering::Relaxed) == marked {
                        if let Some(guard) = self.take_over(marked) {
                            return Ok(guard);
                        }
                    }
                    interrupt.check()?;
                }
                Wait::Woken | Wait::Changed => {}
            }
        }
    }

    /// Takes the cell from its owner if that is dead. The whole word is compared, start time
    /// included, and the dead store nothing: no other owner can be mistaken for this one.
    fn take_over(&self, word: u64) -> Option<Guard<'_, N>> {
        let owner = ProcessId::from_word(word).filter(|_| word & UNUSED == 0);
        let may_live = owner.is_some_and(|owner| !owner.is_dead());
        if may_live && !broken::is(Mistake::NoDeathCheck) {
            return None;
        }
        let mut guard = self.take_from(word, SLEEPERS)?;
        guard.dead = owner;
        Some(guard)
    }

    #[inline]
    fn unlock(&self, selector: u64) {
        let old = self.word.swap(selector, commit_order());
        if old & SLEEPERS != 0 {
            park::wake_low(&self.word, 1);
        }
    }

    /// By the holder.
    #[cold]
    fn unlock_and_wake(&self, selector: u64, wait: &WaitWord, count: u32) {
        wait.event.fetch_add(1, Ordering::Relaxed);
        if misses::are_many() {
            // Perhaps the registered are dead. Nobody can register while we hold the cell, and who
            // registered but does not sleep yet will find the event changed: forgetting is safe.
            if park::wake(&wait.event, count) == 0 {
                wait.forget_sleepers();
            }
            return self.unlock(selector);
        }
        // The kernel's store follows everything written before; this fence says so to the compiler
        // and to architectures where entering the kernel is no barrier.
        fence(Ordering::Release);
        match park::wake_op(&wait.event, count, &self.word, selector as u16) {
            Ok(woken) => misses::note(woken),
            // Refused, nothing was stored: the same in two steps.
            Err(_) => {
                self.unlock(selector);
                misses::note(park::wake(&wait.event, count));
            }
        }
    }
}

/// Whoever locks next sees all that was written before.
#[inline]
fn commit_order() -> Ordering {
    if broken::is(Mistake::CommitRelaxed) {
        Ordering::Relaxed
    } else {
        Ordering::Release
    }
}

impl<const N: usize> Default for Cell<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The locked cell. Dropping it unlocks without committing what was staged.
#[derive(Debug)]
#[must_use = "a guard that is dropped unlocks at once"]
pub struct Guard<'a, const N: usize> {
    cell: &'a Cell<N>,
    me: ProcessId,
    selector: u64,
    staged: bool,
    dead: Option<ProcessId>,
}

impl<const N: usize> Guard<'_, N> {
    /// The committed state.
    #[must_use]
    #[inline]
    pub fn state(&self) -> [u64; N] {
        let copy = &self.cell.copies[self.selector as usize];
        core::array::from_fn(|index| copy[index].load(Ordering::Relaxed))
    }

    /// Prepares what the next commit will make true.
    #[inline]
    pub fn stage(&mut self, state: [u64; N]) {
        let in_place = broken::is(Mistake::StateInPlace);
        let copy = &self.cell.copies[(self.selector ^ u64::from(!in_place)) as usize];
        for (word, value) in copy.iter().zip(state) {
            word.store(value, Ordering::Relaxed);
        }
        self.staged = !in_place;
    }

    /// The process that holds it: this one.
    #[must_use]
    #[inline]
    pub const fn holder(&self) -> ProcessId {
        self.me
    }

    /// The dead process from whom this lock was taken over, if any: what it did since its last
    /// commit never happened, but it may have died with other things in its hands.
    #[must_use]
    pub const fn taken_over_from(&self) -> Option<ProcessId> {
        self.dead
    }

    #[inline]
    fn next(&self) -> u64 {
        self.selector ^ u64::from(self.staged)
    }

    /// Makes the staged state true and unlocks, in one store.
    #[inline]
    pub fn commit(self) {
        let (cell, next) = (self.cell, self.next());
        core::mem::forget(self);
        cell.unlock(next);
    }

    /// Makes the staged state true and keeps the lock: for effects in two steps.
    #[inline]
    pub fn commit_and_hold(&mut self) {
        if self.staged {
            self.cell.word.fetch_xor(SELECTOR, commit_order());
            self.selector ^= SELECTOR;
            self.staged = false;
        }
    }

    /// Makes the staged state true, unlocks, and wakes up to `count` sleepers of `wait`. With
    /// sleepers registered all three are one system call, which SIGKILL cannot divide.
    #[inline]
    pub fn commit_and_wake(self, wait: &WaitWord, count: u32) {
        let (cell, next) = (self.cell, self.next());
        core::mem::forget(self);
        if wait.has_sleepers() {
            cell.unlock_and_wake(next, wait, count);
        } else {
            cell.unlock(next);
        }
    }

    /// Registers as a sleeper of `wait`, unlocks (committing what was staged) and sleeps until
    /// woken, until `deadline`, or for a slice. Comes back *without* the lock.
    pub fn wait(self, wait: &WaitWord, deadline: Deadline) -> WaitOutcome {
        self.wait_as(wait, deadline, &mut Waiting::new())
    }

    /// As [`wait`](Self::wait), with a slice of the caller's choice.
    pub fn wait_slice(
        self,
        wait: &WaitWord,
        deadline: Deadline,
        slice: core::time::Duration,
    ) -> WaitOutcome {
        self.sleep_on(wait, deadline, slice, &mut Waiting::new())
    }

    /// As [`wait`](Self::wait), as part of a longer wait.
    pub fn wait_as(
        self,
        wait: &WaitWord,
        deadline: Deadline,
        waiting: &mut Waiting,
    ) -> WaitOutcome {
        self.sleep_on(wait, deadline, park::SLICE, waiting)
    }

    fn sleep_on(
        self,
        wait: &WaitWord,
        deadline: Deadline,
        slice: core::time::Duration,
        waiting: &mut Waiting,
    ) -> WaitOutcome {
        let expected = wait.event.load(Ordering::Relaxed);
        let (period, alone) = wait.register();
        self.commit();
        let outcome = wait.sleep(expected, deadline, slice, alone, waiting);
        wait.deregister(period);
        outcome
    }
}

impl<const N: usize> Drop for Guard<'_, N> {
    fn drop(&mut self) {
        self.cell.unlock(self.selector);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Garbage that happens to contain the number of a living process was waited for, for ever.
    #[test]
    fn a_word_that_no_holder_writes_is_taken_over() {
        let alive = ProcessId::current().to_bits();
        for garbage in [0x02, 0x40 | SLEEPERS, alive | 0x02, alive | 0xfe | SELECTOR] {
            let mut cell = Cell::<1>::new();
            cell.word = AtomicU64::new(garbage);
            let mut held = cell.lock();
            held.stage([5]);
            held.commit();
            assert_eq!(cell.lock().state(), [5]);
        }
    }
}
