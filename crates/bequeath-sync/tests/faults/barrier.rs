//! Barrier: a party that arrived and was killed breaks it; one that had not arrived is not missed.

use bequeath_sync::{Barrier, Error, Never};
use bequeath_testing::wait_until;

use crate::play::{soon, Play, Stage, NEVER};

fn arrive(barrier: &Barrier) {
    let arrived = barrier.wait(NEVER, &mut Never);
    assert!(arrived.is_ok() || arrived == Err(Error::Broken));
}

fn must_break(barrier: &Barrier) {
    assert_eq!(barrier.wait(NEVER, &mut Never), Err(Error::Broken));
}

/// A party that is counted before this returns.
fn party(stage: &mut Stage<Barrier>, act: fn(&Barrier)) {
    let before = stage.world.waiting();
    stage.peer(act);
    wait_until("it waits", || stage.world.waiting() == before + 1);
}

/// Empty and whole, and two parties pass.
fn works_after_reset(stage: &mut Stage<Barrier>) {
    stage.everybody_ends_well();
    stage.world.reset();
    let state = (stage.world.waiting(), stage.world.is_broken());
    assert_eq!(state, (0, false));
    for _ in 1..stage.world.parties() {
        party(stage, |barrier| {
            assert!(barrier.wait(NEVER, &mut Never).is_ok());
        });
    }
    assert!(stage.world.wait(soon(), &mut Never).is_ok());
    stage.everybody_ends_well();
}

#[test]
fn a_party_killed_on_its_way_breaks_the_barrier_or_is_not_missed() {
    Play::new("Barrier: arrive last", arrive, |stage, _| {
        if stage.world.waiting() == 1 {
            // The victim had not arrived: nobody misses it, and somebody else may come instead.
            assert_eq!(stage.world.wait(soon(), &mut Never), Ok(1));
        }
        works_after_reset(stage);
    })
    .set_up(|stage| {
        stage.world.init(2).unwrap();
        party(stage, arrive);
    })
    .run();
}

/// The victim is the second of three.
pub fn arrive_and_wait() -> Play<Barrier> {
    Play::new("Barrier: arrive and wait", arrive, |stage, _| {
        if stage.world.waiting() == 1 {
            // It had not arrived.
            stage.world.abort();
        }
        // Else the first finds out that the second is dead, or the third came in time.
        works_after_reset(stage);
    })
    .set_up(|stage| {
        stage.world.init(3).unwrap();
        party(stage, arrive);
    })
    .woken_by(|stage| {
        if stage.world.waiting() == 2 {
            stage.peer(arrive);
        }
    })
}

#[test]
fn a_party_killed_in_its_wait_breaks_the_barrier() {
    arrive_and_wait().run();
}

#[test]
fn a_barrier_is_broken_or_whole_when_its_breaker_is_killed() {
    Play::new("Barrier: abort", Barrier::abort, |stage, death| {
        assert!(!death.completed || stage.world.is_broken());
        stage.world.abort();
        works_after_reset(stage);
    })
    .set_up(|stage| {
        stage.world.init(2).unwrap();
        party(stage, must_break);
    })
    .run();
}

#[test]
fn a_barrier_is_reset_or_not_when_its_resetter_is_killed() {
    Play::new("Barrier: reset", Barrier::reset, |stage, death| {
        assert!(!death.completed || stage.world.waiting() == 0);
        stage.world.reset();
        works_after_reset(stage);
    })
    .set_up(|stage| {
        stage.world.init(2).unwrap();
        party(stage, must_break);
    })
    .run();
}
