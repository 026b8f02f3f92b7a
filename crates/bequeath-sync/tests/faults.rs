//! Every operation is killed after each of its machine instructions; then the survivors go on.
//!
//! Each scenario ends with the same question: can those who live still use the object, within
//! seconds, and does what they see agree with "happened wholly" or "did not happen"?
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_sync::{
    Barrier, Cell, Condition, Error, Event, Lock, Never, ProcessId, RecursiveLock, Semaphore,
    WaitWord,
};
use bequeath_testing::{wait_until, Death, KillPoints, Outcome, Peer, Scenario, Watchdog};
use common::Shared;

const NEVER: Deadline = Deadline::NEVER;

fn seconds(number: u64) -> Deadline {
    Deadline::after(Duration::from_secs(number))
}

fn long_guard() -> Watchdog {
    Watchdog::new(Duration::from_secs(280))
}

fn run(name: &str, scenario: &mut impl Scenario) {
    let _watchdog = long_guard();
    KillPoints::from_environment().run(name, scenario);
}

/// The victim learns its identity before the counted instructions: that takes forty thousand, once.
fn warm_up() {
    let _ = (ProcessId::current(), bequeath_sync::owner::thread_number());
    let lock = Lock::new();
    assert!(lock.try_take() && lock.release().is_ok());
}

/// A world is made anew for each kill point, in memory that everybody shares.
struct World<T>(Shared<T>);

impl<T> World<T> {
    fn new() -> Self {
        Self(Shared::zeroed())
    }
}

impl<T> std::ops::Deref for World<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

// --- the cell --------------------------------------------------------------------------------

struct Pair {
    cell: Cell<2>,
    changed: WaitWord,
}

/// Commits both words at once, waking a sleeper if there is one.
struct Commit {
    world: World<Pair>,
    with_sleeper: bool,
    broken: bool,
    sleeper: Option<Peer>,
}

impl Scenario for Commit {
    fn arrange(&mut self) {
        self.world = World::new();
        if self.with_sleeper {
            let world = &self.world;
            self.sleeper = Some(Peer::spawn(|| loop {
                let held = world.cell.lock();
                if held.state()[0] == 1 {
                    return;
                }
                held.wait_slice(&world.changed, NEVER, Duration::from_secs(100));
            }));
            wait_until("it sleeps", || self.world.changed.has_sleepers());
            self.sleeper.as_ref().unwrap().wait_asleep();
        }
    }

    fn enter(&mut self) {
        warm_up();
    }

    fn act(&mut self) {
        let mut held = self.world.cell.lock();
        if self.broken {
            // What the cell is there to prevent: two commits for what belongs together.
            held.stage([1, 0]);
            held.commit_and_hold();
        }
        held.stage([1, 1]);
        held.commit_and_wake(&self.world.changed, 1);
    }

    fn check(&mut self, death: &Death) {
        let state = self
            .world
            .cell
            .lock_until(seconds(5), &mut Never)
            .unwrap()
            .state();
        assert!(state == [0, 0] || state == [1, 1], "torn: {state:?}");
        assert!(!death.completed || state == [1, 1]);
        if let Some(sleeper) = self.sleeper.take() {
            if state == [0, 0] {
                let mut held = self.world.cell.lock();
                held.stage([1, 1]);
                held.commit_and_wake(&self.world.changed, 1);
            }
            // Its slice is 100 seconds: only a wake can end its sleep in time for the watchdog.
            assert_eq!(sleeper.join(), Outcome::Exited(0));
        }
    }
}

fn commit(with_sleeper: bool, broken: bool) -> Commit {
    Commit {
        world: World::new(),
        with_sleeper,
        broken,
        sleeper: None,
    }
}

#[test]
fn a_commit_killed_anywhere_happens_wholly_or_not() {
    run("cell: commit", &mut commit(false, false));
}

#[test]
fn a_commit_that_wakes_is_one_step_to_a_killer() {
    run("cell: commit and wake a sleeper", &mut commit(true, false));
}

#[test]
fn a_torn_commit_is_caught_by_killing_in_between() {
    let _watchdog = long_guard();
    let report = KillPoints::every(1).search("cell: torn commit", &mut commit(false, true));
    assert!(report.failure.is_some(), "the broken variant passed");
}

// --- Lock and RecursiveLock ------------------------------------------------------------------

/// What both kinds of lock have in common, for the scenarios.
trait AnyLock {
    fn acquire(&self, deadline: Deadline) -> Result<(), Error>;
    fn release(&self) -> Result<(), Error>;
    fn recover(&self) -> Result<(), Error>;
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
        }
    };
}

any_lock!(Lock);
any_lock!(RecursiveLock);

struct Guarded<L> {
    lock: L,
    /// Odd while somebody is inside.
    inside: AtomicU64,
}

struct Section<L> {
    world: World<Guarded<L>>,
    waiter: Option<Peer>,
    with_waiter: bool,
}

impl<L: AnyLock> Section<L> {
    fn new(with_waiter: bool) -> Self {
        Self {
            world: World::new(),
            waiter: None,
            with_waiter,
        }
    }
}

impl<L: AnyLock> Scenario for Section<L> {
    fn arrange(&mut self) {
        self.world = World::new();
        self.waiter = None;
    }

    fn enter(&mut self) {
        warm_up();
        if self.with_waiter {
            // Held before the first instruction; the waiter comes while we are stopped.
            self.world.lock.acquire(NEVER).unwrap();
        }
    }

    fn forked(&mut self, _victim: u32) {
        if self.with_waiter {
            let world = &self.world;
            let waiter = Peer::spawn(|| match world.lock.acquire(NEVER) {
                Ok(()) => world.lock.release().unwrap(),
                Err(error) => assert!(matches!(error, Error::Abandoned(_))),
            });
            waiter.wait_asleep();
            self.waiter = Some(waiter);
        }
    }

    fn act(&mut self) {
        if !self.with_waiter {
            self.world.lock.acquire(NEVER).unwrap();
        }
        self.world.inside.fetch_add(1, Ordering::Relaxed);
        self.world.inside.fetch_add(1, Ordering::Relaxed);
        self.world.lock.release().unwrap();
    }

    fn check(&mut self, death: &Death) {
        let world = &self.world;
        match world.lock.acquire(seconds(5)) {
            Ok(()) => assert_eq!(
                world.inside.load(Ordering::Relaxed) % 2,
                0,
                "half done and not told"
            ),
            Err(Error::Abandoned(holder)) => {
                assert_eq!(holder.process.pid(), death.pid);
                assert!(!death.completed);
                world.lock.recover().unwrap();
            }
            other => panic!("{other:?}"),
        }
        world.lock.release().unwrap();
        if let Some(waiter) = self.waiter.take() {
            assert_eq!(waiter.join(), Outcome::Exited(0));
        }
        world.lock.acquire(seconds(5)).unwrap();
        world.lock.release().unwrap();
    }
}

#[test]
fn a_lock_is_free_or_tells_of_its_killed_holder() {
    run(
        "Lock: acquire and release",
        &mut Section::<Lock>::new(false),
    );
}

#[test]
fn a_lock_released_to_a_waiter_reaches_it_or_tells_of_the_killed() {
    run("Lock: release to a waiter", &mut Section::<Lock>::new(true));
}

#[test]
fn a_recursive_lock_is_free_or_tells_of_its_killed_holder() {
    run(
        "RecursiveLock: acquire and release",
        &mut Section::<RecursiveLock>::new(false),
    );
}

/// The victim waits for a lock that the test holds, and gets it.
struct Contended(World<Lock>);

impl Scenario for Contended {
    fn arrange(&mut self) {
        self.0 = World::new();
        AnyLock::acquire(&*self.0, NEVER).unwrap();
    }

    fn enter(&mut self) {
        warm_up();
    }

    fn act(&mut self) {
        let _ = self.0.acquire(NEVER, &mut Never);
        let _ = self.0.release();
    }

    fn sleeps(&self) -> bool {
        true
    }

    fn nudge(&mut self) {
        let _ = self.0.release();
    }

    fn check(&mut self, _death: &Death) {
        let mine = std::process::id();
        if self.0.owner().is_some_and(|owner| owner.pid() == mine) {
            self.0.release().unwrap();
        }
        match self.0.acquire(seconds(5), &mut Never) {
            Ok(()) => {}
            Err(Error::Abandoned(_)) => self.0.recover().unwrap(),
            other => panic!("{other:?}"),
        }
        self.0.release().unwrap();
    }
}

#[test]
fn a_killed_waiter_for_a_lock_hurts_nobody() {
    run("Lock: acquire by waiting", &mut Contended(World::new()));
}

// --- Semaphore -------------------------------------------------------------------------------

/// Takes a unit of a robust semaphore and gives it back; in the end all units must be there.
struct Units(World<Semaphore>);

impl Scenario for Units {
    fn arrange(&mut self) {
        self.0 = World::new();
        self.0.init(3, 3, true).unwrap();
        self.0.acquire(NEVER, &mut Never).unwrap();
    }

    fn enter(&mut self) {
        warm_up();
    }

    fn act(&mut self) {
        self.0.acquire(NEVER, &mut Never).unwrap();
        self.0.release(1).unwrap();
    }

    fn check(&mut self, _death: &Death) {
        for _ in 0..2 {
            self.0.acquire(seconds(5), &mut Never).unwrap();
        }
        assert!(!self.0.try_acquire(), "a unit too many");
        self.0.release(3).unwrap();
        assert_eq!(self.0.release(1), Err(Error::NotHeld));
    }
}

#[test]
fn the_units_of_a_killed_holder_are_conserved() {
    run("Semaphore: acquire and release", &mut Units(World::new()));
}

// --- Event -----------------------------------------------------------------------------------

/// Sets an event that somebody waits for.
struct Setting {
    world: World<Event>,
    waiter: Option<Peer>,
}

impl Scenario for Setting {
    fn arrange(&mut self) {
        self.world = World::new();
        let world = &self.world;
        let waiter = Peer::spawn(|| world.wait(NEVER, &mut Never).unwrap());
        waiter.wait_asleep();
        self.waiter = Some(waiter);
    }

    fn enter(&mut self) {
        warm_up();
    }

    fn act(&mut self) {
        self.world.set();
    }

    fn check(&mut self, death: &Death) {
        assert!(!death.completed || self.world.is_set());
        self.world.set();
        assert_eq!(self.waiter.take().unwrap().join(), Outcome::Exited(0));
        self.world.clear();
        assert!(!self.world.is_set());
    }
}

#[test]
fn a_killed_setter_leaves_an_event_that_can_be_set() {
    run(
        "Event: set with a waiter",
        &mut Setting {
            world: World::new(),
            waiter: None,
        },
    );
}

// --- Condition -------------------------------------------------------------------------------

struct Meeting {
    lock: RecursiveLock,
    condition: Condition,
}

impl Meeting {
    /// Takes the lock whoever died with it.
    fn enter(&self) {
        match self.lock.acquire(seconds(5), &mut Never) {
            Ok(()) => {}
            Err(Error::Abandoned(_)) => self.lock.recover().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a notification, whoever died with the lock meanwhile.
    fn wait(&self) {
        self.enter();
        match self.condition.wait(&self.lock, NEVER, &mut Never) {
            Ok(()) => self.lock.release().unwrap(),
            Err(error) => assert!(matches!(error, Error::Abandoned(_))),
        }
    }
}

/// Notifies, or waits beside others; the others must be woken in the end.
struct Talk {
    world: World<Meeting>,
    others: Vec<Peer>,
    waits: bool,
}

impl Talk {
    fn new(waits: bool) -> Self {
        Self {
            world: World::new(),
            others: Vec::new(),
            waits,
        }
    }
}

impl Scenario for Talk {
    fn arrange(&mut self) {
        self.world = World::new();
        self.others.clear();
        let world = &self.world;
        let other = Peer::spawn(|| world.wait());
        wait_until("it waits", || self.world.condition.waiters() == 1);
        other.wait_asleep();
        self.others.push(other);
    }

    fn enter(&mut self) {
        warm_up();
    }

    fn act(&mut self) {
        if self.waits {
            self.world.wait();
        } else {
            self.world.lock.acquire(NEVER, &mut Never).unwrap();
            self.world.condition.notify(1);
            self.world.lock.release().unwrap();
        }
    }

    fn sleeps(&self) -> bool {
        self.waits
    }

    fn nudge(&mut self) {
        self.world.enter();
        self.world.condition.notify(usize::MAX);
        self.world.lock.release().unwrap();
    }

    fn check(&mut self, _death: &Death) {
        self.nudge();
        for other in self.others.drain(..) {
            assert_eq!(other.join(), Outcome::Exited(0));
        }
        self.nudge();
        assert_eq!(self.world.condition.waiters(), 0);
    }
}

#[test]
fn a_killed_notifier_leaves_waiters_that_can_be_notified() {
    run("Condition: notify", &mut Talk::new(false));
}

#[test]
fn a_killed_waiter_leaves_a_condition_that_works() {
    run("Condition: wait", &mut Talk::new(true));
}

// --- Barrier ---------------------------------------------------------------------------------

/// Arrives as the last of two.
struct Meet {
    world: World<Barrier>,
    first: Option<Peer>,
}

impl Scenario for Meet {
    fn arrange(&mut self) {
        self.world = World::new();
        self.world.init(2).unwrap();
        let world = &self.world;
        let first = Peer::spawn(|| match world.wait(NEVER, &mut Never) {
            Ok(index) => assert_eq!(index, 0),
            Err(error) => assert_eq!(error, Error::Broken),
        });
        wait_until("it waits", || self.world.waiting() == 1);
        first.wait_asleep();
        self.first = Some(first);
    }

    fn enter(&mut self) {
        warm_up();
    }

    fn act(&mut self) {
        let _ = self.world.wait(NEVER, &mut Never);
    }

    fn check(&mut self, _death: &Death) {
        if self.world.waiting() == 1 {
            // The victim had not arrived: nobody misses it, and somebody else may come instead.
            assert_eq!(self.world.wait(seconds(5), &mut Never), Ok(1));
        }
        assert_eq!(self.first.take().unwrap().join(), Outcome::Exited(0));
        self.world.reset();
        assert_eq!((self.world.waiting(), self.world.is_broken()), (0, false));
    }
}

#[test]
fn a_party_killed_on_its_way_breaks_the_barrier_or_is_not_missed() {
    run(
        "Barrier: arrive last",
        &mut Meet {
            world: World::new(),
            first: None,
        },
    );
}
