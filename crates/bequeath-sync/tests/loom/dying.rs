//! One process stops for ever after each of its shared stores, at any moment of the others.
//!
//! The oracle of who is dead is a Release store of the dying and an Acquire load of whoever asks: as
//! much as the kernel promises to who sees a process gone, and no more.

use bequeath_os::Deadline;
use bequeath_sync::{Barrier, Condition, Error, Event, Lock, Never, RecursiveLock, Semaphore};
use loom::cell::UnsafeCell;
use loom::sync::Arc;

use crate::explore::{as_process, explore_deaths, Mortal, Pair};

const NEVER: Deadline = Deadline::NEVER;

fn addition(mortal: Mortal) {
    let pair = Pair::new();
    let (victim, heir) = (Arc::clone(&pair), Arc::clone(&pair));
    let victim = mortal.plays(move || victim.add());
    let heir = as_process(3, move || heir.add());
    pair.add();
    heir.join().unwrap();
    let died = victim.join().unwrap();
    let sum = pair.sum();
    assert!(sum == 3 || (sum == 2 && died), "{sum}");
}

#[test]
fn an_addition_of_the_dying_happens_wholly_or_not() {
    explore_deaths("cell: addition", 2, addition);
}

#[test]
fn who_is_woken_by_the_dying_or_not_is_woken_by_the_living() {
    explore_deaths("cell: wake", 2, |mortal| {
        let pair = Pair::new();
        let (victim, taker) = (Arc::clone(&pair), Arc::clone(&pair));
        let victim = mortal.plays(move || victim.add());
        let taker = as_process(3, move || taker.take());
        pair.add();
        taker.join().unwrap();
        let died = victim.join().unwrap();
        let sum = pair.sum();
        assert!(sum == 1 || (sum == 0 && died), "{sum}");
    });
}

#[test]
fn a_sleeper_that_dies_takes_nobodys_wake_along() {
    explore_deaths("cell: sleep", 2, |mortal| {
        let pair = Pair::new();
        let (victim, taker) = (Arc::clone(&pair), Arc::clone(&pair));
        let victim = mortal.plays(move || victim.take());
        let taker = as_process(3, move || taker.take());
        pair.add();
        pair.add();
        taker.join().unwrap();
        let died = victim.join().unwrap();
        let sum = pair.sum();
        assert!(sum == 0 || (sum == 1 && died), "{sum}");
    });
}

/// Loom reports two accesses to `inside` that nothing orders.
struct Guarded<L> {
    lock: L,
    inside: UnsafeCell<u32>,
}

macro_rules! section {
    ($lock:expr) => {{
        let guarded = $lock;
        let held = match guarded.lock.acquire(NEVER, &mut Never) {
            Ok(()) => true,
            Err(Error::Abandoned(_)) => guarded.lock.recover().is_ok(),
            Err(error) => panic!("{error}"),
        };
        if held {
            guarded.inside.with_mut(|_| ());
            guarded.lock.release().unwrap();
        }
    }};
}

macro_rules! sections {
    ($mortal:expr, $kind:ty) => {{
        let lock = Arc::new(Guarded {
            lock: <$kind>::new(),
            inside: UnsafeCell::new(0),
        });
        let (victim, other) = (Arc::clone(&lock), Arc::clone(&lock));
        let victim = $mortal.plays(move || section!(&victim));
        let other = as_process(3, move || section!(&other));
        section!(&lock);
        other.join().unwrap();
        victim.join().unwrap();
        section!(&lock);
    }};
}

#[test]
fn a_lock_of_the_dying_is_recovered_by_one_at_a_time() {
    explore_deaths("Lock: section", 2, |mortal| sections!(mortal, Lock));
}

#[test]
fn a_recursive_lock_of_the_dying_is_recovered_by_one_at_a_time() {
    explore_deaths("RecursiveLock: section", 2, |mortal| {
        sections!(mortal, RecursiveLock);
    });
}

#[test]
fn a_robust_semaphore_gets_the_units_of_the_dying_back() {
    explore_deaths("BoundedSemaphore: take and give", 2, |mortal| {
        let semaphore = Arc::new(Semaphore::new(1, 1, true).unwrap());
        let victim = Arc::clone(&semaphore);
        let victim = mortal.plays(move || {
            victim.acquire(NEVER, &mut Never).unwrap();
            victim.release(1).unwrap();
        });
        semaphore.acquire(NEVER, &mut Never).unwrap();
        semaphore.release(1).unwrap();
        victim.join().unwrap();
        semaphore.acquire(NEVER, &mut Never).unwrap();
        assert!(!semaphore.try_acquire(), "a unit too many");
    });
}

#[test]
fn an_event_that_the_dying_sets_or_not_is_set_by_the_living() {
    explore_deaths("Event: set", 2, |mortal| {
        let event = Arc::new(Event::new());
        let (victim, waiter) = (Arc::clone(&event), Arc::clone(&event));
        let victim = mortal.plays(move || victim.set());
        let waiter = as_process(3, move || waiter.wait(NEVER, &mut Never).unwrap());
        event.set();
        waiter.join().unwrap();
        victim.join().unwrap();
        assert!(event.is_set());
    });
}

#[test]
fn a_barrier_breaks_for_the_dying_that_arrived() {
    explore_deaths("Barrier: two parties", 1, |mortal| {
        let barrier = Arc::new(Barrier::new(2).unwrap());
        let arrival = barrier.arrive(&mut Never).unwrap();
        let (victim, last) = (Arc::clone(&barrier), Arc::clone(&barrier));
        let victim = mortal.plays(move || {
            let _ = victim.wait(NEVER, &mut Never);
        });
        let last = as_process(3, move || {
            if victim.join().unwrap() && last.waiting() == 1 {
                // It had not arrived, and nobody else will. If it had, the first finds out.
                last.abort();
            }
        });
        let passed = barrier.wait_passed(arrival, NEVER, &mut Never);
        assert!(passed.is_ok() || passed == Err(Error::Broken));
        last.join().unwrap();
    });
}

#[test]
fn a_condition_works_on_when_its_notifier_dies() {
    explore_deaths("Condition: notify", 1, |mortal| {
        struct Meeting {
            lock: Lock,
            told: UnsafeCell<bool>,
            condition: Condition,
        }
        impl Meeting {
            fn enter(&self) {
                match self.lock.acquire(NEVER, &mut Never) {
                    Ok(()) => {}
                    Err(Error::Abandoned(_)) if self.lock.recover().is_ok() => {}
                    Err(_) => self.enter(),
                }
            }
            fn tell(&self) {
                self.enter();
                // SAFETY of the model: under the lock, which loom checks.
                self.told.with_mut(|_| ());
                self.condition.notify(1);
                self.lock.release().unwrap();
            }
        }
        let meeting = Arc::new(Meeting {
            lock: Lock::new(),
            told: UnsafeCell::new(false),
            condition: Condition::new(),
        });
        meeting.enter();
        let victim = Arc::clone(&meeting);
        let victim = mortal.plays(move || victim.tell());
        let other = Arc::clone(&meeting);
        let other = as_process(3, move || other.tell());
        // Waits before either can tell; the living one surely does.
        let woken = meeting.condition.wait(&meeting.lock, NEVER, &mut Never);
        match woken {
            Ok(()) => meeting.told.with(|_| ()),
            Err(Error::Abandoned(_)) => meeting.enter(),
            Err(error) => panic!("{error}"),
        }
        meeting.lock.release().unwrap();
        other.join().unwrap();
        victim.join().unwrap();
    });
}
