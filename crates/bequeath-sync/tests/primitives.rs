//! Semaphore, Event, Condition, Barrier: what they promise, and what a death leaves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_sync::condition::Exclusive;
use bequeath_sync::{Barrier, Condition, Error, Event, Lock, Never, RecursiveLock, Semaphore};
use bequeath_testing::{wait_until, Outcome, Peer};
use common::{guard, AtOnce, Shared};

const NEVER: Deadline = Deadline::NEVER;

fn soon() -> Deadline {
    Deadline::after(Duration::from_millis(20))
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

#[test]
fn a_semaphore_counts_within_its_bound() {
    let _watchdog = guard();
    let semaphore = Semaphore::new(2, 3, false).unwrap();
    assert!(semaphore.try_acquire());
    semaphore.acquire(NEVER, &mut Never).unwrap();
    assert!(!semaphore.try_acquire());
    assert_eq!(semaphore.acquire(soon(), &mut Never), Err(Error::TimedOut));
    assert_eq!(
        semaphore.acquire(NEVER, &mut AtOnce),
        Err(Error::Interrupted)
    );
    semaphore.release(3).unwrap();
    assert_eq!(semaphore.release(1), Err(Error::NotHeld));
    assert_eq!((semaphore.value(), semaphore.bound()), (3, 3));
    assert!(Semaphore::new(4, 3, false).is_err());
    assert!(Semaphore::new(1, u32::MAX, false).is_err());
}

#[test]
fn units_given_by_one_process_wake_another() {
    let _watchdog = guard();
    let (there, back) = (Shared::<Semaphore>::zeroed(), Shared::<Semaphore>::zeroed());
    there.init(0, 1 << 20, false).unwrap();
    back.init(0, 1 << 20, false).unwrap();
    let peer = Peer::spawn(|| {
        for _ in 0..2000 {
            there.acquire(NEVER, &mut Never).unwrap();
            back.release(1).unwrap();
        }
    });
    for _ in 0..2000 {
        there.release(1).unwrap();
        back.acquire(NEVER, &mut Never).unwrap();
    }
    assert_eq!(peer.join(), Outcome::Exited(0));
}

#[test]
fn a_robust_semaphore_gets_back_what_the_killed_held_and_not_more() {
    let _watchdog = guard();
    let semaphore = Shared::<Semaphore>::zeroed();
    semaphore.init(4, 4, true).unwrap();
    let taken = Shared::<AtomicU64>::zeroed();
    semaphore.acquire(NEVER, &mut Never).unwrap();
    let peer = Peer::spawn(|| {
        for _ in 0..3 {
            semaphore.acquire(NEVER, &mut Never).unwrap();
        }
        taken.store(1, Ordering::Release);
        sleep_for_ever();
    });
    wait_until("three units are taken", || {
        taken.load(Ordering::Acquire) == 1
    });
    // One unit of the peer's goes back by our hand: it must not come back a second time.
    semaphore.release(1).unwrap();
    peer.kill();
    peer.wait_dead();
    semaphore.acquire(NEVER, &mut Never).unwrap();
    for _ in 0..3 {
        semaphore.acquire(NEVER, &mut Never).unwrap();
    }
    assert_eq!(semaphore.acquire(soon(), &mut Never), Err(Error::TimedOut));
    semaphore.release(4).unwrap();
    assert_eq!(semaphore.release(1), Err(Error::NotHeld));
}

#[test]
fn a_plain_semaphore_gives_nothing_back_by_itself() {
    let _watchdog = guard();
    let semaphore = Shared::<Semaphore>::zeroed();
    semaphore.init(1, 1, false).unwrap();
    let peer = Peer::spawn(|| semaphore.acquire(NEVER, &mut Never).unwrap());
    let pid = peer.pid();
    peer.wait_dead();
    assert_eq!(semaphore.acquire(soon(), &mut Never), Err(Error::TimedOut));
    assert_eq!(
        semaphore.last_taker().map(|process| process.pid()),
        Some(pid)
    );
}

#[test]
fn an_event_wakes_everybody_and_is_not_missed_when_cleared_at_once() {
    let _watchdog = guard();
    let event = Shared::<Event>::zeroed();
    assert_eq!(event.wait(Deadline::PAST, &mut Never), Err(Error::TimedOut));
    let peers: Vec<Peer> = (0..3)
        .map(|_| Peer::spawn(|| event.wait(NEVER, &mut Never).unwrap()))
        .collect();
    peers.iter().for_each(Peer::wait_asleep);
    event.set();
    event.clear();
    for peer in peers {
        assert_eq!(peer.join(), Outcome::Exited(0));
    }
    assert!(!event.is_set());
    assert_eq!(event.wait(soon(), &mut Never), Err(Error::TimedOut));
    assert_eq!(event.wait(NEVER, &mut AtOnce), Err(Error::Interrupted));
    event.set();
    assert!(event.is_set());
    event.wait(NEVER, &mut Never).unwrap();
}

#[test]
fn killed_event_waiters_are_forgotten() {
    let _watchdog = guard();
    let event = Shared::<Event>::zeroed();
    for _ in 0..3 {
        let peer = Peer::spawn(|| event.wait(NEVER, &mut Never).unwrap());
        peer.wait_asleep();
        peer.kill();
        peer.wait_dead();
    }
    for _ in 0..20 {
        event.set();
        event.clear();
    }
    let peer = Peer::spawn(|| event.wait(NEVER, &mut Never).unwrap());
    peer.wait_asleep();
    event.set();
    assert_eq!(peer.join(), Outcome::Exited(0));
}

struct Meeting {
    lock: RecursiveLock,
    condition: Condition,
    notified: AtomicU64,
}

impl Meeting {
    fn wait(&self) {
        self.lock.acquire(NEVER, &mut Never).unwrap();
        self.condition.wait(&self.lock, NEVER, &mut Never).unwrap();
        self.notified.fetch_add(1, Ordering::Relaxed);
        assert!(self.lock.is_mine());
        self.lock.release().unwrap();
    }

    fn notify(&self, count: usize) -> usize {
        self.lock.acquire(NEVER, &mut Never).unwrap();
        let notified = self.condition.notify(count);
        self.lock.release().unwrap();
        notified
    }

    fn wait_for_waiters(&self, count: usize) {
        wait_until("all wait", || self.condition.waiters() == count);
    }
}

#[test]
fn a_condition_wakes_exactly_as_many_as_asked() {
    let _watchdog = guard();
    let meeting = Shared::<Meeting>::zeroed();
    let peers: Vec<Peer> = (0..6).map(|_| Peer::spawn(|| meeting.wait())).collect();
    meeting.wait_for_waiters(6);
    assert_eq!(meeting.notify(2), 2);
    wait_until("two came back", || {
        meeting.notified.load(Ordering::Relaxed) == 2
    });
    assert_eq!(meeting.condition.waiters(), 4);
    assert_eq!(meeting.notify(usize::MAX), 4);
    for peer in peers {
        assert_eq!(peer.join(), Outcome::Exited(0));
    }
    assert_eq!(meeting.notified.load(Ordering::Relaxed), 6);
    assert_eq!(meeting.notify(1), 0);
}

#[test]
fn more_waiters_than_slots_are_all_woken() {
    let _watchdog = guard();
    let meeting = Shared::<Meeting>::zeroed();
    std::thread::scope(|scope| {
        for _ in 0..70 {
            scope.spawn(|| meeting.wait());
        }
        meeting.wait_for_waiters(70);
        while meeting.notified.load(Ordering::Relaxed) < 70 {
            meeting.notify(usize::MAX);
        }
    });
    assert_eq!(meeting.condition.waiters(), 0);
}

#[test]
fn a_killed_waiter_does_not_eat_a_notification() {
    let _watchdog = guard();
    let meeting = Shared::<Meeting>::zeroed();
    let first = Peer::spawn(|| meeting.wait());
    meeting.wait_for_waiters(1);
    let second = Peer::spawn(|| meeting.wait());
    meeting.wait_for_waiters(2);
    first.kill();
    first.wait_dead();
    assert_eq!(meeting.notify(1), 1);
    assert_eq!(second.join(), Outcome::Exited(0));
    assert_eq!(meeting.condition.waiters(), 0);
}

#[test]
fn a_condition_times_out_with_its_lock_held_again() {
    let _watchdog = guard();
    let (lock, condition) = (RecursiveLock::new(), Condition::new());
    assert_eq!(
        condition.wait(&lock, NEVER, &mut Never),
        Err(Error::NotOwner)
    );
    lock.acquire(NEVER, &mut Never).unwrap();
    lock.acquire(NEVER, &mut Never).unwrap();
    assert_eq!(
        condition.wait(&lock, soon(), &mut Never),
        Err(Error::TimedOut)
    );
    assert_eq!(lock.depth(), 2);
    assert_eq!(
        condition.wait(&lock, NEVER, &mut AtOnce),
        Err(Error::Interrupted)
    );
    assert!(Exclusive::is_mine(&lock));
    assert_eq!(condition.waiters(), 0);
}

#[test]
fn a_waiter_learns_that_the_notifier_died_with_the_lock() {
    let _watchdog = guard();
    struct Pair {
        lock: Lock,
        condition: Condition,
    }
    let pair = Shared::<Pair>::zeroed();
    let waiter = Peer::spawn(|| {
        pair.lock.acquire(NEVER, &mut Never).unwrap();
        let told = pair.condition.wait(&pair.lock, NEVER, &mut Never);
        assert!(matches!(told, Err(Error::Abandoned(_))));
        assert!(!pair.lock.is_mine());
    });
    wait_until("it waits", || pair.condition.waiters() == 1);
    let notifier = Peer::spawn(|| {
        pair.lock.acquire(NEVER, &mut Never).unwrap();
        pair.condition.notify(1);
    });
    notifier.wait_dead();
    assert_eq!(waiter.join(), Outcome::Exited(0));
}

#[test]
fn a_barrier_lets_all_go_at_once_again_and_again() {
    let _watchdog = guard();
    let barrier = Shared::<Barrier>::zeroed();
    barrier.init(3).unwrap();
    let sums = Shared::<[AtomicU64; 200]>::zeroed();
    let run = || {
        for round in 0..200 {
            let index = barrier.wait(NEVER, &mut Never).unwrap();
            sums[round].fetch_add(index + 1, Ordering::Relaxed);
        }
    };
    let peers: Vec<Peer> = (0..2).map(|_| Peer::spawn(run)).collect();
    run();
    for peer in peers {
        assert_eq!(peer.join(), Outcome::Exited(0));
    }
    assert!(sums.iter().all(|sum| sum.load(Ordering::Relaxed) == 6));
    assert_eq!(
        (barrier.waiting(), barrier.is_broken(), barrier.parties()),
        (0, false, 3)
    );
}

#[test]
fn a_barrier_breaks_by_timeout_abort_and_reset_and_is_whole_after_reset() {
    let _watchdog = guard();
    let barrier = Shared::<Barrier>::zeroed();
    barrier.init(2).unwrap();
    assert_eq!(barrier.wait(soon(), &mut Never), Err(Error::Broken));
    assert!(barrier.is_broken());
    assert_eq!(barrier.wait(NEVER, &mut Never), Err(Error::Broken));
    for end in [Barrier::abort, Barrier::reset] {
        barrier.reset();
        let peer = Peer::spawn(|| assert_eq!(barrier.wait(NEVER, &mut Never), Err(Error::Broken)));
        wait_until("it waits", || barrier.waiting() == 1);
        end(&barrier);
        assert_eq!(peer.join(), Outcome::Exited(0));
    }
    assert!(!barrier.is_broken());
    let peer = Peer::spawn(|| assert!(barrier.wait(NEVER, &mut Never).is_ok()));
    barrier.wait(NEVER, &mut Never).unwrap();
    assert_eq!(peer.join(), Outcome::Exited(0));
}

#[test]
fn a_party_that_dies_after_arriving_breaks_the_barrier() {
    let _watchdog = guard();
    let barrier = Shared::<Barrier>::zeroed();
    barrier.init(3).unwrap();
    let peer = Peer::spawn(|| assert!(barrier.wait(NEVER, &mut Never).is_ok()));
    wait_until("it waits", || barrier.waiting() == 1);
    peer.kill();
    assert_eq!(barrier.wait(NEVER, &mut Never), Err(Error::Broken));
}
