//! Many threads of one process on one object. Miri and ThreadSanitizer run these, too: they know threads, and no
//! other processes.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use bequeath_os::Deadline;
use bequeath_sync::{Barrier, Cell, Condition, Event, Lock, Never, RecursiveLock, Semaphore};
use common::Shared;

const THREADS: u64 = 3;
/// Miri takes ten milliseconds for each.
const ROUNDS: u64 = if cfg!(miri) { 6 } else { 3000 };
const NEVER: Deadline = Deadline::NEVER;

/// Each thread does it so many times.
fn all_do(act: impl Fn() + Sync) {
    // (Miri has no signals, on which the watchdog stands.)
    let _watchdog = (!cfg!(miri)).then(common::guard);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..ROUNDS).for_each(|_| act()));
        }
    });
}

/// A plain number, changed in two steps as only who is alone can.
fn increase(number: &AtomicU64) {
    let before = number.load(Relaxed);
    thread::yield_now();
    number.store(before + 1, Relaxed);
}

#[test]
fn a_cell_loses_no_change() {
    let cell = Shared::<Cell<3>>::zeroed();
    all_do(|| {
        let mut guard = cell.lock();
        let [first, second, third] = guard.state();
        assert!(first == second && second == third);
        guard.stage([first + 1; 3]);
        guard.commit();
        // Onlookers lock nothing.
        assert!(cell.peek()[0] > first);
    });
    assert_eq!(cell.lock().state(), [THREADS * ROUNDS; 3]);
}

#[test]
fn what_is_not_committed_never_happened() {
    let cell = Shared::<Cell<2>>::zeroed();
    all_do(|| {
        let mut guard = cell.lock();
        let [first, _] = guard.state();
        guard.stage([first + 1, 7]);
        guard.commit_and_hold();
        guard.stage([0, 8]);
    });
    assert_eq!(cell.lock().state(), [THREADS * ROUNDS, 7]);
}

#[test]
fn a_lock_lets_one_in() {
    let (lock, number) = (Shared::<Lock>::zeroed(), AtomicU64::new(0));
    all_do(|| {
        lock.acquire(NEVER, &mut Never).unwrap();
        increase(&number);
        lock.release().unwrap();
    });
    assert_eq!(number.into_inner(), THREADS * ROUNDS);
}

#[test]
fn a_recursive_lock_lets_one_in_again() {
    let (lock, number) = (Shared::<RecursiveLock>::zeroed(), AtomicU64::new(0));
    all_do(|| {
        lock.acquire(NEVER, &mut Never).unwrap();
        lock.acquire(NEVER, &mut Never).unwrap();
        increase(&number);
        lock.release().unwrap();
        lock.release().unwrap();
    });
    assert_eq!(number.into_inner(), THREADS * ROUNDS);
}

#[test]
fn a_semaphore_lets_as_many_in_as_it_has_units() {
    let (semaphore, inside) = (Shared::<Semaphore>::zeroed(), AtomicU64::new(0));
    semaphore.init(2, 2, true).unwrap();
    all_do(|| {
        semaphore.acquire(NEVER, &mut Never).unwrap();
        assert!(inside.fetch_add(1, Relaxed) < 2);
        thread::yield_now();
        inside.fetch_sub(1, Relaxed);
        semaphore.release(1).unwrap();
    });
    assert_eq!(semaphore.value(), 2);
}

/// Whose turn it is, told by conditions.
#[derive(Default)]
struct Turns {
    lock: Lock,
    changed: Condition,
    turn: AtomicU64,
}

#[test]
fn a_condition_wakes_who_waits_for_its_turn() {
    let turns = Shared::<Turns>::zeroed();
    let _watchdog = (!cfg!(miri)).then(common::guard);
    thread::scope(|scope| {
        for mine in 0..THREADS {
            let turns = &turns;
            scope.spawn(move || {
                for round in 0..ROUNDS / 3 {
                    turns.lock.acquire(NEVER, &mut Never).unwrap();
                    while turns.turn.load(Relaxed) != round * THREADS + mine {
                        turns.changed.wait(&turns.lock, NEVER, &mut Never).unwrap();
                    }
                    increase(&turns.turn);
                    turns.changed.notify(usize::MAX);
                    turns.lock.release().unwrap();
                }
            });
        }
    });
    assert_eq!(turns.turn.load(Relaxed), ROUNDS / 3 * THREADS);
}

#[test]
fn an_event_shows_what_was_done_before_it_was_set() {
    let event = Shared::<Event>::zeroed();
    let told = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                event.wait(NEVER, &mut Never).unwrap();
                assert_eq!(told.load(Relaxed), 7);
            });
        }
        told.store(7, Relaxed);
        event.set();
    });
    assert!(event.is_set());
}

#[test]
fn a_barrier_shows_what_all_did_before_it() {
    let barrier = Shared::<Barrier>::zeroed();
    barrier.init(THREADS).unwrap();
    let done = AtomicU64::new(0);
    let _watchdog = (!cfg!(miri)).then(common::guard);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for round in 1..=ROUNDS / 3 {
                    done.fetch_add(1, Relaxed);
                    barrier.wait(NEVER, &mut Never).unwrap();
                    assert_eq!(done.load(Relaxed), round * THREADS);
                    barrier.wait(NEVER, &mut Never).unwrap();
                }
            });
        }
    });
    assert_eq!(barrier.waiting(), 0);
}
