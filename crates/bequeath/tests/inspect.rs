//! A Rust program's session seen from outside: a deadlock of two threads, and an arena full of garbage.
#![allow(clippy::unwrap_used)]

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use bequeath::{inspect, Session};
use bequeath_testing::Watchdog;

/// One test at a time: each looks at all sessions of this process.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn two_threads_that_wait_for_each_other_are_a_cycle() {
    let _turn = TURN.lock();
    let _watchdog = Watchdog::new(Duration::from_secs(60));
    let session = Session::current().unwrap_or_else(|| Session::new().unwrap());
    let (first, second) = (session.lock(0_u8).unwrap(), session.lock(0_u8).unwrap());
    let met = Barrier::new(2);
    let hold_both = |one: &bequeath::Lock<u8>, other: &bequeath::Lock<u8>| {
        let guard = one.lock().unwrap();
        met.wait();
        // Until the other gives up, or it is seen that it does not.
        let _ = other.lock_timeout(Duration::from_secs(5));
        drop(guard);
    };
    let found = std::thread::scope(|scope| {
        scope.spawn(|| hold_both(&first, &second));
        scope.spawn(|| hold_both(&second, &first));
        loop {
            let report = inspect::inspect(std::process::id()).unwrap();
            let found = report
                .sessions
                .iter()
                .find(|found| !found.cycles.is_empty());
            if let Some(found) = found {
                break found.clone();
            }
        }
    });
    let cycle = &found.cycles[0];
    assert_eq!(cycle.len(), 2);
    assert_ne!(cycle[0].object, cycle[1].object);
    assert_ne!(cycle[0].thread, cycle[1].thread);
    for link in cycle {
        assert_eq!(link.pid, std::process::id());
        assert!(link.object_name.contains("inspect.rs:"), "{link:?}");
    }
    let text = inspect::inspect(std::process::id()).unwrap().to_string();
    assert!(text.contains("Lock<T>") || text.contains(" free"), "{text}");
}

/// Numbers that look random and are the same each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// The bytes of an arena that are not holes, by piece.
fn copy_of(session: &Session) -> Vec<(u64, Vec<u8>)> {
    let file = std::fs::File::from(session.descriptor().unwrap().try_clone_to_owned().unwrap());
    let mut pieces = Vec::new();
    for place in (0..64_u64 << 20).step_by(4096) {
        let mut bytes = vec![0; 4096];
        file.read_exact_at(&mut bytes, place).unwrap();
        if bytes.iter().any(|byte| *byte != 0) {
            pieces.push((place, bytes));
        }
    }
    pieces
}

#[test]
fn garbage_is_told_or_refused_and_harms_nobody() {
    let _turn = TURN.lock();
    let _watchdog = Watchdog::new(Duration::from_secs(120));
    let session = Session::current().unwrap_or_else(|| Session::new().unwrap());
    let queue = session.queue::<Vec<u8>>(Some(9)).unwrap();
    for len in [10, 5_000, 100_000] {
        queue.send(&vec![7; len]).unwrap();
    }
    let kept = (
        session.semaphore(3, Some(5)).unwrap(),
        session.barrier(4).unwrap(),
    );
    let pieces = copy_of(&session);
    let size = std::fs::File::from(session.descriptor().unwrap().try_clone_to_owned().unwrap())
        .metadata()
        .unwrap()
        .len();
    let mut noise = Noise(0x1234_5678_9abc_def1);
    let (mut told, mut refused) = (0, 0);
    for _ in 0..60 {
        let spoiled: OwnedFd = bequeath_os::memfd::create(c"bequeath", size).unwrap();
        let file = std::fs::File::from(spoiled.try_clone().unwrap());
        for (place, bytes) in &pieces {
            file.write_all_at(bytes, *place).unwrap();
        }
        for _ in 0..=noise.next() % 40 {
            let (place, _) = &pieces[noise.next() as usize % pieces.len()];
            let at = place + noise.next() % 512 * 8;
            // Mark, version and size are what makes it an arena at all.
            if at >= 40 {
                let word = match noise.next() % 4 {
                    0 => u64::MAX,
                    1 => noise.next() % 1000,
                    _ => noise.next(),
                };
                file.write_all_at(&word.to_ne_bytes(), at).unwrap();
            }
        }
        bequeath_os::memfd::seal(spoiled.as_fd()).unwrap();
        match inspect::inspect(std::process::id()) {
            Ok(report) => {
                assert_eq!(report.sessions.len(), 2);
                assert!(!report.to_string().is_empty() && !report.to_json().is_empty());
                told += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    println!("{told} told, {refused} refused");
    assert!(told > 0);
    drop((kept, queue));
}
