//! Condition: a notification reaches somebody who lives.

use bequeath_sync::condition::Exclusive;
use bequeath_sync::{Condition, Error, Lock, Never, RecursiveLock};
use bequeath_testing::wait_until;

use crate::locks::AnyLock;
use crate::play::{soon, Play, Stage, NEVER};

pub struct Meeting<L> {
    lock: L,
    condition: Condition,
}

impl<L: AnyLock + Exclusive> Meeting<L> {
    /// Takes the lock whoever died with it.
    fn enter(&self) {
        match AnyLock::acquire(&self.lock, soon()) {
            Ok(()) => {}
            Err(Error::Abandoned(_)) => AnyLock::recover(&self.lock).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a notification, whoever died with the lock meanwhile.
    fn wait(&self) {
        self.enter();
        match self.condition.wait(&self.lock, NEVER, &mut Never) {
            Ok(()) => AnyLock::release(&self.lock).unwrap(),
            Err(error) => assert!(matches!(error, Error::Abandoned(_))),
        }
    }

    /// Whoever counted itself as a waiter has let go of the lock after this. A victim that slept for the lock
    /// instead would be run on by its release, and may be stopped with it while it is being notified.
    fn pass(&self) {
        self.enter();
        AnyLock::release(&self.lock).unwrap();
    }

    fn notify(&self, count: usize) {
        self.enter();
        self.condition.notify(count);
        AnyLock::release(&self.lock).unwrap();
    }
}

fn waiters<L: AnyLock + Exclusive>(stage: &mut Stage<Meeting<L>>, count: usize) {
    for already in 0..count {
        stage.peer(Meeting::<L>::wait);
        wait_until("it waits", || {
            stage.world.condition.waiters() == already + 1
        });
        stage.world.pass();
    }
}

fn everybody_is_told<L: AnyLock + Exclusive>(stage: &mut Stage<Meeting<L>>) {
    stage.world.notify(usize::MAX);
    stage.everybody_ends_well();
    stage.world.notify(usize::MAX);
    assert_eq!(stage.world.condition.waiters(), 0);
}

fn notify<L: AnyLock + Exclusive>(name: &'static str) -> Play<Meeting<L>> {
    Play::new(
        name,
        |world: &Meeting<L>| world.notify(1),
        |stage, _| {
            everybody_is_told(stage);
        },
    )
    .set_up(|stage| waiters(stage, 1))
}

fn wait<L: AnyLock + Exclusive>(name: &'static str) -> Play<Meeting<L>> {
    Play::new(name, Meeting::<L>::wait, |stage, _| {
        everybody_is_told(stage)
    })
    .set_up(|stage| waiters(stage, 1))
    .woken_by(|stage| stage.world.notify(usize::MAX))
}

/// The victim waits longest and is notified; another waits behind it. Once the victim is dead, one
/// more notification must be enough: either the other has the first one by then, or it gets this.
pub fn wait_in_front() -> Play<Meeting<RecursiveLock>> {
    Play::new(
        "Condition: wait in front of another",
        Meeting::wait,
        |stage, _| {
            somebody_waits_behind(stage);
            stage.world.notify(1);
            stage.everybody_ends_well();
        },
    )
    .woken_by(|stage| {
        somebody_waits_behind(stage);
        stage.world.notify(1);
    })
}

/// The dead may still be counted.
fn somebody_waits_behind(stage: &mut Stage<Meeting<RecursiveLock>>) {
    if stage.nobody_came() {
        let before = stage.world.condition.waiters();
        stage.peer(Meeting::wait);
        wait_until("it waits, too", || {
            stage.world.condition.waiters() == before + 1
        });
        stage.world.pass();
    }
}

#[test]
fn a_killed_notifier_leaves_waiters_that_can_be_notified() {
    notify::<RecursiveLock>("Condition: notify").run();
}

#[test]
fn a_killed_notifier_over_a_plain_lock_leaves_waiters_that_can_be_notified() {
    notify::<Lock>("Condition over a Lock: notify").run();
}

#[test]
fn a_notifier_of_all_killed_in_the_middle_leaves_the_rest_to_the_next() {
    Play::new(
        "Condition: notify all of three",
        |world: &Meeting<RecursiveLock>| world.notify(usize::MAX),
        |stage, _| everybody_is_told(stage),
    )
    .set_up(|stage| waiters(stage, 3))
    .run();
}

#[test]
fn a_killed_waiter_leaves_a_condition_that_works() {
    wait::<RecursiveLock>("Condition: wait").run();
}

#[test]
fn a_killed_waiter_over_a_plain_lock_leaves_a_condition_that_works() {
    wait::<Lock>("Condition over a Lock: wait").run();
}

#[test]
fn the_notification_of_a_killed_waiter_goes_to_the_next() {
    wait_in_front().run();
}
