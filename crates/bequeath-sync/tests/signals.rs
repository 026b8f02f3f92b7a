//! A program whose timer interrupts every wait, faster than any slice, still learns of deaths.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_sync::{Barrier, Cell, Condition, Error, Lock, Never, RecursiveLock, Semaphore};
use bequeath_testing::{wait_until, Alarm, Outcome, Peer};
use common::{guard, Shared};

const NEVER: Deadline = Deadline::NEVER;

/// Runs `body` in a peer that is interrupted every few milliseconds.
fn disturbed(body: impl FnOnce()) {
    let peer = Peer::spawn(|| {
        let alarm = Alarm::every(Duration::from_millis(1));
        body();
        drop(alarm);
    });
    assert_eq!(peer.join(), Outcome::Exited(0));
}

/// Runs `body` in a peer that ends without ceremony.
fn and_die(body: impl FnOnce()) {
    assert_eq!(Peer::spawn(body).join(), Outcome::Exited(0));
}

#[test]
fn a_dead_owners_cell_is_taken_over() {
    let _watchdog = guard();
    let cell = Shared::<Cell<2>>::zeroed();
    and_die(|| std::mem::forget(cell.lock()));
    disturbed(|| assert!(cell.lock().taken_over_from().is_some()));
}

#[test]
fn a_killed_holder_is_reported() {
    let _watchdog = guard();
    let lock = Shared::<Lock>::zeroed();
    and_die(|| lock.acquire(NEVER, &mut Never).unwrap());
    disturbed(|| {
        let reported = lock.acquire(NEVER, &mut Never);
        assert!(matches!(reported, Err(Error::Abandoned(_))), "{reported:?}");
    });
    let recursive = Shared::<RecursiveLock>::zeroed();
    and_die(|| recursive.acquire(NEVER, &mut Never).unwrap());
    disturbed(|| assert!(recursive.acquire(NEVER, &mut Never).is_err()));
}

#[test]
fn a_robust_semaphore_gives_back() {
    let _watchdog = guard();
    let semaphore = Shared::<Semaphore>::zeroed();
    semaphore.init(1, 1, true).unwrap();
    and_die(|| assert!(semaphore.try_acquire()));
    disturbed(|| semaphore.acquire(NEVER, &mut Never).unwrap());
}

#[test]
fn a_barrier_breaks() {
    let _watchdog = guard();
    let barrier = Shared::<Barrier>::zeroed();
    barrier.init(3).unwrap();
    let doomed = Peer::spawn(|| {
        let _ = barrier.wait(NEVER, &mut Never);
    });
    wait_until("one has arrived", || barrier.waiting() == 1);
    doomed.kill();
    doomed.join();
    disturbed(|| assert_eq!(barrier.wait(NEVER, &mut Never), Err(Error::Broken)));
}

#[test]
fn a_barrier_breaks_when_the_last_of_many_dies_before_it_lets_them_go() {
    let _watchdog = guard();
    let barrier: &'static Barrier = Box::leak(Box::new(Shared::<Barrier>::zeroed()));
    barrier.init(61).unwrap();
    let wait = || std::thread::spawn(|| barrier.wait(NEVER, &mut Never));
    let threads: Vec<_> = (0..60).map(|_| wait()).collect();
    wait_until("sixty have arrived", || barrier.waiting() == 60);
    // The last to come dies before it lets the others go.
    and_die(|| assert!(barrier.arrive(&mut Never).unwrap().is_last));
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Err(Error::Broken));
    }
}

#[test]
fn a_notification_of_the_dead_is_taken_over() {
    let _watchdog = guard();
    let (lock, condition) = (Shared::<Lock>::zeroed(), Shared::<Condition>::zeroed());
    let wait = || {
        lock.acquire(NEVER, &mut Never).unwrap();
        condition.wait(&*lock, NEVER, &mut Never).unwrap();
        lock.release().unwrap();
    };
    let doomed = Peer::spawn(wait);
    wait_until("one waits", || condition.waiters() == 1);
    doomed.wait_asleep();
    let other = Peer::spawn(|| {
        let alarm = Alarm::every(Duration::from_millis(1));
        wait();
        drop(alarm);
    });
    wait_until("both wait", || condition.waiters() == 2);
    // Stopped, it is woken and marked, but cannot notice any more.
    doomed.signal(19);
    lock.acquire(NEVER, &mut Never).unwrap();
    assert_eq!(condition.notify(1), 1);
    lock.release().unwrap();
    doomed.kill();
    doomed.join();
    assert_eq!(other.join(), Outcome::Exited(0));
}

#[test]
fn a_wait_that_may_not_wait_sees_what_is_there() {
    let _watchdog = guard();
    let (semaphore, event) = (
        Shared::<Semaphore>::zeroed(),
        Shared::<bequeath_sync::Event>::zeroed(),
    );
    semaphore.init(1 << 20, 1 << 20, false).unwrap();
    event.set();
    // Another process keeps the cells busy: a deadline that is past must not mistake that for "none".
    let busy = Peer::spawn(|| loop {
        assert!(semaphore.try_acquire());
        semaphore.release(1).unwrap();
        assert!(event.is_set());
    });
    for _ in 0..20_000 {
        semaphore.acquire(Deadline::PAST, &mut Never).unwrap();
        semaphore.release(1).unwrap();
        event.wait(Deadline::PAST, &mut Never).unwrap();
    }
    busy.kill();
    busy.join();
}
