//! Deliberate mistakes in the cell and the session are found under shuttle: `make long` runs these with
//! `RUSTFLAGS="--cfg shuttle"` and `--features broken-variants`.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used)]

mod world;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};

use bequeath_shm::broken::{self, Mistake};
use bequeath_sync::broken as cells;
use world::model::{explore, Member, Plan, PLAN};

/// Mistakes are made by the whole program.
static TURN: Mutex<()> = Mutex::new(());

/// All count references to one object, at once.
fn counting() -> Plan {
    let act = |member: &Member| drop((member.memory(), member.place()));
    Plan {
        victim: act,
        others: [act, act],
        ..PLAN
    }
}

fn is_found(name: &str, make: impl FnOnce(), plan: Plan) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    make();
    let explored = catch_unwind(AssertUnwindSafe(|| explore(name, plan)));
    broken::make(None);
    cells::make(None);
    assert!(explored.is_err(), "{name}: not found");
}

#[test]
fn a_change_of_a_count_that_was_not_noted() {
    is_found(
        "change not noted",
        || broken::make(Some(Mistake::ChangeNotNoted)),
        counting(),
    );
}

#[test]
fn a_count_that_was_not_announced() {
    is_found(
        "count not announced",
        || broken::make(Some(Mistake::CountUnannounced)),
        counting(),
    );
}

#[test]
fn a_state_that_is_written_in_place() {
    is_found(
        "state in place",
        || cells::make(Some(cells::Mistake::StateInPlace)),
        counting(),
    );
}

#[test]
fn a_mark_of_sleepers_that_is_forgotten() {
    is_found(
        "mark forgotten",
        || cells::make(Some(cells::Mistake::MarkForgotten)),
        counting(),
    );
}
