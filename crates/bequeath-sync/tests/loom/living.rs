//! Nobody dies, or at a place of the model's choice.

use bequeath_os::Deadline;
use bequeath_sync::owner::model::{die, has_a_short_slice};
use bequeath_sync::{Error, Lock, Never};
use loom::sync::Arc;

use crate::explore::{as_process, explore, Pair};

fn additions() {
    let pair = Pair::new();
    let (one, two) = (Arc::clone(&pair), Arc::clone(&pair));
    let peers = [
        as_process(2, move || one.add()),
        as_process(3, move || two.add()),
    ];
    for peer in peers {
        peer.join().unwrap();
    }
    assert_eq!(pair.sum(), 2);
}

#[test]
fn additions_are_not_lost() {
    explore("cell: two additions", 3, additions);
}

/// Who waits for the cell looks at its owner, who lives.
fn additions_with_a_look_at_the_owner() {
    has_a_short_slice();
    additions();
}

#[test]
fn a_cell_is_not_taken_from_the_living() {
    explore(
        "cell: two additions, a slice ends",
        3,
        additions_with_a_look_at_the_owner,
    );
}

fn three_additions() {
    let pair = Pair::new();
    let (one, two) = (Arc::clone(&pair), Arc::clone(&pair));
    let peers = [
        as_process(2, move || one.add()),
        as_process(3, move || two.add()),
    ];
    pair.add();
    for peer in peers {
        peer.join().unwrap();
    }
    assert_eq!(pair.sum(), 3);
}

#[test]
fn two_who_sleep_on_the_lock_are_both_woken() {
    explore("cell: three additions", 2, three_additions);
}

#[test]
fn a_sleeper_is_always_woken() {
    explore("cell: a sleeper", 3, || {
        let pair = Pair::new();
        let (taker, adder) = (Arc::clone(&pair), Arc::clone(&pair));
        let peers = [
            as_process(2, move || taker.take()),
            as_process(3, move || adder.add()),
        ];
        for peer in peers {
            peer.join().unwrap();
        }
        assert_eq!(pair.sum(), 0);
    });
}

/// With three preemptions this one takes minutes.
#[test]
fn two_sleepers_are_woken_by_two_commits() {
    explore("cell: two sleepers", 2, || {
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
        assert_eq!(pair.sum(), 0);
    });
}

#[test]
fn a_lock_excludes_and_wakes() {
    explore("Lock: three sections", 3, || {
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
    explore("Lock: a killed holder", 3, || {
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
