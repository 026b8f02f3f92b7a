//! `Condition`: waiting, with a lock released meanwhile, until another process says so.
//!
//! Each waiter has a slot of its own to sleep on, claimed and left by single compare-and-swaps, so
//! there is no handshake that a death could leave half done. A notifier marks the oldest waiting
//! slots and wakes each. When nobody slept there the waiter is either on its way (it will see the
//! mark) or dead (proven by its identity in the slot): then the notification goes to the next. A
//! notified waiter that is killed before it noticed leaves a marked slot; the others look for such
//! slots at each slice and take the notification over.
//!
//! ```text
//! bits 0..1    0 free, 1 waiting, 2 notified
//! bits 8..30   waiter's pid         bits 32..63  its start time
//! ```

use bequeath_os::futex::Wait;
use bequeath_os::Deadline;

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::broken::{self, Mistake};
use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::owner::ProcessId;
use crate::park::{self, Interrupt, Slices};
use crate::recursive::RecursiveLock;
use crate::seen::ConditionSeen;
use crate::waiting::Waiting;

/// Waiters with a slot; those beyond share one place to sleep, and may be woken without need.
const SLOTS: usize = if cfg!(loom) { 2 } else { 60 };
const WAITING: u64 = 1;
const NOTIFIED: u64 = 2;
const MARK: u64 = 3;

/// What a condition needs of its lock.
pub trait Exclusive {
    /// Whether the calling thread holds it.
    fn is_mine(&self) -> bool;
    /// Frees it however deep, and says how deep.
    ///
    /// # Errors
    /// When it is not held.
    fn release_fully(&self) -> Result<u32>;
    /// Takes it back as deep as it was.
    ///
    /// # Errors
    /// [`Error::Interrupted`] and [`Error::Abandoned`].
    fn acquire_again(&self, depth: u32, interrupt: &mut dyn Interrupt) -> Result<()>;
}

impl Exclusive for Lock {
    fn is_mine(&self) -> bool {
        Self::is_mine(self)
    }

    fn release_fully(&self) -> Result<u32> {
        self.release().map(|()| 1)
    }

    fn acquire_again(&self, _depth: u32, interrupt: &mut dyn Interrupt) -> Result<()> {
        self.acquire(Deadline::NEVER, interrupt)
    }
}

impl Exclusive for RecursiveLock {
    fn is_mine(&self) -> bool {
        Self::is_mine(self)
    }

    fn release_fully(&self) -> Result<u32> {
        Self::release_fully(self)
    }

    fn acquire_again(&self, depth: u32, interrupt: &mut dyn Interrupt) -> Result<()> {
        Self::acquire_again(self, depth, Deadline::NEVER, interrupt)
    }
}

/// A condition between processes; the lock is the caller's. All zero is one nobody waits for.
///
/// # After fork
/// Valid in both processes; the child does not wait for what the parent waits for.
///
/// # If a peer dies
/// A waiter: its turn goes to the next. A notifier: who was woken was woken, and the lock that it
/// held is abandoned, which the waiters learn when they take it back.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Condition {
    next_ticket: AtomicU64,
    overflow_event: AtomicU32,
    overflow_sleepers: AtomicU32,
    slots: [Slot; SLOTS],
}

/// How a wait ended.
enum End {
    /// Our slot was marked.
    Notified,
    /// We took over what a dead waiter was given.
    TookOver,
    GaveUp(Error),
}

#[repr(C)]
#[derive(Debug)]
struct Slot {
    word: AtomicU64,
    /// The order of coming; a hint, as it is written after the word.
    ticket: AtomicU64,
}

impl Condition {
    /// Nobody waits.
    #[must_use]
    pub fn new() -> Self {
        Self {
            next_ticket: AtomicU64::new(0),
            overflow_event: AtomicU32::new(0),
            overflow_sleepers: AtomicU32::new(0),
            slots: core::array::from_fn(|_| Slot {
                word: AtomicU64::new(0),
                ticket: AtomicU64::new(0),
            }),
        }
    }

    /// Releases `lock`, waits for a notification, and takes `lock` back in any case.
    ///
    /// # Errors
    /// [`Error::NotOwner`] unless the caller holds the lock. [`Error::TimedOut`] and
    /// [`Error::Interrupted`] with the lock held again. [`Error::Abandoned`] *without* the lock, when
    /// it could not be taken back; and [`Error::Interrupted`] without it after a second interrupt
    /// while taking it back: ask [`Exclusive::is_mine`].
    pub fn wait(
        &self,
        lock: &impl Exclusive,
        deadline: Deadline,
        interrupt: &mut dyn Interrupt,
    ) -> Result<()> {
        if !lock.is_mine() {
            return Err(Error::NotOwner);
        }
        let place = self.enter();
        let expected = self.overflow_event.load(Ordering::Relaxed);
        let depth = match lock.release_fully() {
            Ok(depth) => depth,
            Err(error) => {
                self.leave(place);
                return Err(error);
            }
        };
        let outcome = match place {
            Some(slot) => self.wait_in(slot, deadline, interrupt),
            None => self.wait_in_overflow(expected, deadline, interrupt),
        };
        take_back(lock, depth, outcome, interrupt)
    }

    /// Wakes up to `count` waiters, the longest waiting first, and says how many. The caller holds the
    /// lock that they gave to [`wait`](Self::wait).
    pub fn notify(&self, count: usize) -> usize {
        let mut notified = 0;
        while notified < count {
            match self.oldest_waiting() {
                Some((slot, word)) => notified += usize::from(mark(slot, word)),
                None => break,
            }
        }
        if notified < count {
            notified += self.notify_overflow(count - notified);
        }
        notified
    }

    /// How many wait, the dead not yet noticed included.
    #[must_use]
    pub fn waiters(&self) -> usize {
        let waiting = |slot: &&Slot| slot.word.load(Ordering::Relaxed) & MARK == WAITING;
        self.slots.iter().filter(waiting).count()
            + self.overflow_sleepers.load(Ordering::Relaxed) as usize
    }

    /// What a copy of a condition's words says; `None` when it is too short.
    #[must_use]
    pub fn read(words: &[u64]) -> Option<ConditionSeen> {
        let first = core::mem::offset_of!(Self, slots) / 8;
        let slots = words.get(first..first + 2 * SLOTS)?.chunks_exact(2);
        let with = |mark: u64| {
            let words = slots.clone().map(|slot| slot[0]);
            let marked = words.filter(move |word| word & MARK == mark);
            marked.filter_map(ProcessId::from_word).collect()
        };
        Some(ConditionSeen {
            waiting: with(WAITING),
            notified: with(NOTIFIED),
            overflow: (words[1] >> 32) as u32,
        })
    }

    fn enter(&self) -> Option<&Slot> {
        let mine = ProcessId::current().to_bits() | WAITING;
        let free = |slot: &&Slot| {
            slot.word.load(Ordering::Relaxed) == 0
                && slot
                    .word
                    .compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
        };
        let mut slot = self.slots.iter().find(free);
        if slot.is_none() && self.free_slots_of_the_dead(WAITING) {
            slot = self.slots.iter().find(free);
        }
        match slot {
            Some(slot) => {
                let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
                slot.ticket.store(ticket, Ordering::Relaxed);
            }
            None => {
                self.overflow_sleepers.fetch_add(1, Ordering::Relaxed);
            }
        }
        slot
    }

    fn leave(&self, place: Option<&Slot>) {
        match place {
            Some(slot) => slot.word.store(0, Ordering::Relaxed),
            None => {
                self.overflow_sleepers.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn wait_in(
        &self,
        slot: &Slot,
        deadline: Deadline,
        interrupt: &mut dyn Interrupt,
    ) -> Result<()> {
        let waiting = ProcessId::current().to_bits() | WAITING;
        let mut slices = Slices::idle();
        let mut waiting_on = Waiting::new();
        let end = loop {
            if slot.word.load(Ordering::Acquire) != waiting {
                break End::Notified;
            }
            waiting_on.on(&slot.word);
            match park::wait_low(&slot.word, waiting as u32, slices.next(deadline)) {
                Wait::TimedOut if deadline.is_past() => break End::GaveUp(Error::TimedOut),
                Wait::TimedOut | Wait::Interrupted if self.take_over_a_notification() => {
                    break End::TookOver
                }
                Wait::TimedOut | Wait::Interrupted => {
                    if let Err(stop) = interrupt.check() {
                        break End::GaveUp(stop.into());
                    }
                }
                Wait::Woken | Wait::Changed => {}
            }
        };
        self.settle(slot, waiting, end)
    }

    /// Frees the slot. A notification that came in the very last moment is not lost: it becomes ours,
    /// or goes on to the next when we have one already or must raise.
    fn settle(&self, slot: &Slot, waiting: u64, end: End) -> Result<()> {
        let withdrawn =
            slot.word
                .compare_exchange(waiting, 0, Ordering::Acquire, Ordering::Relaxed);
        if withdrawn.is_err() {
            slot.word.store(0, Ordering::Relaxed);
            if matches!(end, End::TookOver | End::GaveUp(Error::Interrupted)) {
                self.notify(1);
            }
        }
        match end {
            End::Notified | End::TookOver => Ok(()),
            End::GaveUp(Error::TimedOut) if withdrawn.is_err() => Ok(()),
            End::GaveUp(error) => Err(error),
        }
    }

    fn wait_in_overflow(
        &self,
        expected: u32,
        deadline: Deadline,
        interrupt: &mut dyn Interrupt,
    ) -> Result<()> {
        let mut slices = Slices::idle();
        let mut waiting_on = Waiting::new();
        let result = loop {
            waiting_on.on(&self.overflow_event);
            match park::wait(&self.overflow_event, expected, slices.next(deadline)) {
                Wait::Woken | Wait::Changed => break Ok(()),
                Wait::TimedOut if deadline.is_past() => break Err(Error::TimedOut),
                Wait::TimedOut | Wait::Interrupted if self.take_over_a_notification() => {
                    break Ok(())
                }
                Wait::TimedOut | Wait::Interrupted => {
                    if let Err(stop) = interrupt.check() {
                        break Err(stop.into());
                    }
                }
            }
        };
        self.leave(None);
        result
    }

    fn oldest_waiting(&self) -> Option<(&Slot, u64)> {
        let mut oldest: Option<(&Slot, u64, u64)> = None;
        for slot in &self.slots {
            let word = slot.word.load(Ordering::Relaxed);
            if word & MARK == WAITING {
                let ticket = slot.ticket.load(Ordering::Relaxed);
                if oldest.is_none_or(|(_, _, best)| ticket < best) {
                    oldest = Some((slot, word, ticket));
                }
            }
        }
        oldest.map(|(slot, word, _)| (slot, word))
    }

    fn notify_overflow(&self, count: usize) -> usize {
        if self.overflow_sleepers.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.overflow_event.fetch_add(1, Ordering::Release);
        park::wake(
            &self.overflow_event,
            u32::try_from(count).unwrap_or(u32::MAX),
        )
    }

    /// Looks for a notification whose receiver was killed before it noticed.
    fn take_over_a_notification(&self) -> bool {
        !broken::is(Mistake::DiesWithWaiter) && self.free_slots_of_the_dead(NOTIFIED)
    }

    /// Frees slots with this mark whose waiters are dead: all waiting ones, or one notified one.
    fn free_slots_of_the_dead(&self, mark: u64) -> bool {
        let mut freed = false;
        for slot in &self.slots {
            let word = slot.word.load(Ordering::Relaxed);
            if word & MARK == mark && ProcessId::from_word(word).is_none_or(ProcessId::is_dead) {
                freed |= slot
                    .word
                    .compare_exchange(word, 0, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok();
                if freed && mark == NOTIFIED {
                    break;
                }
            }
        }
        freed
    }
}

/// Marks a waiting slot as notified; false when its waiter is dead (the slot is freed then) or left.
fn mark(slot: &Slot, word: u64) -> bool {
    let marked = (word & !MARK) | NOTIFIED;
    if slot
        .word
        .compare_exchange(word, marked, Ordering::Release, Ordering::Relaxed)
        .is_err()
    {
        return false;
    }
    if park::wake_low(&slot.word, 1) > 0 {
        return true;
    }
    // Nobody slept there: on its way into or out of its sleep, or dead.
    let dead = ProcessId::from_word(word).is_none_or(ProcessId::is_dead)
        && !broken::is(Mistake::DiesWithWaiter);
    // If the slot is no longer as we marked it, its waiter noticed, or another took the mark over.
    !(dead
        && slot
            .word
            .compare_exchange(marked, 0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok())
}

/// Takes the lock back whatever happened. The first interrupt waits until we have it.
fn take_back(
    lock: &impl Exclusive,
    depth: u32,
    outcome: Result<()>,
    interrupt: &mut dyn Interrupt,
) -> Result<()> {
    let mut outcome = outcome;
    loop {
        match lock.acquire_again(depth, interrupt) {
            Ok(()) => return outcome,
            Err(Error::Interrupted) if outcome != Err(Error::Interrupted) => {
                outcome = Err(Error::Interrupted)
            }
            Err(error) => return Err(error),
        }
    }
}

impl Default for Condition {
    fn default() -> Self {
        Self::new()
    }
}
