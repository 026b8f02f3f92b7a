//! Models under shuttle: threads play processes, and one of them stops for ever after each of its stores in turn.
//!
//! Shuttle knows no process that ends without letting go of anything: its stack is neither run on nor unwound. So
//! each execution is ended by its scheduler, which makes shuttle leave all stacks alone.

use std::cell::Cell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
pub use shuttle::thread;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

const SEED: u64 = 0x6265_7175_6561_7468;
/// Switches away from a thread that could go on, in schedules that have few of them.
const DEPTH: usize = 4;

thread_local! {
    /// This execution is over.
    static OVER: Cell<bool> = const { Cell::new(false) };
    /// The victim did all it was to do, in this execution.
    static SURVIVED: Cell<bool> = const { Cell::new(false) };
    /// It did not, in any execution of this round.
    static DIED: Cell<bool> = const { Cell::new(false) };
    static EXECUTIONS: Cell<usize> = const { Cell::new(0) };
}

/// Ends an execution when the model says that it is over.
struct UntilOver<S>(S);

impl<S: Scheduler> Scheduler for UntilOver<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        OVER.with(|over| over.set(false));
        self.0.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        if OVER.with(Cell::get) {
            return None;
        }
        self.0.next_task(runnable, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// In a model: the victim has done all it was to do, however few of its stores were left.
pub fn survived() {
    SURVIVED.with(|survived| survived.set(true));
}

/// What a model went through.
#[derive(Debug, Clone, Copy)]
pub struct Explored {
    /// Stores after which the victim stopped.
    pub deaths: u32,
    /// Executions of the model, each under another schedule.
    pub executions: usize,
}

/// Runs `model` with a victim that stops after its first store, its second and so on, until it survives its whole
/// operation; each time under `schedules` schedules, half of them chosen with few switches and half at random.
/// `model` is given the number of stores, runs the victim and the others, and checks what is left.
///
/// # Panics
/// With the first broken invariant, deadlock or endless loop.
pub fn for_each_death(
    name: &str,
    schedules: usize,
    model: impl Fn(u32) + Send + Sync + 'static,
) -> Explored {
    let began = Instant::now();
    let model = Arc::new(model);
    EXECUTIONS.with(|executions| executions.set(0));
    let mut deaths = 0;
    loop {
        DIED.with(|died| died.set(false));
        let after = deaths + 1;
        let failed = catch_unwind(AssertUnwindSafe(|| {
            let seed = seed() ^ u64::from(after);
            let half = schedules.div_ceil(2);
            run(
                PctScheduler::new_from_seed(seed, DEPTH, half),
                &model,
                after,
            );
            run(RandomScheduler::new_from_seed(seed, half), &model, after);
        }));
        if let Err(panic) = failed {
            println!("{name}: broken when the victim stops after its store {after}");
            resume_unwind(panic);
        }
        if !DIED.with(Cell::get) {
            break;
        }
        deaths = after;
    }
    let executions = EXECUTIONS.with(Cell::get);
    println!(
        "{name}: stops after each of {deaths} stores, {executions} executions, {:.1} s",
        began.elapsed().as_secs_f64()
    );
    Explored { deaths, executions }
}

fn run(
    scheduler: impl Scheduler + 'static,
    model: &Arc<impl Fn(u32) + Send + Sync + 'static>,
    after: u32,
) {
    let mut config = Config::new();
    config.stack_size = 1 << 19;
    config.max_steps = MaxSteps::FailAfter(20_000_000);
    config.silence_warnings = true;
    config.failure_persistence = FailurePersistence::None;
    let model = Arc::clone(model);
    Runner::new(UntilOver(scheduler), config).run(move || {
        EXECUTIONS.with(|executions| executions.set(executions.get() + 1));
        SURVIVED.with(|survived| survived.set(false));
        model(after);
        if !SURVIVED.with(Cell::get) {
            DIED.with(|died| died.set(true));
        }
        OVER.with(|over| over.set(true));
        loop {
            shuttle::thread::yield_now();
        }
    });
}

/// How many schedules a model is to be run under for each death: `long` with BEQUEATH_FAULTS=long, else `short`.
#[must_use]
pub fn schedules(short: usize, long: usize) -> usize {
    if crate::is_long() {
        long
    } else {
        short
    }
}

/// The same each time, unless BEQUEATH_MODEL_SEED says otherwise.
fn seed() -> u64 {
    let asked = std::env::var("BEQUEATH_MODEL_SEED");
    SEED ^ asked.ok().and_then(|text| text.parse().ok()).unwrap_or(0) << 32
}
