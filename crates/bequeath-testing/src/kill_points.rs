//! Kill a participant after each machine instruction of one operation, then let the survivors check every invariant.
//!
//! The operation is traced once, instruction by instruction; every instruction of the trace is a kill point, except that of an
//! address executed more than [`LOOP`] times only the first, middle and last execution count (copy loops). For each point a fresh
//! world is arranged, a victim forked, brought to the point (by a breakpoint where that is quicker than stepping) and killed;
//! victims are alternately reaped before the check and left as zombies during it. Where ptrace is refused, random kills stand in, and the report says so.

use std::collections::{HashMap, HashSet};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};

use crate::long::is_long;
use crate::peer::Peer;
use crate::trace::{Stop, Together, Tracee};

/// An address executed more often than this counts as a loop.
const LOOP: usize = 24;
/// A breakpoint that is set, hit and taken out costs about this many steps.
const BREAKPOINT_COST: usize = 6;
/// Trials when ptrace is refused.
const RANDOM_KILLS: usize = 400;

/// One operation and what must hold after its performer was killed anywhere inside.
///
/// The methods run in the order written here, once per kill point, on the same value.
pub trait Scenario {
    /// In the test: makes a fresh world.
    fn arrange(&mut self);
    /// In the test, after the victim was forked and before it runs on.
    fn forked(&mut self, _victim: u32) {}
    /// In the victim, before the first counted instruction.
    fn enter(&mut self) {}
    /// In the victim: the operation, killed at each instruction.
    fn act(&mut self);
    /// Whether the operation sleeps until [`Scenario::nudge`].
    fn sleeps(&self) -> bool {
        false
    }
    /// In the test: the victim sleeps in a system call; do what wakes it.
    fn nudge(&mut self) {}
    /// In the test: the victim is dead; panic unless every invariant holds.
    fn check(&mut self, death: &Death);
}

/// How far the victim came.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    /// Instructions executed (0 when unknown).
    pub step: usize,
    /// The operation was over, its performer killed right behind it.
    pub completed: bool,
    /// Still a zombie during the check.
    pub zombie: bool,
    /// The victim's pid.
    pub pid: u32,
}

/// What a run amounted to.
#[derive(Debug, Clone)]
pub struct Report {
    /// Kill points tried.
    pub points: usize,
    /// Of these, how often the victim was a zombie while the survivors looked.
    pub zombies: usize,
    /// Instructions of the operation.
    pub instructions: usize,
    /// False when random kills stood in for single steps.
    pub traced: bool,
    /// The first broken invariant, with its place.
    pub failure: Option<String>,
}

/// The driver.
#[derive(Debug, Clone, Copy)]
pub struct KillPoints {
    every: usize,
    minimum: usize,
    both_ways: bool,
    calls: bool,
}

impl KillPoints {
    /// Kills at each `every`th instruction.
    #[must_use]
    pub fn every(every: usize) -> Self {
        Self {
            every: every.max(1),
            minimum: 50,
            both_ways: false,
            calls: false,
        }
    }

    /// Each instruction when `BEQUEATH_FAULTS=long` (`make faults`), else a sample of about sixty points.
    #[must_use]
    pub fn from_environment() -> Self {
        if is_long() {
            Self::every(1)
        } else {
            Self {
                every: 0,
                minimum: 50,
                both_ways: false,
                calls: false,
            }
        }
    }

    /// Where each instruction counts, each is killed at twice: with the victim reaped before the check, and
    /// with it a zombie. For operations of a few hundred instructions.
    #[must_use]
    pub fn both_ways(self) -> Self {
        Self {
            both_ways: self.every == 1,
            ..self
        }
    }

    /// For an operation that shares no memory, of which others see nothing but its system calls: where each
    /// instruction counts, those before and behind each call, and every tenth of the others.
    #[must_use]
    pub fn around_calls(self) -> Self {
        if self.every == 1 {
            Self {
                every: 10,
                calls: true,
                ..self
            }
        } else {
            self
        }
    }

    /// Runs a scenario over all its kill points and prints one line.
    ///
    /// # Panics
    /// At the first broken invariant; when fewer than 50 points were found.
    pub fn run(&self, name: &str, scenario: &mut impl Scenario) -> Report {
        let report = self.search(name, scenario);
        if let Some(failure) = &report.failure {
            panic!("{name}: {failure}");
        }
        assert!(
            report.points >= self.minimum,
            "{name}: only {} kill points",
            report.points
        );
        report
    }

    /// Like [`KillPoints::run`] for a deliberately broken variant: stops at the first broken invariant and reports it.
    pub fn search(&self, name: &str, scenario: &mut impl Scenario) -> Report {
        let started = Instant::now();
        let report = match record(scenario, self.calls) {
            Ok(trace) => self.kill_along(scenario, &trace),
            Err(reason) => {
                println!("{name}: ptrace refused ({reason}); random kills instead");
                kill_randomly(scenario)
            }
        };
        println!(
            "{name}: {} kill points ({} reaped, {} zombies) of {} instructions, {:.1} s{}",
            report.points,
            report.points - report.zombies,
            report.zombies,
            report.instructions,
            started.elapsed().as_secs_f64(),
            report
                .failure
                .as_ref()
                .map(|failure| format!("; BROKEN: {failure}"))
                .unwrap_or_default()
        );
        report
    }

    fn kill_along(&self, scenario: &mut impl Scenario, trace: &Trace) -> Report {
        let chosen = trace.kill_points();
        let every = if self.every == 0 {
            (chosen.len() / 60).max(1)
        } else {
            self.every
        };
        let mut report = Report {
            points: 0,
            zombies: 0,
            instructions: trace.places.len(),
            traced: true,
            failure: None,
        };
        let last = chosen.len() - 1;
        let tried = chosen.iter().enumerate().filter(|(number, step)| {
            number % every == 0 || *number == last || trace.is_at_call(**step)
        });
        let fates = if self.both_ways { 2 } else { 1 };
        for &step in tried.flat_map(|(_, step)| std::iter::repeat_n(step, fates)) {
            let Ok((mut victim, completed)) = victim_at(scenario, trace, step) else {
                break;
            };
            victim.kill();
            let zombie = report.points % 2 == 1;
            if !zombie {
                victim.reap();
            }
            report.points += 1;
            report.zombies += usize::from(zombie);
            let death = Death {
                step,
                completed,
                zombie,
                pid: victim.pid(),
            };
            report.failure = failure_of(|| scenario.check(&death)).map(|text| {
                format!(
                    "{death:?} at {:#x}: {text}",
                    trace.places[step.min(trace.places.len() - 1)]
                )
            });
            if report.failure.is_some() {
                break;
            }
        }
        report
    }
}

/// The addresses that the operation executed, in order.
struct Trace {
    places: Vec<u64>,
    /// How often each one's address had been executed by then, itself included.
    occurrence: Vec<usize>,
    total: HashMap<u64, usize>,
    /// Where it forks first: the child must find no breakpoint in its copy of the text.
    forks_at: usize,
    /// Steps that are system calls, where that was asked for.
    calls: HashSet<usize>,
}

impl Trace {
    fn new(places: Vec<u64>, forks_at: Option<usize>, calls: HashSet<usize>) -> Self {
        let forks_at = forks_at.unwrap_or(usize::MAX);
        let mut total: HashMap<u64, usize> = HashMap::new();
        let mut occurrence = Vec::with_capacity(places.len());
        for &place in &places {
            let count = total.entry(place).or_default();
            *count += 1;
            occurrence.push(*count);
        }
        Self {
            places,
            occurrence,
            total,
            forks_at,
            calls,
        }
    }

    /// Whether this step is a system call, or the one behind it.
    fn is_at_call(&self, step: usize) -> bool {
        self.calls.contains(&step) || step > 0 && self.calls.contains(&(step - 1))
    }

    /// Indexes to kill before, the end included.
    fn kill_points(&self) -> Vec<usize> {
        let counts = |&index: &usize| {
            let (all, now) = (self.total[&self.places[index]], self.occurrence[index]);
            all <= LOOP || now == 1 || now == all / 2 || now == all || self.is_at_call(index)
        };
        (0..self.places.len())
            .filter(counts)
            .chain([self.places.len()])
            .collect()
    }
}

/// Forks the victim and brings it to the first instruction of the operation.
fn begin<S: Scenario>(scenario: &mut S) -> std::io::Result<Tracee> {
    let sleeps = scenario.sleeps();
    let shared = std::cell::RefCell::new(&mut *scenario);
    let mut victim = Tracee::start(|| shared.borrow_mut().enter(), || shared.borrow_mut().act())?;
    victim.sleeps = sleeps;
    scenario.forked(victim.pid());
    Ok(victim)
}

/// Steps through the whole operation and notes each instruction's address.
fn record(scenario: &mut impl Scenario, with_calls: bool) -> std::io::Result<Trace> {
    scenario.arrange();
    let mut victim = begin(scenario)?;
    let together = Together::with(&victim);
    let mut trace = vec![victim.place()];
    let mut forks_at = victim.is_about_to_fork().then_some(0);
    let mut calls = HashSet::new();
    while step(&mut victim, scenario) {
        if with_calls && victim.is_about_to_call() {
            calls.insert(trace.len());
        }
        if forks_at.is_none() && victim.is_about_to_fork() {
            forks_at = Some(trace.len());
        }
        trace.push(victim.place());
    }
    drop(together);
    victim.kill();
    victim.reap();
    let death = Death {
        step: trace.len(),
        completed: true,
        zombie: false,
        pid: victim.pid(),
    };
    scenario.check(&death);
    Ok(Trace::new(trace, forks_at, calls))
}

/// One instruction; false at the end of the operation.
fn step(victim: &mut Tracee, scenario: &mut impl Scenario) -> bool {
    let stop = victim.step();
    let stop = victim.wake(stop, &mut || scenario.nudge());
    assert!(
        stop != Stop::Ended,
        "the victim ended inside the operation by itself"
    );
    stop == Stop::Stepped
}

/// A fresh world with a victim just before instruction `goal` of the trace, or behind the end of the operation: then true.
fn victim_at(
    scenario: &mut impl Scenario,
    trace: &Trace,
    goal: usize,
) -> std::io::Result<(Tracee, bool)> {
    let mut runs = true;
    loop {
        scenario.arrange();
        let mut victim = begin(scenario)?;
        let together = Together::with(&victim);
        let start = if runs {
            run_towards(&mut victim, scenario, trace, goal)
        } else {
            Some(0)
        };
        match start {
            Some(at) => {
                let there = (at..goal).all(|_| step(&mut victim, scenario));
                return Ok((victim, !there));
            }
            // It took another way this time. Where it forks, its child met the breakpoint: once more, step by step.
            None if trace.forks_at < usize::MAX => {
                runs = false;
                drop(together);
                victim.kill();
                victim.reap();
            }
            None => return Ok((victim, true)),
        }
    }
}

/// Runs the victim to a breakpoint before instruction `goal` of the trace, if that is quicker than stepping; returns the
/// instruction that it is at, or none when the operation ended before.
///
/// Stepping all the way is quadratic over all goals: run to a breakpoint shortly before the goal where its address was not executed often.
fn run_towards(
    victim: &mut Tracee,
    scenario: &mut impl Scenario,
    trace: &Trace,
    goal: usize,
) -> Option<usize> {
    let last = goal.min(trace.forks_at).min(trace.places.len() - 1);
    let cost = |index: usize| trace.occurrence[index] * BREAKPOINT_COST + (goal - index);
    let near = (last.saturating_sub(400)..=last)
        .min_by_key(|&index| cost(index))
        .unwrap_or(0);
    if cost(near) < goal {
        let (place, occurrence) = (trace.places[near], trace.occurrence[near]);
        let there = victim.run_to(place, occurrence, &mut || scenario.nudge());
        return there.then_some(near);
    }
    Some(0)
}

fn failure_of(check: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(check)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(
        text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "panic".into()),
    )
}

/// Kills at random moments: for machines where ptrace is refused.
fn kill_randomly(scenario: &mut impl Scenario) -> Report {
    let mut report = Report {
        points: 0,
        zombies: 0,
        instructions: 0,
        traced: false,
        failure: None,
    };
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..RANDOM_KILLS {
        scenario.arrange();
        let sleeps = scenario.sleeps();
        let victim = Peer::spawn(|| {
            scenario.enter();
            Peer::stop_self();
            scenario.act();
        });
        victim.wait_stopped();
        scenario.forked(victim.pid());
        victim.signal(libc::SIGCONT);
        if sleeps {
            victim.wait_asleep();
            scenario.nudge();
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let end = Instant::now() + Duration::from_nanos((seed >> 33) % 80_000);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        victim.kill();
        victim.wait_dead();
        let death = Death {
            step: 0,
            completed: false,
            zombie: number % 2 == 1,
            pid: victim.pid(),
        };
        let mut victim = Some(victim);
        if !death.zombie {
            drop(victim.take());
        }
        report.points += 1;
        report.zombies += usize::from(death.zombie);
        report.failure = failure_of(|| scenario.check(&death));
        if report.failure.is_some() {
            break;
        }
    }
    report
}
