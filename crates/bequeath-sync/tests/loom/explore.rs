//! Running a model under every interleaving, and what the models share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

use bequeath_os::Deadline;
use bequeath_sync::owner::model::{act_as, dies_after, has_deaths};
use bequeath_sync::{Cell, WaitWord};
use loom::thread::{self, JoinHandle};

/// Every interleaving with up to `preemptions` switches away from a thread that could go on; says how
/// many there were.
fn run(preemptions: usize, model: impl Fn() + Sync + Send + 'static) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    count.load(Ordering::Relaxed)
}

/// A model that must hold.
pub fn explore(name: &str, preemptions: usize, model: fn()) {
    make_the_mistake_asked_for();
    let interleavings = run(preemptions, model);
    println!("{name}: {interleavings} interleavings with up to {preemptions} preemptions");
}

/// The one that dies: after so many shared stores, unless it has come to its end by then.
#[derive(Clone, Copy)]
pub struct Mortal {
    stores: u32,
    died: &'static AtomicBool,
}

impl Mortal {
    /// Plays process 2 until it dies.
    pub fn plays(self, act: impl FnOnce() + 'static) -> JoinHandle<bool> {
        has_deaths();
        thread::spawn(move || {
            act_as(2);
            let died = dies_after(self.stores, act);
            if died {
                self.died.store(true, Ordering::Relaxed);
            }
            died
        })
    }
}

/// A model that must hold wherever the mortal dies.
pub fn explore_deaths(name: &str, preemptions: usize, model: fn(Mortal)) {
    make_the_mistake_asked_for();
    let (interleavings, places) = run_deaths(preemptions, model);
    println!(
        "{name}: {interleavings} interleavings with up to {preemptions} preemptions, \
         death after each of {places} shared stores"
    );
}

fn run_deaths(preemptions: usize, model: fn(Mortal)) -> (usize, u32) {
    let mut interleavings = 0;
    for stores in 1.. {
        let died: &'static AtomicBool = Box::leak(Box::default());
        let mortal = Mortal { stores, died };
        interleavings += run(preemptions, move || model(mortal));
        if !died.load(Ordering::Relaxed) {
            return (interleavings, stores - 1);
        }
    }
    unreachable!("a model ends")
}

const MISTAKE: &str = "BEQUEATH_MISTAKE";

/// The test of this name must fail with this text while the engine makes this mistake. In a process of
/// its own, since what loom finds can end the process.
#[cfg(feature = "broken-variants")]
pub fn finds(mistake: bequeath_sync::broken::Mistake, test: &str, text: &str) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MISTAKE, format!("{mistake:?}"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{mistake:?} was not found");
    assert!(told.contains(text), "{mistake:?} failed otherwise: {told}");
    println!("{mistake:?}: found by {test}: {text}");
}

fn make_the_mistake_asked_for() {
    #[cfg(feature = "broken-variants")]
    if let Ok(name) = std::env::var(MISTAKE) {
        use bequeath_sync::broken::{make, Mistake};
        let known = [
            Mistake::CommitRelaxed,
            Mistake::StateInPlace,
            Mistake::NoDeathCheck,
            Mistake::MarkForgotten,
        ];
        let asked = known.into_iter().find(|one| format!("{one:?}") == name);
        make(Some(asked.expect("a mistake of the cell")));
    }
}

pub fn as_process(pid: u32, act: impl FnOnce() + 'static) -> JoinHandle<()> {
    thread::spawn(move || {
        act_as(pid);
        act();
    })
}

/// Two words that must stay equal.
pub struct Pair {
    pub cell: Cell<2>,
    pub changed: WaitWord,
}

impl Pair {
    pub fn new() -> loom::sync::Arc<Self> {
        loom::sync::Arc::new(Self {
            cell: Cell::new(),
            changed: WaitWord::new(),
        })
    }

    pub fn add(&self) {
        let mut held = self.cell.lock();
        let [left, right] = held.state();
        assert_eq!(left, right, "torn");
        held.stage([left + 1, right + 1]);
        held.commit_and_wake(&self.changed, 1);
    }

    /// Waits until something was added, and takes one away.
    pub fn take(&self) {
        loop {
            let mut held = self.cell.lock();
            let [left, right] = held.state();
            assert_eq!(left, right, "torn");
            if left > 0 {
                held.stage([left - 1, right - 1]);
                return held.commit();
            }
            held.wait(&self.changed, Deadline::NEVER);
        }
    }

    pub fn sum(&self) -> u64 {
        let [left, right] = self.cell.lock().state();
        assert_eq!(left, right, "torn");
        left
    }
}
