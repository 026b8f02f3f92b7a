//! Deliberate mistakes that the models of the queue find under shuttle: `make long` runs these.
//!
//! (A relaxed commit and a missing look at an owner's death are found by loom, in `bequeath-sync/tests/loom/queue.rs`: shuttle
//! knows no weak ordering, and here a sleeper looks at the owner only when somebody has died.)
#![cfg(shuttle)]
#![allow(clippy::unwrap_used)]

mod world;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};

use bequeath_channel::broken::{self, Mistake};
use bequeath_sync::broken as cells;
use bequeath_testing::model::Explored;
use world::ending::{explore_close, explore_task_done};
use world::model::{explore, Member, Plan, Shape, SMALL};

/// Mistakes are made by the whole program.
static TURN: Mutex<()> = Mutex::new(());

const PLAN: Plan = Plan {
    shape: SMALL,
    passed: 0,
    present: 0,
    victim: |member| [100, 101].into_iter().for_each(|number| member.put(number)),
    victims: &[100, 101],
    others: [
        |member| [200, 201].into_iter().for_each(|number| member.put(number)),
        |member| {
            member.get();
            member.get();
        },
    ],
    theirs: &[200, 201],
};

const WITH_DESCRIPTORS: Shape = Shape {
    with_descriptor: true,
    ..SMALL
};

fn is_found(name: &str, make: impl FnOnce(), plan: Plan) {
    is_found_by(name, make, || explore(name, 40, plan));
}

fn is_found_by(name: &str, make: impl FnOnce(), explore: impl FnOnce() -> Explored) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    bequeath_channel::board::ensure().unwrap();
    make();
    let explored = catch_unwind(AssertUnwindSafe(explore));
    broken::make(None);
    cells::make(None);
    assert!(explored.is_err(), "{name}: not found");
}

#[test]
fn a_queues_state_that_is_written_in_place() {
    let make = || cells::make(Some(cells::Mistake::StateInPlace));
    is_found("state in place", make, PLAN);
}

#[test]
fn a_record_that_is_committed_before_its_bytes_are_there() {
    let make = || broken::make(Some(Mistake::CommitBeforeBytes));
    is_found("commit before bytes", make, PLAN);
}

#[test]
fn a_queue_closed_over_what_was_sent_meanwhile() {
    let make = || broken::make(Some(Mistake::ReadBeforeHeld));
    is_found_by("close, read before held", make, || {
        explore_close("close", 40)
    });
}

#[test]
fn work_reported_done_over_what_was_sent_meanwhile() {
    let make = || broken::make(Some(Mistake::ReadBeforeHeld));
    let explore = || explore_task_done("task_done", 40);
    is_found_by("task_done, read before held", make, explore);
}

#[test]
fn a_parcel_under_a_number_that_is_not_consumed() {
    let plan = Plan {
        shape: WITH_DESCRIPTORS,
        ..PLAN
    };
    let make = || broken::make(Some(Mistake::NumberNotConsumed));
    is_found("number not consumed", make, plan);
}

#[test]
fn a_parcel_that_is_taken_out_before_the_commit() {
    let plan = Plan {
        shape: WITH_DESCRIPTORS,
        present: 3,
        victim: Member::get,
        victims: &[],
        others: [Member::get, Member::get],
        theirs: &[],
        ..PLAN
    };
    let make = || broken::make(Some(Mistake::DiscardBeforeCommit));
    is_found("parcel taken out early", make, plan);
}
