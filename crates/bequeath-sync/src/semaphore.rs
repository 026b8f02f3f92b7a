//! `Semaphore`: a count of units that processes take and give; optionally with a bound, and robust:
//! units that a killed process holds come back.
//!
//! Semaphores signal as often as they exclude, so a plain one defines no holders: nothing comes back
//! by itself. A robust one keeps, per process, what it took minus what it gave. That table is too
//! large to be kept twice in the cell. Instead the state carries the one entry that was changed last,
//! and that entry of the table is not to be believed: who changes another entry first writes the
//! carried one to its place. Writing it twice changes nothing, so a death in between is repaired by
//! the next; and a process that takes and gives alone never touches the table.

use bequeath_os::Deadline;

use crate::atomic::{AtomicU64, Ordering};
use crate::broken::{self, Mistake};
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
const HOLDERS: usize = if cfg!(loom) { 3 } else { 28 };
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
    cell: Cell<3>,
    given: WaitWord,
    /// The most units there may be, and whether it is robust; written by `init` only.
    bound: AtomicU64,
    holders: [Entry; HOLDERS],
}

/// What one process took minus what it gave, as far as it is not carried by the state.
#[repr(C)]
#[derive(Debug)]
struct Entry {
    process: AtomicU64,
    net: AtomicU64,
}

/// The cell's words: value and `net`; the carried entry; who took last.
#[derive(Clone, Copy)]
struct State {
    value: u64,
    /// What the process of the carried entry took minus what it gave; within 32 bits.
    net: i64,
    carried: Carried,
    last_taker: u64,
}

/// A process and the number of its entry plus one, where a process's bits are zero; 0 for none.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Carried(u64);

impl State {
    #[inline]
    fn of([units, carried, last_taker]: [u64; 3]) -> Self {
        Self {
            value: units & u64::from(u32::MAX),
            net: units as i64 >> 32,
            carried: Carried(carried),
            last_taker,
        }
    }

    #[inline]
    fn words(self) -> [u64; 3] {
        let units = self.value | (self.net as u64) << 32;
        [units, self.carried.0, self.last_taker]
    }
}

impl Carried {
    const NUMBER: u64 = 0xff;

    /// Entry `index`, with a process or with nobody.
    fn new(index: usize, process: u64) -> Self {
        Self(process | (index as u64 + 1))
    }

    fn index(self) -> Option<usize> {
        ((self.0 & Self::NUMBER) as usize).checked_sub(1)
    }

    #[inline]
    fn process(self) -> u64 {
        self.0 & !Self::NUMBER
    }
}

const _: () = assert!(HOLDERS < Carried::NUMBER as usize);

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
            bound: AtomicU64::new(0),
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
        self.bound.store(bound, Ordering::Relaxed);
        let mut guard = self.cell.lock();
        guard.stage([value.into(), 0, 0]);
        guard.commit();
        Ok(())
    }

    #[inline]
    fn is_robust(&self) -> bool {
        self.bound.load(Ordering::Relaxed) & ROBUST != 0
    }

    /// Under the cell: writes the carried entry to its place.
    fn settle(&self, carried: Carried, net: i64) {
        let entry = carried.index().and_then(|index| self.holders.get(index));
        if let Some(entry) = entry {
            entry.process.store(carried.process(), Ordering::Relaxed);
            entry.net.store(net as u64, Ordering::Relaxed);
        }
    }

    /// Waits for a unit and takes it.
    ///
    /// # Errors
    /// [`Error::TimedOut`] and [`Error::Interrupted`].
    pub fn acquire(&self, deadline: Deadline, interrupt: &mut dyn Interrupt) -> Result<()> {
        let mut patience = None;
        let mut waiting = Waiting::new();
        loop {
            let guard = self.cell.lock_until(deadline, interrupt)?;
            let state = State::of(guard.state());
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
    #[inline]
    pub fn try_acquire(&self) -> bool {
        let guard = self.cell.lock();
        let state = State::of(guard.state());
        let there = state.value > 0;
        if there {
            self.take(guard, state);
        }
        there
    }

    #[inline]
    fn take(&self, mut guard: Guard<'_, 3>, mut state: State) {
        state.value -= 1;
        let me = guard.holder().to_bits();
        state.last_taker = me;
        if broken::is(Mistake::TakenBeforeNoted) {
            guard.stage(state.words());
            guard.commit_and_hold();
        }
        guard.stage(self.noted(state, me, 1).words());
        guard.commit();
    }

    /// Gives `units` back, or more than were taken, up to the bound.
    ///
    /// # Errors
    /// [`Error::NotHeld`] beyond the bound; nothing was given then.
    #[inline]
    pub fn release(&self, units: u32) -> Result<()> {
        let mut guard = self.cell.lock();
        let mut state = State::of(guard.state());
        state.value += u64::from(units);
        if state.value > self.bound().into() {
            return Err(Error::NotHeld);
        }
        let me = guard.holder().to_bits();
        guard.stage(self.noted(state, me, -i64::from(units)).words());
        guard.commit_and_wake(&self.given, units);
        Ok(())
    }

    /// How many units are there now.
    #[must_use]
    pub fn value(&self) -> u32 {
        State::of(self.cell.lock().state()).value as u32
    }

    /// The bound.
    #[must_use]
    #[inline]
    pub fn bound(&self) -> u32 {
        (self.bound.load(Ordering::Relaxed) & !ROBUST) as u32
    }

    /// Who took a unit last.
    #[must_use]
    pub fn last_taker(&self) -> Option<ProcessId> {
        ProcessId::from_bits(State::of(self.cell.lock().state()).last_taker)
    }

    /// Under the cell: with the change of this process's entry, if entries are kept.
    #[inline]
    fn noted(&self, mut state: State, me: u64, change: i64) -> State {
        if self.is_robust() {
            if state.carried.process() != me {
                (state.carried, state.net) = self.carry(state.carried, state.net, me);
            }
            state.net += change;
            if state.net != i64::from(state.net as i32) {
                // What one process took and others gave, or the other way round, adds up without limit.
                state.net = state.net.clamp(i32::MIN.into(), i32::MAX.into());
            }
        }
        state
    }

    /// Under the cell: settles the carried entry; then this process's is to be carried, or none when
    /// the table is full. (Plain words in and out keep the caller's in registers.)
    #[cold]
    fn carry(&self, carried: Carried, net: i64, process: u64) -> (Carried, i64) {
        self.settle(carried, net);
        match self.entry_of(process) {
            Some((index, net)) => (Carried::new(index, process), net),
            None => (Carried(0), 0),
        }
    }

    /// This process's entry and what it says, or an unused one.
    fn entry_of(&self, process: u64) -> Option<(usize, i64)> {
        let mut unused = None;
        for (index, entry) in self.holders.iter().enumerate() {
            let net = entry.net();
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
        if !self.is_robust() {
            return false;
        }
        let guard = self.cell.lock();
        let state = State::of(guard.state());
        self.settle(state.carried, state.net);
        drop(guard);
        let mut came_back = false;
        for (index, entry) in self.holders.iter().enumerate() {
            let bits = entry.process.load(Ordering::Relaxed);
            let Some(process) = ProcessId::from_bits(bits).filter(|_| entry.net() > 0) else {
                continue;
            };
            if process.is_dead() && !exited_in_order(process) {
                came_back |= self.give_back(index, bits);
            }
        }
        came_back
    }

    fn give_back(&self, index: usize, process: u64) -> bool {
        let mut guard = self.cell.lock();
        let mut state = State::of(guard.state());
        self.settle(state.carried, state.net);
        let (mut net, mut others) = (0, 0);
        for (at, entry) in self.holders.iter().enumerate() {
            let holds = entry.net().max(0) as u64;
            if at == index && entry.process.load(Ordering::Relaxed) == process {
                net = holds;
            } else {
                others += holds;
            }
        }
        if net == 0 {
            return false;
        }
        // Never more than is missing once the living have theirs: a unit that one process took and
        // another gave back must not come back twice.
        let missing = u64::from(self.bound())
            .saturating_sub(state.value)
            .saturating_sub(others);
        let units = net.min(missing);
        state.value += units;
        (state.carried, state.net) = (Carried::new(index, 0), 0);
        guard.stage(state.words());
        guard.commit_and_wake(&self.given, u32::try_from(units).unwrap_or(VALUE_MAX));
        units > 0
    }

    /// What a copy of a semaphore's words says; `None` when it is too short.
    #[must_use]
    pub fn read(words: &[u64]) -> Option<SemaphoreSeen> {
        let (state, cell_held_by) = seen::cell::<3>(words)?;
        let state = State::of(state);
        let bound = *words.get(core::mem::offset_of!(Self, bound) / 8)?;
        let first = core::mem::offset_of!(Self, holders) / 8;
        let mut entries: [(u64, u64); HOLDERS] = [(0, 0); HOLDERS];
        for (entry, pair) in entries.iter_mut().zip(words.get(first..)?.chunks_exact(2)) {
            *entry = (pair[0], pair[1]);
        }
        // Its place in the table is not to be believed.
        let carried = state.carried.index();
        if let Some(entry) = carried.and_then(|index| entries.get_mut(index)) {
            *entry = (state.carried.process(), state.net as u64);
        }
        let holding = |&(process, net): &(u64, u64)| {
            let process = ProcessId::from_bits(process)?;
            let units = net as i64;
            (units > 0).then_some(Holding { process, units })
        };
        let robust = bound & ROBUST != 0;
        Some(SemaphoreSeen {
            value: state.value,
            bound: bound & !ROBUST,
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

impl Entry {
    fn net(&self) -> i64 {
        let net = self.net.load(Ordering::Relaxed) as i64;
        net.clamp(i32::MIN.into(), i32::MAX.into())
    }
}
