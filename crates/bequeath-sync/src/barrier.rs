//! `Barrier`: a given number of parties wait for each other, again and again.
//!
//! Passing begins a new generation, so nobody has to drain before the next round fills. How each of
//! the last 64 generations ended is kept as one bit, for waiters that look late.

use bequeath_os::Deadline;

use crate::atomic::{AtomicU64, Ordering};
use crate::broken::{self, Mistake};
use crate::cell::{Cell, Guard};
use crate::error::{Error, Result};
use crate::owner::ProcessId;
use crate::park::Interrupt;
use crate::seen::{self, BarrierSeen};
use crate::wait_word::{WaitOutcome, WaitWord};
use crate::waiting::Waiting;

/// Arrived parties whose lives are watched; those beyond count, but their death is not noticed.
const WATCHED: usize = if cfg!(loom) { 3 } else { 56 };

/// A barrier between processes. Call [`init`](Self::init) once, before others see it.
///
/// # After fork
/// Valid in both processes.
///
/// # If a peer dies
/// A party that had arrived: the barrier breaks for all, as by [`abort`](Self::abort). One that had
/// not arrived is not missed: nobody knows who was to come.
#[repr(C)]
#[derive(Debug)]
pub struct Barrier {
    cell: Cell<5>,
    passed: WaitWord,
    /// Who came last and runs the action; written before the commit that begins it.
    acting: AtomicU64,
    /// Who arrived, in order; written before the commit that counts it.
    arrived: [AtomicU64; WATCHED],
}

#[derive(Clone, Copy)]
struct State {
    parties: u64,
    generation: u64,
    arrived: u64,
    phase: u64,
    /// Bit n: generation n (modulo 64) was broken.
    broken: u64,
}

const FILLING: u64 = 0;
/// All are there, and the last runs the action.
const ACTING: u64 = 1;
const BROKEN: u64 = 2;

impl State {
    fn of([parties, generation, arrived, phase, broken]: [u64; 5]) -> Self {
        Self {
            parties,
            generation,
            arrived,
            phase,
            broken,
        }
    }

    fn words(self) -> [u64; 5] {
        [
            self.parties,
            self.generation,
            self.arrived,
            self.phase,
            self.broken,
        ]
    }

    /// Ends the present generation.
    fn end(&mut self, broken: bool) {
        let bit = 1 << (self.generation % 64);
        self.broken = if broken {
            self.broken | bit
        } else {
            self.broken & !bit
        };
        self.generation = self.generation.wrapping_add(1);
        self.arrived = 0;
    }

    fn was_broken(&self, generation: u64) -> bool {
        self.generation.wrapping_sub(generation) <= 64
            && self.broken & (1 << (generation % 64)) != 0
    }
}

/// What an arrived party has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Arrival {
    /// Order of arrival, from 0.
    pub index: u64,
    /// All others are there: run the action, then call [`Barrier::pass`] or [`Barrier::abort`].
    pub is_last: bool,
    generation: u64,
}

impl Barrier {
    /// A barrier for `parties`.
    ///
    /// # Errors
    /// As [`init`](Self::init).
    pub fn new(parties: u64) -> Result<Self> {
        let made = Self {
            cell: Cell::new(),
            passed: WaitWord::new(),
            acting: AtomicU64::new(0),
            arrived: core::array::from_fn(|_| AtomicU64::new(0)),
        };
        made.init(parties)?;
        Ok(made)
    }

    /// Gives a zeroed barrier its number of parties.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for none.
    pub fn init(&self, parties: u64) -> Result<()> {
        if parties == 0 {
            return Err(Error::OutOfRange {
                value: 0,
                limit: u64::MAX,
            });
        }
        let mut guard = self.cell.lock();
        guard.stage([parties, 0, 0, FILLING, 0]);
        guard.commit();
        Ok(())
    }

    /// Arrives, waits for the others, and says who came in which order: numbers from 0 to parties - 1.
    ///
    /// # Errors
    /// [`Error::Broken`], also after a timeout; [`Error::Interrupted`], which breaks it for the others.
    pub fn wait(&self, deadline: Deadline, interrupt: &mut dyn Interrupt) -> Result<u64> {
        let arrival = self.arrive(interrupt)?;
        if arrival.is_last {
            self.pass(arrival)?;
        } else {
            self.wait_passed(arrival, deadline, interrupt)?;
        }
        Ok(arrival.index)
    }

    /// Arrives. Waits only while the parties of a full generation are still being let go.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn arrive(&self, interrupt: &mut dyn Interrupt) -> Result<Arrival> {
        let mut waiting = Waiting::new();
        loop {
            let mut guard = self.cell.lock_until(Deadline::NEVER, interrupt)?;
            let mut state = State::of(guard.state());
            match state.phase {
                BROKEN => return Err(Error::Broken),
                // The time to arrive is not counted against the caller's, as in threading.
                ACTING => self.look(guard, Deadline::NEVER, interrupt, &mut waiting)?,
                _ => {
                    let index = state.arrived;
                    let name_it = || {
                        if let Some(place) = self.arrived.get(index as usize) {
                            place.store(ProcessId::current().to_bits(), Ordering::Relaxed);
                        }
                    };
                    if !broken::is(Mistake::CountedUnnamed) {
                        name_it();
                    }
                    state.arrived = state.arrived.saturating_add(1);
                    let is_last = state.arrived >= state.parties;
                    state.phase = if is_last { ACTING } else { FILLING };
                    if is_last {
                        let me = ProcessId::current().to_bits();
                        self.acting.store(me, Ordering::Relaxed);
                    }
                    guard.stage(state.words());
                    guard.commit();
                    if broken::is(Mistake::CountedUnnamed) {
                        name_it();
                    }
                    return Ok(Arrival {
                        index,
                        is_last,
                        generation: state.generation,
                    });
                }
            }
        }
    }

    /// By the last to arrive: lets all go.
    ///
    /// # Errors
    /// [`Error::Broken`] when somebody broke it meanwhile.
    pub fn pass(&self, arrival: Arrival) -> Result<()> {
        let mut guard = self.cell.lock();
        let mut state = State::of(guard.state());
        if state.generation != arrival.generation || state.phase != ACTING {
            return Err(Error::Broken);
        }
        state.phase = FILLING;
        state.end(false);
        guard.stage(state.words());
        guard.commit_and_wake(&self.passed, u32::MAX);
        Ok(())
    }

    /// By the others: waits until all are let go.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_passed(
        &self,
        arrival: Arrival,
        deadline: Deadline,
        interrupt: &mut dyn Interrupt,
    ) -> Result<()> {
        let mut waiting = Waiting::new();
        loop {
            let guard = self.cell.lock();
            let state = State::of(guard.state());
            if state.generation != arrival.generation {
                return if state.was_broken(arrival.generation) {
                    Err(Error::Broken)
                } else {
                    Ok(())
                };
            }
            if state.phase == BROKEN {
                return Err(Error::Broken);
            }
            if deadline.is_past() {
                drop(guard);
                self.abort_generation(arrival.generation);
                // Unless the others passed in this very moment.
                continue;
            }
            if let Err(stop) = self.look(guard, deadline, interrupt, &mut waiting) {
                self.abort_generation(arrival.generation);
                return Err(stop);
            }
        }
    }

    /// Sleeps once; at each slice looks whether an arrived party died.
    fn look(
        &self,
        guard: Guard<'_, 5>,
        deadline: Deadline,
        interrupt: &mut dyn Interrupt,
        waiting: &mut Waiting,
    ) -> Result<()> {
        match guard.wait_as(&self.passed, deadline, waiting) {
            WaitOutcome::Woken | WaitOutcome::TimedOut => Ok(()),
            WaitOutcome::Slice | WaitOutcome::Interrupted => {
                self.break_for_the_dead();
                Ok(interrupt.check()?)
            }
        }
    }

    fn break_for_the_dead(&self) {
        let state = State::of(self.cell.lock().state());
        let me = ProcessId::current();
        let watched = self
            .arrived
            .iter()
            .take(state.arrived.min(WATCHED as u64) as usize);
        let dead = |place: &AtomicU64| {
            ProcessId::from_bits(place.load(Ordering::Relaxed))
                .is_some_and(|party| party != me && party.is_dead())
        };
        // (A name that is no process's was written by nobody honest: nobody acts.)
        let nobody = ProcessId::from_bits(self.acting.load(Ordering::Relaxed)).is_none();
        let acting_died = state.phase == ACTING && (nobody || dead(&self.acting));
        if acting_died || watched.into_iter().any(dead) {
            // Only this generation: if it is over, the names above were those of the next.
            self.abort_generation(state.generation);
        }
    }

    /// Breaks it: all who wait and all who come get [`Error::Broken`], until [`reset`](Self::reset).
    pub fn abort(&self) {
        let generation = State::of(self.cell.lock().state()).generation;
        self.abort_generation(generation);
    }

    fn abort_generation(&self, generation: u64) {
        let mut guard = self.cell.lock();
        let mut state = State::of(guard.state());
        if state.generation == generation && state.phase != BROKEN {
            state.phase = BROKEN;
            guard.stage(state.words());
            guard.commit_and_wake(&self.passed, u32::MAX);
        }
    }

    /// Makes it empty and whole; who waits gets [`Error::Broken`].
    pub fn reset(&self) {
        let mut guard = self.cell.lock();
        let mut state = State::of(guard.state());
        state.phase = FILLING;
        if state.arrived > 0 {
            state.end(true);
        }
        guard.stage(state.words());
        guard.commit_and_wake(&self.passed, u32::MAX);
    }

    /// How many arrived of how many, and which processes those are, as far as they are watched.
    /// After it broke: who had arrived then.
    #[must_use]
    pub fn present(&self) -> (u64, u64, Vec<ProcessId>) {
        let guard = self.cell.lock();
        let state = State::of(guard.state());
        let count = state.arrived.min(WATCHED as u64) as usize;
        let names = self.arrived.iter().take(count);
        let names = names.filter_map(|name| ProcessId::from_bits(name.load(Ordering::Relaxed)));
        (state.arrived, state.parties, names.collect())
    }

    /// How many it takes.
    #[must_use]
    pub fn parties(&self) -> u64 {
        State::of(self.cell.lock().state()).parties
    }

    /// How many have arrived and wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let state = State::of(self.cell.lock().state());
        if state.phase == FILLING {
            state.arrived
        } else {
            0
        }
    }

    /// What a copy of a barrier's words says; `None` when it is too short.
    #[must_use]
    pub fn read(words: &[u64]) -> Option<BarrierSeen> {
        let (state, cell_held_by) = seen::cell::<5>(words)?;
        let state = State::of(state);
        let first = core::mem::offset_of!(Self, arrived) / 8;
        let present = state.arrived.min(WATCHED as u64) as usize;
        let names = words.get(first..first + WATCHED)?.iter().take(present);
        Some(BarrierSeen {
            parties: state.parties,
            arrived: state.arrived,
            generation: state.generation,
            broken: state.phase == BROKEN,
            acting: state.phase == ACTING,
            present: names
                .filter_map(|bits| ProcessId::from_bits(*bits))
                .collect(),
            cell_held_by,
        })
    }

    /// Whether it is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        State::of(self.cell.lock().state()).phase == BROKEN
    }
}
