//! The fused cell: atomic commits, takeover from the dead, sleeping and waking.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_sync::{Cell, Error, Never, WaitOutcome, WaitWord};
use bequeath_testing::{wait_until, Outcome, Peer};
use common::{guard, AtOnce, Shared};

#[test]
fn a_dropped_guard_changes_nothing_and_a_commit_changes_all() {
    let _watchdog = guard();
    let cell = Cell::<3>::new();
    let mut held = cell.lock();
    held.stage([1, 2, 3]);
    drop(held);
    assert_eq!(cell.lock().state(), [0, 0, 0]);
    let mut held = cell.lock();
    held.stage([1, 2, 3]);
    held.commit_and_hold();
    assert_eq!(held.state(), [1, 2, 3]);
    held.stage([4, 5, 6]);
    drop(held);
    assert_eq!(cell.lock().state(), [1, 2, 3]);
    assert_eq!(cell.owner(), None);
}

#[test]
fn a_held_cell_gives_up_at_the_deadline_or_when_told() {
    let _watchdog = guard();
    let cell = Cell::<1>::new();
    let _held = cell.lock();
    assert_eq!(
        cell.lock_until(Deadline::after(Duration::from_millis(5)), &mut Never)
            .unwrap_err(),
        Error::TimedOut
    );
    assert_eq!(
        cell.lock_until(Deadline::NEVER, &mut AtOnce).unwrap_err(),
        Error::Interrupted
    );
}

#[test]
fn increments_in_the_state_are_not_lost() {
    let _watchdog = guard();
    let cell = Shared::<Cell<2>>::zeroed();
    let work = || {
        for _ in 0..20_000 {
            let mut held = cell.lock();
            let [left, right] = held.state();
            assert_eq!(left, right);
            held.stage([left + 1, right + 1]);
            held.commit();
        }
    };
    let peers: Vec<Peer> = (0..3).map(|_| Peer::spawn(work)).collect();
    work();
    for peer in peers {
        assert_eq!(peer.join(), Outcome::Exited(0));
    }
    assert_eq!(cell.lock().state(), [80_000, 80_000]);
}

#[test]
fn a_dead_owner_is_replaced_and_what_it_staged_never_happened() {
    let _watchdog = guard();
    let cell = Shared::<Cell<1>>::zeroed();
    let peer = Peer::spawn(|| {
        let mut held = cell.lock();
        held.stage([1]);
        held.commit_and_hold();
        held.stage([2]);
        std::mem::forget(held);
    });
    let pid = peer.pid();
    peer.wait_dead();
    let held = cell.lock();
    assert_eq!(
        held.taken_over_from().map(|process| process.pid()),
        Some(pid)
    );
    assert_eq!(held.state(), [1]);
}

struct Ring {
    cell: Cell<1>,
    changed: [WaitWord; 2],
}

impl Ring {
    /// Waits until the state is odd or even, then adds one.
    fn turn(&self, mine: usize) {
        loop {
            let mut held = self.cell.lock();
            let [at] = held.state();
            if at as usize % 2 == mine {
                held.stage([at + 1]);
                held.commit_and_wake(&self.changed[1 - mine], 1);
                return;
            }
            held.wait(&self.changed[mine], Deadline::NEVER);
        }
    }
}

#[test]
fn two_processes_take_turns() {
    let _watchdog = guard();
    let ring = Shared::<Ring>::zeroed();
    let peer = Peer::spawn(|| (0..3000).for_each(|_| ring.turn(1)));
    (0..3000).for_each(|_| ring.turn(0));
    assert_eq!(peer.join(), Outcome::Exited(0));
    assert_eq!(ring.cell.lock().state(), [6000]);
}

#[test]
fn waits_end_by_deadline_and_by_poke() {
    let _watchdog = guard();
    let ring = Shared::<Ring>::zeroed();
    let short = Deadline::after(Duration::from_millis(5));
    assert_eq!(
        ring.cell.lock().wait(&ring.changed[0], short),
        WaitOutcome::TimedOut
    );
    assert!(!ring.changed[0].has_sleepers());
    let done = Shared::<AtomicU64>::zeroed();
    let peer = Peer::spawn(|| {
        ring.cell
            .lock()
            .wait_slice(&ring.changed[0], Deadline::NEVER, Duration::from_secs(1000));
        done.store(1, Ordering::Relaxed);
    });
    wait_until("it sleeps", || ring.changed[0].has_sleepers());
    ring.changed[0].poke();
    assert_eq!(peer.join(), Outcome::Exited(0));
    assert_eq!(done.load(Ordering::Relaxed), 1);
}

#[test]
fn dead_sleepers_are_forgotten_after_some_wakes() {
    let _watchdog = guard();
    let ring = Shared::<Ring>::zeroed();
    let peer = Peer::spawn(|| {
        ring.cell
            .lock()
            .wait_slice(&ring.changed[0], Deadline::NEVER, Duration::from_secs(1000));
    });
    wait_until("it sleeps", || ring.changed[0].has_sleepers());
    peer.kill();
    peer.wait_dead();
    for _ in 0..20 {
        ring.cell.lock().commit_and_wake(&ring.changed[0], 1);
    }
    assert!(!ring.changed[0].has_sleepers());
}
