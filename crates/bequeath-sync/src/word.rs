//! The word of a lock that users see: owner, sleepers, and the report that the owner was killed.
//!
//! ```text
//! bit 1        abandoned: the owner named here was killed, and a waiter proved it
//! bit 2        recovered: the owner named here took it from one that was killed
//! bits 8..30   owner's pid; the whole word is 0 while free
//! bit 31       somebody sleeps on the lock
//! bits 32..63  owner's start time
//! ```
//!
//! Unlike a cell, such a word is held for as long as the program likes, and it is never taken over
//! silently: what it protects belongs to the program, and may be half written. The report is a
//! state of the word, so it outlives whoever found out.

use bequeath_os::futex::Wait;
use bequeath_os::Deadline;

use crate::atomic::{AtomicU64, Ordering};
use crate::broken::{self, Mistake};
use crate::cell::SLEEPERS;
use crate::error::{Error, Holder, Result};
use crate::owner::{exited_in_order, ProcessId, PID_MASK};
use crate::park::{self, Interrupt, Slices, LONG_WAIT};
use crate::seen::{HeldSince, LockSeen};
use crate::waiting::Waiting;

const ABANDONED: u64 = 1 << 1;
const RECOVERED: u64 = 1 << 2;
const UNUSED: u64 = 0xf9;
const LONGEST_SLICE: core::time::Duration = core::time::Duration::from_millis(100);

/// What is known about an owner that somebody waits for.
enum Fate {
    Alive,
    /// Gone, but it ended in order: what it held stays held.
    Left,
    Killed,
}

#[repr(C)]
#[derive(Debug)]
pub(crate) struct OwnerWord(AtomicU64, Noted);

/// When the owner was seen to hold the word, by who had to wait for it: only for telling. Taking a
/// free word reads no clock.
///
/// ```text
/// bit 0        exact: the owner itself wrote it as it got the word, after a wait
/// bits 8..30   the owner's pid: about another owner it says nothing
/// bits 32..63  milliseconds of the monotonic clock, low 32 bits
/// ```
#[repr(transparent)]
#[derive(Debug)]
struct Noted(core::sync::atomic::AtomicU64);

const EXACT: u64 = 1;

impl Noted {
    fn note(&self, word: u64, exact: u64) {
        let milliseconds = Deadline::now().as_nanos() / 1_000_000;
        let note = (word & PID_MASK) | exact | milliseconds << 32;
        self.0.store(note, core::sync::atomic::Ordering::Relaxed);
    }
}

/// How often a lock was taken, the low 32 bits, counted by who got it: two looks from outside that find the
/// same holder and the same number have seen one holding. Only for telling; kept where the holder
/// writes anyway.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Times(core::sync::atomic::AtomicU32);

impl Times {
    pub(crate) fn new() -> Self {
        Self(core::sync::atomic::AtomicU32::new(0))
    }

    /// By the holder, before it signs.
    #[inline]
    pub(crate) fn count(&self) {
        let relaxed = core::sync::atomic::Ordering::Relaxed;
        self.0.store(self.0.load(relaxed).wrapping_add(1), relaxed);
    }
}

impl OwnerWord {
    pub(crate) fn new() -> Self {
        Self(
            AtomicU64::new(0),
            Noted(core::sync::atomic::AtomicU64::new(0)),
        )
    }

    /// Who holds it, dead or alive.
    #[inline]
    pub(crate) fn owner(&self) -> Option<ProcessId> {
        ProcessId::from_word(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn abandoned_by(&self) -> Option<Holder> {
        abandoned_by(self.0.load(Ordering::Relaxed))
    }

    /// Whether what it protects may be half written: its holder was killed, or was recovered from such.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.0.load(Ordering::Relaxed) & (ABANDONED | RECOVERED) != 0
    }

    /// The uncontended path: one compare-and-swap.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        let mine = ProcessId::current().to_bits();
        self.0
            .compare_exchange(0, mine, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// One attempt, but a killed owner is reported and not just "held".
    #[inline]
    pub(crate) fn try_acquire(&self) -> Result<bool> {
        if self.take() {
            Ok(true)
        } else {
            self.refused()
        }
    }

    #[cold]
    fn refused(&self) -> Result<bool> {
        let word = self.0.load(Ordering::Relaxed);
        if is_garbage(word) {
            return Err(Error::Corrupted);
        }
        if word & ABANDONED == 0 && !recently::looked_at(self.address(), word) {
            self.look_at_owner(word);
        }
        match self.abandoned_by() {
            Some(holder) => Err(Error::Abandoned(holder)),
            None => Ok(false),
        }
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(self) as usize
    }

    #[inline]
    pub(crate) fn acquire(&self, deadline: Deadline, interrupt: &mut dyn Interrupt) -> Result<()> {
        if self.take() {
            Ok(())
        } else {
            self.acquire_slow(deadline, interrupt)
        }
    }

    #[cold]
    fn acquire_slow(&self, deadline: Deadline, interrupt: &mut dyn Interrupt) -> Result<()> {
        for _ in 0..park::lock_spins() {
            if self.0.load(Ordering::Relaxed) == 0 && self.take() {
                return Ok(());
            }
            crate::atomic::spin_loop();
        }
        let mut slices = Slices::growing(LONGEST_SLICE);
        let mut patience = Some(Deadline::after(LONG_WAIT));
        let mut waiting = Waiting::new();
        loop {
            let word = self.0.load(Ordering::Relaxed);
            if word == 0 {
                // The mark of sleepers goes in with our name: others may sleep too.
                let mine = ProcessId::current().to_bits() | SLEEPERS;
                if self
                    .0
                    .compare_exchange(0, mine, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
                {
                    self.1.note(mine, EXACT);
                    return Ok(());
                }
                continue;
            }
            if is_garbage(word) {
                return Err(Error::Corrupted);
            }
            if let Some(holder) = abandoned_by(word) {
                return Err(Error::Abandoned(holder));
            }
            if deadline.is_past() {
                match self.look_at_owner(word) {
                    Fate::Killed => continue,
                    Fate::Alive | Fate::Left => return Err(Error::TimedOut),
                }
            }
            let marked = word | SLEEPERS;
            if word != marked {
                let change = (Ordering::Relaxed, Ordering::Relaxed);
                if self
                    .0
                    .compare_exchange(word, marked, change.0, change.1)
                    .is_err()
                {
                    continue;
                }
                self.1.note(marked, 0);
            }
            waiting.on(&self.0);
            match park::wait_low(&self.0, marked as u32, slices.next(deadline)) {
                // A signal counts as the end of a slice: see `cell.rs`.
                Wait::TimedOut | Wait::Interrupted if self.0.load(Ordering::Relaxed) == marked => {
                    let fate = self.look_at_owner(marked);
                    if matches!(fate, Fate::Killed) {
                        continue;
                    }
                    if patience.is_some_and(Deadline::is_past) {
                        patience = None;
                        if let Some(process) = ProcessId::from_word(marked) {
                            let exited_in_order = matches!(fate, Fate::Left);
                            interrupt.long_wait(Holder {
                                process,
                                exited_in_order,
                            });
                        }
                    }
                    interrupt.check()?;
                }
                Wait::Interrupted => interrupt.check()?,
                _ => {}
            }
        }
    }

    /// Finds out what became of the owner that `word` names, and reports a killed one in the word,
    /// for everybody who comes or sleeps.
    fn look_at_owner(&self, word: u64) -> Fate {
        match ProcessId::from_word(word) {
            Some(owner) if !owner.is_dead() => return Fate::Alive,
            Some(owner) if exited_in_order(owner) => return Fate::Left,
            _ => {}
        }
        let report = if broken::is(Mistake::TakenSilently) {
            0
        } else {
            (word | ABANDONED) & !SLEEPERS
        };
        // Release: what the dead wrote is before whatever is done by who recovers, who may not have looked
        // at the dead himself.
        if self
            .0
            .compare_exchange(word, report, Ordering::Release, Ordering::Relaxed)
            .is_ok()
        {
            park::wake_low(&self.0, u32::MAX);
        }
        Fate::Killed
    }

    /// One swap; anybody may do it, also to an abandoned word.
    #[inline]
    pub(crate) fn release(&self) -> Result<()> {
        let old = self.0.swap(0, Ordering::Release);
        if old & SLEEPERS != 0 {
            park::wake_low(&self.0, 1);
        }
        if old == 0 {
            Err(Error::NotHeld)
        } else {
            Ok(())
        }
    }

    /// Takes an abandoned word. One of several callers wins.
    pub(crate) fn recover(&self) -> Result<()> {
        let mut word = self.0.load(Ordering::Relaxed);
        if word != 0 && word & ABANDONED == 0 {
            self.look_at_owner(word);
            word = self.0.load(Ordering::Relaxed);
        }
        if word & ABANDONED == 0 && !is_garbage(word) {
            return Err(Error::NotAbandoned);
        }
        let mine = ProcessId::current().to_bits() | SLEEPERS | RECOVERED;
        let taken = self
            .0
            .compare_exchange(word, mine, Ordering::Acquire, Ordering::Relaxed);
        taken.map(|_| ()).map_err(|_| Error::NotAbandoned)
    }
}

/// What both kinds of lock tell of their `word`, and the choice that stands in `recovering`.
macro_rules! about_its_holder {
    () => {
        /// Which process holds it, dead or alive.
        #[must_use]
        pub fn owner(&self) -> Option<$crate::ProcessId> {
            self.word.owner()
        }

        /// Whether what it protects may be half written: its holder was killed, or took it from one that
        /// was. Over when it is released.
        #[must_use]
        pub fn is_doubtful(&self) -> bool {
            self.word.is_doubtful()
        }

        /// Makes the bindings recover an abandoned lock in `acquire` instead of reporting it. The choice is
        /// part of the shared lock; this crate only remembers it.
        pub fn set_recovering(&self, recovering: bool) {
            self.recovering
                .store(recovering.into(), $crate::atomic::Ordering::Relaxed);
        }

        /// What [`set_recovering`](Self::set_recovering) chose.
        #[must_use]
        pub fn is_recovering(&self) -> bool {
            self.recovering.load($crate::atomic::Ordering::Relaxed) != 0
        }

        /// Who was killed while holding it, if somebody found out.
        #[must_use]
        pub fn abandoned_by(&self) -> Option<$crate::Holder> {
            self.word.abandoned_by()
        }
    };
}
pub(crate) use about_its_holder;

/// What the two words of a lock say, copied from somewhere.
pub(crate) fn read(word: u64, noted: u64) -> LockSeen {
    let owner = ProcessId::from_word(word);
    let contended = word & SLEEPERS != 0;
    let about_it = owner.is_some() && contended && (word ^ noted) & PID_MASK == 0;
    LockSeen {
        owner,
        thread: None,
        depth: 1,
        times: 0,
        abandoned: word & ABANDONED != 0,
        recovered: word & RECOVERED != 0,
        contended,
        held_since: about_it.then_some(HeldSince {
            milliseconds: (noted >> 32) as u32,
            exact: noted & EXACT != 0,
        }),
    }
}

/// Whether no lock writes such a word: neither free nor held by anybody.
fn is_garbage(word: u64) -> bool {
    word != 0 && (word & UNUSED != 0 || ProcessId::from_word(word).is_none())
}

fn abandoned_by(word: u64) -> Option<Holder> {
    if word & ABANDONED == 0 {
        return None;
    }
    ProcessId::from_word(word).map(|process| Holder {
        process,
        exited_in_order: false,
    })
}

/// A program that polls a held lock must not pay for a look at its owner each time.
mod recently {
    use core::cell::Cell;
    use core::time::Duration;

    use bequeath_os::Deadline;

    const PAUSE: Duration = Duration::from_millis(10);

    thread_local! {
        static LAST: Cell<(usize, u64, Deadline)> = const { Cell::new((0, 0, Deadline::PAST)) };
    }

    /// Whether this thread looked at the owner of this very word within the last moments; if not, it does now.
    pub(super) fn looked_at(address: usize, word: u64) -> bool {
        LAST.with(|last| {
            let (at, seen, until) = last.get();
            if at == address && seen == word && !until.is_past() {
                return true;
            }
            last.set((address, word, Deadline::after(PAUSE)));
            false
        })
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::park::Never;

    /// Neither a deadline nor a signal ended the wait for a word without an owner.
    #[test]
    fn a_word_that_names_nobody_is_an_error_until_it_is_recovered() {
        let alive = ProcessId::current().to_bits();
        let half = 7 << 40;
        for garbage in [
            1,
            2,
            4,
            0x55,
            SLEEPERS,
            half,
            half | SLEEPERS | ABANDONED,
            alive | 1,
            alive | 0x80 | ABANDONED,
        ] {
            let mut word = OwnerWord::new();
            word.0 = AtomicU64::new(garbage);
            for deadline in [Deadline::PAST, Deadline::NEVER] {
                assert_eq!(word.acquire(deadline, &mut Never), Err(Error::Corrupted));
            }
            assert_eq!(word.try_acquire(), Err(Error::Corrupted));
            word.recover().unwrap();
            word.release().unwrap();
            word.acquire(Deadline::PAST, &mut Never).unwrap();
        }
    }
}
