//! Semaphores. A robust one's units are conserved whoever is killed; a plain one's value is what it
//! was before or after.

use bequeath_os::Deadline;
use bequeath_sync::{Error, Never, Semaphore};
use bequeath_testing::Death;

use crate::play::{soon, Play, Stage, NEVER};

fn take(semaphore: &Semaphore) {
    semaphore.acquire(NEVER, &mut Never).unwrap();
}

fn give(semaphore: &Semaphore) {
    semaphore.release(1).unwrap();
}

fn take_and_give(semaphore: &Semaphore) {
    take(semaphore);
    give(semaphore);
}

/// This process takes all `units` that nobody alive holds, and there are no more; then all are back.
fn are_conserved(stage: &mut Stage<Semaphore>, units: u32) {
    let semaphore = &stage.world;
    for _ in 0..units {
        semaphore.acquire(soon(), &mut Never).unwrap();
    }
    assert!(!semaphore.try_acquire(), "a unit too many");
    semaphore.release(semaphore.bound()).unwrap();
    assert_eq!(semaphore.release(1), Err(Error::NotHeld));
    stage.everybody_ends_well();
}

pub fn robust_take_and_give() -> Play<Semaphore> {
    Play::new(
        "BoundedSemaphore: acquire and release",
        take_and_give,
        |stage, _| are_conserved(stage, 2),
    )
    .set_up(|stage| {
        stage.world.init(3, 3, true).unwrap();
        take(&stage.world);
    })
}

#[test]
fn the_units_of_a_killed_holder_are_conserved() {
    robust_take_and_give().run();
}

#[test]
fn a_killed_waiter_for_a_unit_takes_none_along() {
    Play::new(
        "BoundedSemaphore: acquire by waiting",
        take_and_give,
        |stage, _| {
            // Woken or not, this process held two and gives back what it still has.
            let back = stage.world.release(1).and_then(|()| stage.world.release(1));
            assert!(back.is_ok() || back == Err(Error::NotHeld));
            are_conserved(stage, 2);
        },
    )
    .set_up(|stage| {
        stage.world.init(2, 2, true).unwrap();
        take(&stage.world);
        take(&stage.world);
    })
    .woken_by(|stage| {
        let _ = stage.world.release(1);
    })
    .run();
}

#[test]
fn a_unit_given_to_a_waiter_by_a_killed_process_arrives() {
    Play::new("BoundedSemaphore: release to a waiter", give, |stage, _| {
        stage.everybody_ends_well();
        are_conserved(stage, 1);
    })
    .set_up(|stage| stage.world.init(1, 1, true).unwrap())
    .enter(take)
    .forked(|stage| stage.sleeper(take_and_give))
    .run();
}

#[test]
fn who_gives_back_the_units_of_the_killed_may_be_killed_too() {
    let act = |semaphore: &Semaphore| {
        // Too late to wait: so it looks for the dead at once.
        semaphore.acquire(Deadline::PAST, &mut Never).unwrap();
        give(semaphore);
    };
    Play::new(
        "BoundedSemaphore: give back what the dead held",
        act,
        |stage, _| are_conserved(stage, 2),
    )
    .set_up(|stage| {
        stage.world.init(2, 2, true).unwrap();
        stage.victim_before(|semaphore| {
            take(semaphore);
            take(semaphore);
        });
    })
    .run();
}

fn plain_value(stage: &mut Stage<Semaphore>, death: &Death) {
    let value = stage.world.value();
    assert!(
        value == 3 || (value == 2 && !death.completed),
        "value {value}"
    );
    for _ in 0..value {
        stage.world.acquire(soon(), &mut Never).unwrap();
    }
    assert!(!stage.world.try_acquire());
    give(&stage.world);
    take(&stage.world);
}

#[test]
fn a_plain_semaphore_loses_at_most_the_unit_of_the_killed() {
    Play::new("Semaphore: acquire and release", take_and_give, plain_value)
        .set_up(|stage| stage.world.init(3, 1000, false).unwrap())
        .run();
}

#[test]
fn a_plain_semaphore_released_to_a_waiter_by_a_killed_process_works_on() {
    Play::new("Semaphore: release to a waiter", give, |stage, death| {
        if death.completed {
            stage.everybody_ends_well();
        }
        give(&stage.world);
        stage.everybody_ends_well();
        let value = stage.world.value();
        assert!((1..=2).contains(&value), "value {value}");
    })
    .set_up(|stage| stage.world.init(0, 1000, false).unwrap())
    .forked(|stage| stage.sleeper(take_and_give))
    .run();
}

#[test]
fn a_killed_waiter_of_a_plain_semaphore_hurts_nobody() {
    Play::new("Semaphore: acquire by waiting", take, |stage, _| {
        let before = stage.world.value();
        assert!(before <= 1);
        stage.peer(take);
        give(&stage.world);
        stage.everybody_ends_well();
        assert_eq!(stage.world.value(), before);
    })
    .set_up(|stage| stage.world.init(0, 1000, false).unwrap())
    .woken_by(|stage| give(&stage.world))
    .run();
}
