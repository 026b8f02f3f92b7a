//! The cell under every interleaving: `make long` runs these with `RUSTFLAGS="--cfg loom"`.
//!
//! Threads play processes. Time does not exist: whoever sleeps and is not woken by what another does
//! sleeps for ever, and loom reports it.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use bequeath_os::Deadline;
use bequeath_sync::owner::model::{act_as, die};
use bequeath_sync::{Cell, Error, Lock, Never, WaitWord};
use loom::sync::Arc;
use loom::thread;

/// Every interleaving with up to `preemptions` switches away from a thread that could go on.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

struct Pair {
    cell: Cell<2>,
    changed: WaitWord,
}

impl Pair {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            cell: Cell::new(),
            changed: WaitWord::new(),
        })
    }

    fn add(&self) {
        let mut held = self.cell.lock();
        let [left, right] = held.state();
        assert_eq!(left, right, "torn");
        held.stage([left + 1, right + 1]);
        held.commit_and_wake(&self.changed, 1);
    }

    /// Waits until something was added, and takes one away.
    fn take(&self) {
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
}

fn as_process(pid: u32, act: impl FnOnce() + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        act_as(pid);
        act();
    })
}

#[test]
fn additions_are_not_lost() {
    explore(3, || {
        let pair = Pair::new();
        let (one, two) = (Arc::clone(&pair), Arc::clone(&pair));
        let peers = [
            as_process(2, move || one.add()),
            as_process(3, move || two.add()),
        ];
        for peer in peers {
            peer.join().unwrap();
        }
        assert_eq!(pair.cell.lock().state(), [2, 2]);
    });
}

#[test]
fn a_sleeper_is_always_woken() {
    explore(3, || {
        let pair = Pair::new();
        let (taker, adder) = (Arc::clone(&pair), Arc::clone(&pair));
        let peers = [
            as_process(2, move || taker.take()),
            as_process(3, move || adder.add()),
        ];
        for peer in peers {
            peer.join().unwrap();
        }
        assert_eq!(pair.cell.lock().state(), [0, 0]);
    });
}

/// With three preemptions this one takes minutes.
#[test]
fn two_sleepers_are_woken_by_two_commits() {
    explore(2, || {
        let pair = Pair::new();
        let (one, two) = (Arc::clone(&pair), Arc::clone(&pair));
        let peers = [
            as_process(2, move || one.take()),
            as_process(3, move || two.take()),
        ];
        pair.add();
        pair.add();
        for peer in peers {
            peer.join().unwrap();
        }
        assert_eq!(pair.cell.lock().state(), [0, 0]);
    });
}

#[test]
fn the_dead_are_replaced_once_and_what_they_staged_never_happened() {
    explore(3, || {
        let pair = Pair::new();
        let (victim, heir) = (Arc::clone(&pair), Arc::clone(&pair));
        let peers = [
            as_process(2, move || {
                let mut held = victim.cell.lock();
                let [left, right] = held.state();
                held.stage([left + 10, right + 20]);
                std::mem::forget(held);
                die();
            }),
            as_process(3, move || heir.add()),
        ];
        pair.add();
        for peer in peers {
            peer.join().unwrap();
        }
        assert_eq!(pair.cell.lock().state(), [2, 2]);
    });
}

#[test]
fn a_lock_excludes_and_wakes() {
    explore(3, || {
        let lock = Arc::new((Lock::new(), loom::cell::UnsafeCell::new(0)));
        let enter = |lock: &(Lock, loom::cell::UnsafeCell<i32>)| {
            lock.0.acquire(Deadline::NEVER, &mut Never).unwrap();
            // loom itself reports two accesses that nothing orders.
            lock.1.with_mut(|_| ());
            lock.0.release().unwrap();
        };
        let (one, two) = (Arc::clone(&lock), Arc::clone(&lock));
        let peers = [
            as_process(2, move || enter(&one)),
            as_process(3, move || enter(&two)),
        ];
        enter(&lock);
        for peer in peers {
            peer.join().unwrap();
        }
    });
}

#[test]
fn everybody_is_told_of_a_killed_holder() {
    explore(3, || {
        let lock = Arc::new(Lock::new());
        let (victim, waiter) = (Arc::clone(&lock), Arc::clone(&lock));
        let ask = |lock: &Lock| match lock.acquire(Deadline::NEVER, &mut Never) {
            Ok(()) => lock.release().unwrap(),
            Err(error) => assert!(matches!(error, Error::Abandoned(_))),
        };
        let peers = [
            as_process(2, move || {
                if victim.acquire(Deadline::NEVER, &mut Never).is_ok() {
                    die();
                }
            }),
            as_process(3, move || ask(&waiter)),
        ];
        ask(&lock);
        for peer in peers {
            peer.join().unwrap();
        }
        assert!(matches!(
            lock.acquire(Deadline::NEVER, &mut Never),
            Err(Error::Abandoned(_))
        ));
    });
}
