//! `Semaphore`: a count of units that processes take and give; optionally with a bound, and robust:
//! units that a killed process holds come back.
//!
//! Semaphores signal as often as they exclude, so a plain one defines no holders: nothing comes back
//! by itself. A robust one keeps, per process, what it took minus what it gave. That table is too
//! large to be kept twice in the cell. Instead each commit names the one entry that it changes and
//! the new value; whoever locks next writes that entry again before doing anything else. Writing it
//! twice changes nothing, so a death between commit and write is repaired by the next.

use bequeath_os::Deadline;

use crate::atomic::{AtomicU64, Ordering};
use crate::cell::{Cell, Guard};
use crate::error::{Error, Holder, Result};
use crate::owner::{exited_in_order, ProcessId};
use crate::park::{Interrupt, LONG_WAIT};
use crate::seen::{self, Holding, SemaphoreSeen};
use crate::wait_word::{WaitOutcome, WaitWord};
use crate::waiting::Waiting;

/// The largest value, as `SEM_VALUE_MAX` on Linux.
pub const VALUE_MAX: u32 = i32::MAX as u32;
/// Processes whose holdings are known; those beyond hold without robustness.
const HOLDERS: usize = 28;
const ROBUST: u64 = 1 << 63;

/// A counting semaphore between processes. All zero is one without units and without room for any:
/// call [`init`](Self::init) once, before others see it.
///
/// # After fork
/// Valid in both processes; the child holds nothing.
///
/// # If a peer dies
/// Killed while waiting: nothing happens to anybody. Killed while it holds units: a robust semaphore
/// gives them back when the next waiter finds out; a plain one does not, and tells a waiter who took last.
#[repr(C)]
#[derive(Debug)]
pub struct Semaphore {
    cell: Cell<6>,
    given: WaitWord,
    reserved: AtomicU64,
    holders: [Entry; HOLDERS],
}

/// What one process took minus what it gave (two's complement).
#[repr(C)]
#[derive(Debug)]
struct Entry {
    process: AtomicU64,
    net: AtomicU64,
}

/// The cell's words, named.
#[derive(Clone, Copy)]
struct State {
    value: u64,
    bound: u64,
    last_taker: u64,
    /// The entry that the last commit changed, plus one; zero for none.
    entry: u64,
    entry_process: u64,
    entry_net: u64,
}

impl State {
    fn of(words: [u64; 6]) -> Self {
        let [value, bound, last_taker, entry, entry_process, entry_net] = words;
        Self {
            value,
            bound,
            last_taker,
            entry,
            entry_process,
            entry_net,
        }
    }

    fn words(self) -> [u64; 6] {
        [
            self.value,
            self.bound,
            self.last_taker,
            self.entry,
            self.entry_process,
            self.entry_net,
        ]
    }

    fn limit(&self) -> u64 {
        self.bound & !ROBUST
    }

    fn is_robust(&self) -> bool {
        self.bound & ROBUST != 0
    }
}

impl Semaphore {
    /// A semaphore with `value` units, at most `bound`.
    ///
    /// # Errors
    /// As [`init`](Self::init).
    pub fn new(value: u32, bound: u32, robust: bool) -> Result<Self> {
        let entry = |_| Entry {
            process: AtomicU64::new(0),
            net: AtomicU64::new(0),
        };
        let made = Self {
            cell: Cell::new(),
            given: WaitWord::new(),
            reserved: AtomicU64::new(0),
            holders: core::array::from_fn(entry),
        };
        made.init(value, bound, robust)?;
        Ok(made)
    }

    /// Gives a zeroed semaphore its units and its bound.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] unless `value <= bound <= VALUE_MAX`.
    pub fn init(&self, value: u32, bound: u32, robust: bool) -> Result<()> {
        let limit = bound.min(VALUE_MAX);
        if value > limit || bound > VALUE_MAX {
            return Err(Error::OutOfRange {
                value: value.into(),
                limit: limit.into(),
            });
        }
        let bound = u64::from(bound) | if robust { ROBUST } else { 0 };
        let mut guard = self.cell.lock();
        guard.stage([value.into(), bound, 0, 0, 0, 0]);
        guard.commit();
        Ok(())
    }

    /// Locks, and finishes what the last commit left to write.
    fn settled<'a>(&'a self, guard: Guard<'a, 6>) -> (Guard<'a, 6>, State) {
        let state = State::of(guard.state());
        let index = (state.entry as usize).wrapping_sub(1);
        if let Some(entry) = self.holders.get(index) {
            entry.process.store(state.entry_process, Ordering::Relaxed);
            entry.net.store(state.entry_net, Ordering::Relaxed);
        }
        (guard, state)
    }

    /// Waits for a unit and takes it.
    ///
    /// # Errors
    /// [`Error::TimedOut`] and [`Error::Interrupted`].
    pub fn acquire(&self, deadline: Deadline, interrupt: &mut dyn Interrupt) -> Result<()> {
        let mut patience = None;
        let mut waiting = Waiting::new();
        loop {
            let (guard, state) = self.settled(self.cell.lock_until(deadline, interrupt)?);
            if state.value > 0 {
                self.take(guard, state);
                return Ok(());
            }
            if deadline.is_past() {
                drop(guard);
                if self.give_back_of_the_dead() {
                    continue;
                }
                return Err(Error::TimedOut);
            }
            let patient_until = *patience.get_or_insert_with(|| Deadline::after(LONG_WAIT));
            match guard.wait_as(&self.given, deadline, &mut waiting) {
                WaitOutcome::Woken | WaitOutcome::TimedOut => {}
                WaitOutcome::Slice | WaitOutcome::Interrupted => {
                    if self.give_back_of_the_dead() {
                        continue;
                    }
                    if patient_until.is_past() {
                        patience = Some(Deadline::NEVER);
                        self.tell_of_last_taker(state, interrupt);
                    }
                    interrupt.check()?;
                }
            }
        }
    }

    /// Takes a unit if there is one.
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        let (guard, state) = self.settled(self.cell.lock());
        let there = state.value > 0;
        if there {
            self.take(guard, state);
        }
        there
    }

    fn take(&self, mut guard: Guard<'_, 6>, mut state: State) {
        state.value -= 1;
        state.last_taker = ProcessId::current().to_bits();
        self.note(&mut state, 1);
        guard.stage(state.words());
        guard.commit();
    }

    /// Gives `units` back, or more than were taken, up to the bound.
    ///
    /// # Errors
    /// [`Error::NotHeld`] beyond the bound; nothing was given then.
    pub fn release(&self, units: u32) -> Result<()> {
        let (mut guard, mut state) = self.settled(self.cell.lock());
        if state.value.saturating_add(units.into()) > state.limit() {
            return Err(Error::NotHeld);
        }
        state.value += u64::from(units);
        self.note(&mut state, -i64::from(units));
        guard.stage(state.words());
        guard.commit_and_wake(&self.given, units);
        Ok(())
    }

    /// How many units are there now.
    #[must_use]
    pub fn value(&self) -> u32 {
        u32::try_from(State::of(self.cell.lock().state()).value).unwrap_or(VALUE_MAX)
    }

    /// The bound.
    #[must_use]
    pub fn bound(&self) -> u32 {
        u32::try_from(State::of(self.cell.lock().state()).limit()).unwrap_or(VALUE_MAX)
    }

    /// Who took a unit last.
    #[must_use]
    pub fn last_taker(&self) -> Option<ProcessId> {
        ProcessId::from_bits(State::of(self.cell.lock().state()).last_taker)
    }

    /// Prepares the change of this process's entry, to be written after the commit.
    fn note(&self, state: &mut State, change: i64) {
        state.entry = 0;
        if !state.is_robust() {
            return;
        }
        let me = ProcessId::current().to_bits();
        let Some((index, old)) = self.entry_of(me) else {
            return;
        };
        state.entry = index as u64 + 1;
        state.entry_process = me;
        state.entry_net = old.wrapping_add(change) as u64;
    }

    /// This process's entry and what it says, or an unused one.
    fn entry_of(&self, process: u64) -> Option<(usize, i64)> {
        let mut unused = None;
        for (index, entry) in self.holders.iter().enumerate() {
            let net = entry.net.load(Ordering::Relaxed) as i64;
            if entry.process.load(Ordering::Relaxed) == process {
                return Some((index, net));
            }
            if unused.is_none() && net == 0 {
                unused = Some((index, 0));
            }
        }
        unused
    }

    /// Gives back what killed processes held; true if anything came back. Their lives are looked at
    /// without the cell, and the entries compared again under it.
    fn give_back_of_the_dead(&self) -> bool {
        let (guard, state) = self.settled(self.cell.lock());
        drop(guard);
        let mut came_back = false;
        if state.is_robust() {
            for (index, entry) in self.holders.iter().enumerate() {
                let bits = entry.process.load(Ordering::Relaxed);
                let holds = entry.net.load(Ordering::Relaxed) as i64 > 0;
                let Some(process) = ProcessId::from_bits(bits).filter(|_| holds) else {
                    continue;
                };
                if process.is_dead() && !exited_in_order(process) {
                    came_back |= self.give_back(index, bits);
                }
            }
        }
        came_back
    }

    fn give_back(&self, index: usize, process: u64) -> bool {
        let (mut guard, mut state) = self.settled(self.cell.lock());
        let (mut net, mut others) = (0, 0);
        for (at, entry) in self.holders.iter().enumerate() {
            let holds = (entry.net.load(Ordering::Relaxed) as i64).max(0) as u64;
            if at == index && entry.process.load(Ordering::Relaxed) == process {
                net = holds;
            } else {
                others = u64::saturating_add(others, holds);
            }
        }
        if net == 0 {
            return false;
        }
        // Never more than is missing once the living have theirs: a unit that one process took and
        // another gave back must not come back twice.
        let missing = state
            .limit()
            .saturating_sub(state.value)
            .saturating_sub(others);
        let units = net.min(missing);
        state.value += units;
        state.entry = index as u64 + 1;
        state.entry_process = 0;
        state.entry_net = 0;
        guard.stage(state.words());
        guard.commit_and_wake(&self.given, u32::try_from(units).unwrap_or(VALUE_MAX));
        units > 0
    }

    /// What a copy of a semaphore's words says; `None` when it is too short.
    #[must_use]
    pub fn read(words: &[u64]) -> Option<SemaphoreSeen> {
        let (state, cell_held_by) = seen::cell::<6>(words)?;
        let state = State::of(state);
        let first = core::mem::offset_of!(Self, holders) / 8;
        let mut entries: [(u64, u64); HOLDERS] = [(0, 0); HOLDERS];
        for (entry, pair) in entries.iter_mut().zip(words.get(first..)?.chunks_exact(2)) {
            *entry = (pair[0], pair[1]);
        }
        // As whoever locks next does first: the last commit may not have reached the table.
        if let Some(entry) = entries.get_mut((state.entry as usize).wrapping_sub(1)) {
            *entry = (state.entry_process, state.entry_net);
        }
        let holding = |&(process, net): &(u64, u64)| {
            let process = ProcessId::from_bits(process)?;
            let units = net as i64;
            (units > 0).then_some(Holding { process, units })
        };
        let robust = state.is_robust();
        Some(SemaphoreSeen {
            value: state.value,
            bound: state.limit(),
            robust,
            last_taker: ProcessId::from_bits(state.last_taker),
            holders: entries
                .iter()
                .filter(|_| robust)
                .filter_map(holding)
                .collect(),
            cell_held_by,
        })
    }

    fn tell_of_last_taker(&self, state: State, interrupt: &mut dyn Interrupt) {
        if let Some(process) =
            ProcessId::from_bits(state.last_taker).filter(|process| process.is_dead())
        {
            interrupt.long_wait(Holder {
                process,
                exited_in_order: exited_in_order(process),
            });
        }
    }
}
