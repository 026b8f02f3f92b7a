//! The harness finds what it is for: an operation that tears its state is caught, one that does not passes.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bequeath_testing::{Death, KillPoints, Leftovers, Outcome, Peer, Scenario, Watchdog};

/// Two words that must stay equal, in memory shared with the victim.
struct Pair {
    words: &'static [AtomicU64; 64],
    torn: bool,
}

impl Pair {
    fn new(torn: bool) -> Self {
        // SAFETY: a fresh anonymous shared mapping.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                3,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        // SAFETY: page aligned, zeroed, never unmapped.
        let words = unsafe { &*memory.cast::<[AtomicU64; 64]>() };
        Self { words, torn }
    }
}

impl Scenario for Pair {
    fn arrange(&mut self) {
        for word in self.words {
            word.store(0, Ordering::SeqCst);
        }
    }

    fn act(&mut self) {
        for word in &self.words[2..34] {
            word.fetch_add(1, Ordering::SeqCst);
        }
        self.words[0].fetch_add(1, Ordering::SeqCst);
        if self.torn {
            self.words[1].fetch_add(1, Ordering::SeqCst);
        }
    }

    fn check(&mut self, death: &Death) {
        if death.completed {
            assert_eq!(self.words[0].load(Ordering::SeqCst), 1);
        }
        if self.torn {
            assert_eq!(
                self.words[0].load(Ordering::SeqCst),
                self.words[1].load(Ordering::SeqCst),
                "torn"
            );
        }
    }
}

/// One test at a time: each looks at the children of this one process.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_single_store_survives_every_kill_point() {
    let (_alone, _watchdog) = (alone(), Watchdog::new(Duration::from_secs(60)));
    let before = Leftovers::snapshot();
    // (Optimized, the operation is some forty instructions: fewer than `run` takes for a scenario.)
    let report = KillPoints::every(1).search("one store", &mut Pair::new(false));
    assert_eq!(report.failure, None);
    assert!(report.points > 30);
    before.check();
}

#[test]
fn two_stores_are_caught_in_between() {
    let (_alone, _watchdog) = (alone(), Watchdog::new(Duration::from_secs(60)));
    let report = KillPoints::every(1).search("two stores", &mut Pair::new(true));
    assert!(report.failure.is_some(), "the broken variant passed");
}

#[test]
fn a_peer_reports_how_it_ended() {
    let (_alone, _watchdog) = (alone(), Watchdog::new(Duration::from_secs(60)));
    assert_eq!(Peer::spawn(|| {}).join(), Outcome::Exited(0));
    let sleeper = Peer::spawn(|| loop {
        std::thread::park();
    });
    sleeper.wait_asleep();
    sleeper.kill();
    assert_eq!(sleeper.join(), Outcome::Killed(libc::SIGKILL));
}
