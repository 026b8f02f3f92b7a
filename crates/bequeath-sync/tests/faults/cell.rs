//! The fused cell: both words of the state change together or not at all.

use std::time::Duration;

use bequeath_sync::{Cell, Never, WaitWord};
use bequeath_testing::Death;

use crate::play::{soon, Play, Stage, NEVER};

pub struct Pair {
    cell: Cell<2>,
    changed: WaitWord,
}

impl Pair {
    fn set(&self) {
        let mut held = self.cell.lock();
        held.stage([1, 1]);
        held.commit_and_wake(&self.changed, u32::MAX);
    }

    /// Only a wake can end this sleep in time.
    fn wait(&self) {
        loop {
            let held = self.cell.lock();
            if held.state()[0] == 1 {
                return;
            }
            held.wait_slice(&self.changed, NEVER, Duration::from_secs(100));
        }
    }

    /// As after a death in the middle.
    fn die_inside(&self) {
        let mut held = self.cell.lock();
        held.stage([5, 6]);
        std::mem::forget(held);
    }
}

fn check(stage: &mut Stage<Pair>, death: &Death) {
    let state = stage
        .world
        .cell
        .lock_until(soon(), &mut Never)
        .unwrap()
        .state();
    assert!(state == [0, 0] || state == [1, 1], "torn: {state:?}");
    assert!(!death.completed || state == [1, 1]);
    if state == [0, 0] {
        stage.world.set();
    }
    stage.everybody_ends_well();
}

pub fn commit() -> Play<Pair> {
    Play::new("cell: commit", Pair::set, check)
}

fn take_over() -> Play<Pair> {
    Play::new("cell: take over from the dead", Pair::set, check)
        .set_up(|stage| stage.victim_before(Pair::die_inside))
}

#[test]
fn a_commit_killed_anywhere_happens_wholly_or_not() {
    commit().run();
}

#[test]
fn a_commit_that_wakes_is_one_step_to_a_killer() {
    Play::new("cell: commit and wake a sleeper", Pair::set, check)
        .set_up(|stage| stage.sleeper(Pair::wait))
        .run();
}

#[test]
fn a_commit_held_and_continued_is_killed_between_two_truths() {
    let act = |pair: &Pair| {
        let mut held = pair.cell.lock();
        held.stage([2, 2]);
        held.commit_and_hold();
        held.stage([1, 1]);
        held.commit();
    };
    Play::new("cell: commit and hold", act, |stage, death| {
        let held = stage.world.cell.lock_until(soon(), &mut Never).unwrap();
        let state = held.state();
        assert!([[0, 0], [1, 1], [2, 2]].contains(&state), "torn: {state:?}");
        assert!(!death.completed || state == [1, 1]);
    })
    .run();
}

#[test]
fn who_takes_over_from_the_killed_may_be_killed_too() {
    take_over().run();
}

#[test]
fn a_killed_sleeper_hurts_nobody() {
    Play::new("cell: sleep", Pair::wait, |stage, _| {
        // Whatever it left counted, the next sleeper is woken.
        let mut held = stage.world.cell.lock_until(soon(), &mut Never).unwrap();
        held.stage([0, 0]);
        held.commit();
        stage.sleeper(Pair::wait);
        stage.world.set();
        stage.everybody_ends_well();
    })
    .woken_by(|stage| stage.world.set())
    .run();
}

#[test]
fn a_torn_commit_is_caught_by_killing_in_between() {
    let act = |pair: &Pair| {
        let mut held = pair.cell.lock();
        // What the cell is there to prevent: two commits for what belongs together.
        held.stage([1, 0]);
        held.commit_and_hold();
        held.stage([1, 1]);
        held.commit_and_wake(&pair.changed, 1);
    };
    Play::new("cell: commit", act, check).must_be_caught("two commits");
}
