//! Lock and RecursiveLock: free, held by the living, or reported as abandoned; never anything else.

use std::sync::atomic::{AtomicU64, Ordering};

use bequeath_os::Deadline;
use bequeath_sync::{Error, Lock, Never, RecursiveLock};
use bequeath_testing::Death;

use crate::play::{soon, Play, Stage, NEVER};

/// What both kinds have in common, for the scenarios.
pub trait AnyLock {
    fn acquire(&self, deadline: Deadline) -> Result<(), Error>;
    fn release(&self) -> Result<(), Error>;
    fn recover(&self) -> Result<(), Error>;
    fn holder(&self) -> Option<u32>;
}

macro_rules! any_lock {
    ($kind:ty) => {
        impl AnyLock for $kind {
            fn acquire(&self, deadline: Deadline) -> Result<(), Error> {
                <$kind>::acquire(self, deadline, &mut Never)
            }
            fn release(&self) -> Result<(), Error> {
                <$kind>::release(self)
            }
            fn recover(&self) -> Result<(), Error> {
                <$kind>::recover(self)
            }
            fn holder(&self) -> Option<u32> {
                self.owner().map(|owner| owner.pid())
            }
        }
    };
}

any_lock!(Lock);
any_lock!(RecursiveLock);

pub struct Guarded<L> {
    lock: L,
    /// Odd while somebody is inside.
    inside: AtomicU64,
}

impl<L: AnyLock> Guarded<L> {
    fn acquire(&self) {
        self.lock.acquire(NEVER).unwrap();
    }

    fn work_and_release(&self) {
        self.inside.fetch_add(1, Ordering::Relaxed);
        self.inside.fetch_add(1, Ordering::Relaxed);
        self.lock.release().unwrap();
    }

    fn section(&self) {
        self.acquire();
        self.work_and_release();
    }

    fn recovered_section(&self) {
        self.lock.recover().unwrap();
        self.work_and_release();
    }

    fn wait_in_line(&self) {
        match self.lock.acquire(NEVER) {
            Ok(()) => self.lock.release().unwrap(),
            Err(error) => assert!(matches!(error, Error::Abandoned(_))),
        }
    }

    /// The lock works, or its killed holder is told and it works once recovered.
    fn check(stage: &mut Stage<Self>, death: &Death) {
        let world = &stage.world;
        if world.lock.holder() == Some(std::process::id()) {
            world.lock.release().unwrap();
        }
        match world.lock.acquire(soon()) {
            Ok(()) => {
                let inside = world.inside.load(Ordering::Relaxed);
                assert_eq!(inside % 2, 0, "half done and not told");
            }
            Err(Error::Abandoned(holder)) => {
                assert!(!death.completed || holder.process.pid() != death.pid);
                world.lock.recover().unwrap();
            }
            other => panic!("{other:?}"),
        }
        // Once, not as deep as whoever was killed.
        world.lock.release().unwrap();
        assert_eq!(world.lock.holder(), None);
        stage.everybody_ends_well();
        stage.world.lock.acquire(soon()).unwrap();
        stage.world.lock.release().unwrap();
    }
}

pub fn section<L: AnyLock>(name: &'static str) -> Play<Guarded<L>> {
    Play::new(name, Guarded::<L>::section, Guarded::<L>::check)
}

fn release_to_waiter<L: AnyLock>(name: &'static str) -> Play<Guarded<L>> {
    // Held before the first instruction; the waiter comes while the victim is stopped.
    Play::new(name, Guarded::<L>::work_and_release, Guarded::<L>::check)
        .enter(Guarded::<L>::acquire)
        .forked(|stage| stage.sleeper(Guarded::<L>::wait_in_line))
}

fn acquire_by_waiting<L: AnyLock>(name: &'static str) -> Play<Guarded<L>> {
    Play::new(name, Guarded::<L>::section, Guarded::<L>::check)
        .set_up(|stage| stage.world.acquire())
        .woken_by(|stage| {
            let _ = stage.world.lock.release();
        })
}

fn find_out<L: AnyLock>(name: &'static str) -> Play<Guarded<L>> {
    Play::new(name, Guarded::<L>::wait_in_line, Guarded::<L>::check)
        .set_up(|stage| stage.victim_before(Guarded::<L>::acquire))
}

fn recover<L: AnyLock>(name: &'static str) -> Play<Guarded<L>> {
    Play::new(name, Guarded::<L>::recovered_section, Guarded::<L>::check).set_up(|stage| {
        stage.victim_before(Guarded::<L>::acquire);
        let refused = stage.world.lock.acquire(soon());
        assert!(matches!(refused, Err(Error::Abandoned(_))));
    })
}

#[test]
fn a_lock_is_free_or_tells_of_its_killed_holder() {
    section::<Lock>("Lock: acquire and release").run();
}

#[test]
fn a_lock_released_to_a_waiter_reaches_it_or_tells_of_the_killed() {
    release_to_waiter::<Lock>("Lock: release to a waiter").run();
}

#[test]
fn a_killed_waiter_for_a_lock_hurts_nobody() {
    acquire_by_waiting::<Lock>("Lock: acquire by waiting").run();
}

#[test]
fn who_finds_a_killed_holder_of_a_lock_may_be_killed_too() {
    find_out::<Lock>("Lock: find the holder dead").run();
}

#[test]
fn who_recovers_a_lock_may_be_killed_too() {
    recover::<Lock>("Lock: recover").run();
}

#[test]
fn a_recursive_lock_is_free_or_tells_of_its_killed_holder() {
    section::<RecursiveLock>("RecursiveLock: acquire and release").run();
}

pub fn three_deep() -> Play<Guarded<RecursiveLock>> {
    let act = |world: &Guarded<RecursiveLock>| {
        world.acquire();
        world.acquire();
        world.section();
        world.lock.release().unwrap();
        world.lock.release().unwrap();
    };
    Play::new("RecursiveLock: three deep", act, Guarded::check)
}

#[test]
fn the_depth_of_a_killed_holder_is_forgotten() {
    three_deep().run();
}

#[test]
fn a_recursive_lock_released_to_a_waiter_reaches_it_or_tells_of_the_killed() {
    release_to_waiter::<RecursiveLock>("RecursiveLock: release to a waiter").run();
}

#[test]
fn a_killed_waiter_for_a_recursive_lock_hurts_nobody() {
    acquire_by_waiting::<RecursiveLock>("RecursiveLock: acquire by waiting").run();
}

#[test]
fn who_recovers_a_recursive_lock_may_be_killed_too() {
    recover::<RecursiveLock>("RecursiveLock: recover").run();
}
