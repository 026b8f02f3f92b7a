//! Lock and RecursiveLock: exclusion, release by anyone, and what a holder's death leaves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_sync::{owner, Error, Lock, Never, ProcessId, RecursiveLock};
use bequeath_testing::{wait_until, Outcome, Peer};
use common::{guard, AtOnce, Shared};

fn soon() -> Deadline {
    Deadline::after(Duration::from_millis(20))
}

#[test]
fn increments_under_the_lock_are_not_lost() {
    let _watchdog = guard();
    let lock = Shared::<Lock>::zeroed();
    let count = Shared::<AtomicU64>::zeroed();
    let work = || {
        for _ in 0..20_000 {
            lock.acquire(Deadline::NEVER, &mut Never).unwrap();
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            lock.release().unwrap();
        }
    };
    let peers: Vec<Peer> = (0..3).map(|_| Peer::spawn(work)).collect();
    work();
    for peer in peers {
        assert_eq!(peer.join(), Outcome::Exited(0));
    }
    assert_eq!(count.load(Ordering::Relaxed), 80_000);
}

#[test]
fn a_held_lock_refuses_times_out_and_can_be_interrupted() {
    let _watchdog = guard();
    let lock = Shared::<Lock>::zeroed();
    lock.acquire(Deadline::NEVER, &mut Never).unwrap();
    assert!(lock.is_mine());
    assert_eq!(lock.try_acquire(), Ok(false));
    assert_eq!(lock.acquire(soon(), &mut Never), Err(Error::TimedOut));
    assert_eq!(
        lock.acquire(Deadline::PAST, &mut Never),
        Err(Error::TimedOut)
    );
    assert_eq!(
        lock.acquire(Deadline::NEVER, &mut AtOnce),
        Err(Error::Interrupted)
    );
    assert_eq!(lock.recover(), Err(Error::NotAbandoned));
    lock.release().unwrap();
    assert_eq!(lock.release(), Err(Error::NotHeld));
    assert_eq!(lock.try_acquire(), Ok(true));
}

#[test]
fn anyone_may_release_a_lock() {
    let _watchdog = guard();
    let lock = Shared::<Lock>::zeroed();
    lock.acquire(Deadline::NEVER, &mut Never).unwrap();
    let peer = Peer::spawn(|| lock.release().unwrap());
    assert_eq!(peer.join(), Outcome::Exited(0));
    assert_eq!(lock.owner(), None);
}

#[test]
fn a_killed_holder_is_reported_to_everybody_until_somebody_recovers() {
    let _watchdog = guard();
    let lock = Shared::<Lock>::zeroed();
    let peer = Peer::spawn(|| {
        lock.acquire(Deadline::NEVER, &mut Never).unwrap();
        loop {
            std::thread::park();
        }
    });
    let pid = peer.pid();
    wait_until("the peer holds the lock", || {
        lock.owner().is_some_and(|owner| owner.pid() == pid)
    });
    let waiter = Peer::spawn(|| {
        assert!(matches!(
            lock.acquire(Deadline::NEVER, &mut Never),
            Err(Error::Abandoned(_))
        ));
    });
    waiter.wait_asleep();
    peer.kill();
    assert_eq!(waiter.join(), Outcome::Exited(0));
    // The one who was told first is gone; the report stays.
    for _ in 0..2 {
        match lock.acquire(Deadline::NEVER, &mut Never) {
            Err(Error::Abandoned(holder)) => assert_eq!(holder.process.pid(), pid),
            other => panic!("{other:?}"),
        }
        assert!(matches!(lock.try_acquire(), Err(Error::Abandoned(_))));
    }
    lock.recover().unwrap();
    assert!(lock.is_mine());
    assert_eq!(lock.recover(), Err(Error::NotAbandoned));
    lock.release().unwrap();
    lock.acquire(Deadline::NEVER, &mut Never).unwrap();
}

#[test]
fn releasing_an_abandoned_lock_frees_it() {
    let _watchdog = guard();
    let lock = Shared::<Lock>::zeroed();
    let peer = Peer::spawn(|| lock.acquire(Deadline::NEVER, &mut Never).unwrap());
    assert_eq!(peer.join(), Outcome::Exited(0));
    // Nobody said that the peer exited in order.
    assert!(matches!(lock.try_acquire(), Err(Error::Abandoned(_))));
    lock.release().unwrap();
    assert_eq!(lock.try_acquire(), Ok(true));
}

#[test]
fn a_recursive_lock_counts_and_belongs_to_a_thread() {
    let _watchdog = guard();
    let lock = Shared::<RecursiveLock>::zeroed();
    for _ in 0..3 {
        lock.acquire(Deadline::NEVER, &mut Never).unwrap();
    }
    assert_eq!(lock.depth(), 3);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(!lock.is_mine() && lock.is_held_here());
            assert_eq!(lock.try_acquire(), Ok(false));
            assert_eq!(lock.release(), Err(Error::NotOwner));
        });
    });
    let child = Peer::spawn(|| {
        assert!(!lock.is_held_here());
        assert_eq!(lock.release(), Err(Error::NotOwner));
    });
    assert_eq!(child.join(), Outcome::Exited(0));
    for _ in 0..3 {
        lock.release().unwrap();
    }
    assert_eq!(lock.release(), Err(Error::NotOwner));
    assert_eq!(lock.owner(), None);
}

#[test]
fn the_depth_of_a_killed_holder_is_forgotten() {
    let _watchdog = guard();
    let lock = Shared::<RecursiveLock>::zeroed();
    let peer = Peer::spawn(|| {
        lock.acquire(Deadline::NEVER, &mut Never).unwrap();
        lock.acquire(Deadline::NEVER, &mut Never).unwrap();
    });
    peer.wait_dead();
    assert!(matches!(
        lock.acquire(Deadline::NEVER, &mut Never),
        Err(Error::Abandoned(_))
    ));
    lock.recover().unwrap();
    assert_eq!(lock.depth(), 1);
    lock.release().unwrap();
    assert_eq!(lock.owner(), None);
}

#[test]
fn a_holder_that_exited_in_order_still_holds() {
    let _watchdog = guard();
    static LEFT: AtomicU64 = AtomicU64::new(0);
    owner::set_exited_in_order(|process| u64::from(process.pid()) == LEFT.load(Ordering::Relaxed));
    let lock = Shared::<Lock>::zeroed();
    let peer = Peer::spawn(|| lock.acquire(Deadline::NEVER, &mut Never).unwrap());
    LEFT.store(peer.pid().into(), Ordering::Relaxed);
    peer.wait_dead();
    assert_eq!(lock.try_acquire(), Ok(false));
    assert_eq!(lock.acquire(soon(), &mut Never), Err(Error::TimedOut));
    lock.release().unwrap();
    LEFT.store(0, Ordering::Relaxed);
}

#[test]
fn a_forked_child_has_an_identity_of_its_own() {
    let _watchdog = guard();
    let me = ProcessId::current();
    assert_eq!(me.pid(), std::process::id());
    assert_eq!(ProcessId::of(me.pid()), Some(me));
    assert_eq!(ProcessId::from_bits(me.to_bits()), Some(me));
    assert_eq!(ProcessId::from_bits(0), None);
    assert_eq!(ProcessId::from_bits(u64::MAX), None);
    let child = Peer::spawn(|| {
        assert_ne!(ProcessId::current(), me);
        assert_eq!(ProcessId::current().pid(), std::process::id());
        assert!(!me.is_dead());
    });
    let id = ProcessId::of(child.pid()).unwrap();
    child.wait_dead();
    assert!(id.is_dead(), "a zombie is dead");
    assert_eq!(child.join(), Outcome::Exited(0));
    assert!(id.is_dead(), "and so is a reaped one");
}
