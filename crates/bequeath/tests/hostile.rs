//! A member may have written anything into the shared memory: it may make us fail, never make us
//! crash, hang or go on for ever.
//!
//! Going on for ever is told from a machine that has no time: a round hangs when it neither ended nor waited
//! for a processor for so long. (On a busy machine rounds once "hung" that had not had a turn for twenty seconds.)
//!
//! Each round runs in a process of its own: a session with everything in it, random words of its
//! file overwritten, then every operation. Errors are fine; a signal, a panic or a hang is not.
//! `BEQUEATH_HOSTILE_ROUNDS` sets how many rounds (and, after a colon, the first seed); more than a
//! hundred also need a larger `BEQUEATH_TEST_SECONDS`.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use bequeath::{Child, ExitStatus, Message, Queue, Session};

fn main() -> std::process::ExitCode {
    // Each round is watched by itself; the watchdog only looks after this process.
    if std::env::var_os("BEQUEATH_TEST_SECONDS").is_none() {
        std::env::set_var("BEQUEATH_TEST_SECONDS", "900");
    }
    support::run(&[
        (
            "garbled_memory_leads_to_errors_only",
            garbled_memory_leads_to_errors_only,
        ),
        ("a_hang_would_be_seen", a_hang_would_be_seen),
    ])
}

/// xorshift: good enough to spread words over a file.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

const SIZE: u64 = 64 << 20;
const PAGE: u64 = 4096;

/// The pages of the file that hold something.
fn used_pages(file: &File) -> Vec<u64> {
    let mut bytes = vec![0; PAGE as usize];
    let is_used = |at: &u64| {
        file.read_exact_at(&mut bytes, *at).unwrap();
        bytes.iter().any(|byte| *byte != 0)
    };
    (0..SIZE).step_by(PAGE as usize).filter(is_used).collect()
}

fn garble(file: &File, random: &mut Random, pages: &[u64]) {
    for _ in 0..=random.below(12) {
        // The first pages are the header; the tables and slots follow, payload is most of the rest.
        let among = if random.below(2) == 0 {
            pages.len().min(12)
        } else {
            pages.len()
        };
        let at = pages[random.below(among as u64) as usize] + random.below(PAGE / 8) * 8;
        let mut old = [0; 8];
        file.read_exact_at(&mut old, at).unwrap();
        let old = u64::from_ne_bytes(old);
        if old == 0 && random.below(4) != 0 {
            continue; // mostly words that mean something
        }
        let new = match random.below(7) {
            0 => 0,
            1 => u64::MAX,
            2 => old.wrapping_add(1),
            3 => old.wrapping_sub(1),
            4 => old.rotate_left(32),
            5 => old ^ 0xffff,
            _ => random.next(),
        };
        file.write_all_at(&new.to_ne_bytes(), at).unwrap();
    }
}

fn one_round(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut options = bequeath::Options::default();
    options.size = Some(SIZE);
    options.limit = Some(SIZE / 2);
    let session = Session::with(&options).unwrap();
    let queue: Queue<(Vec<u8>, Option<bequeath::Event>)> = session.queue(None).unwrap();
    let bounded: Queue<u32> = session.queue(Some(3)).unwrap();
    let (lock, event) = (session.lock([7_u64; 20]).unwrap(), session.event().unwrap());
    let semaphore = session.semaphore(2, Some(4)).unwrap();
    let (barrier, condition) = (session.barrier(2).unwrap(), session.condition().unwrap());
    for size in [10, 300, 5000, 100_000] {
        queue.send(&(vec![1; size], Some(event.clone()))).unwrap();
        queue.send(&(vec![2; size], None)).unwrap();
    }
    bounded.send(&1).unwrap();
    let large = session.allocate(5 << 20).unwrap();
    let file = File::from(session.descriptor().unwrap().try_clone_to_owned().unwrap());
    garble(&file, &mut random, &used_pages(&file));

    let short = Duration::from_millis(2);
    for _ in 0..12 {
        let _ = queue.try_recv();
        let _ = queue.len();
    }
    for _ in 0..40 {
        let _ = queue.send_timeout(&(vec![3; 3000], Some(event.clone())), short);
        let _ = bounded.try_send(&2);
    }
    let blocks = vec![large];
    let handles = vec![lock.to_handle(), queue.to_handle()];
    let _ = bounded.try_recv();
    // (A bound made of rubbish is a bound: that queue would be full for ever.)
    if queue.capacity().is_none() {
        let _ = queue.send_message(Message {
            blocks,
            handles,
            ..Message::default()
        });
    }
    for _ in 0..60 {
        let _ = queue.try_recv();
        let _ = bounded.try_recv();
    }
    drop(
        lock.lock_timeout(short)
            .map(|mut guard| guard[3] = guard[3].wrapping_add(1)),
    );
    if let Err(bequeath::LockError::Abandoned(abandoned)) = lock.lock_timeout(short) {
        drop(abandoned.recover());
    }
    event.set();
    let _ = (event.wait_timeout(short), event.is_set());
    event.clear();
    let _ = (
        semaphore.acquire_timeout(short),
        semaphore.release(1),
        semaphore.value(),
    );
    let _ = barrier.wait_timeout(short);
    barrier.reset();
    if let Ok(guard) = lock.lock_timeout(short) {
        drop(condition.wait_timeout(guard, short));
    }
    condition.notify_all();
    let _ = session.usage();
    let _ = session.scavenge();
    for size in [10, 5000, 200_000, 9 << 20] {
        drop(session.allocate(size));
        drop(session.lock([0_u64; 100]));
    }
    let _ = queue.close();
    drop((queue, bounded, lock, event, semaphore, barrier, condition));
    let _ = session.usage();
}

fn rounds() -> (u64, u64) {
    let asked = std::env::var("BEQUEATH_HOSTILE_ROUNDS").unwrap_or_default();
    let mut parts = asked.split(':').map(|part| part.parse().ok());
    let count = parts.next().flatten().unwrap_or(12);
    (count, parts.next().flatten().unwrap_or(1))
}

/// How long a round may take that does not wait for a processor: a hundred times what it needs.
const LONGEST: Duration = Duration::from_secs(20);

/// How the round ended; `None` when it hangs.
fn outcome(child: &Child<()>, longest: Duration) -> Option<ExitStatus> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.wait_timeout(Duration::from_secs(1)).unwrap() {
            return Some(status);
        }
        if began
            .elapsed()
            .saturating_sub(waited_for_processor(child.pid()))
            > longest
        {
            return None;
        }
    }
}

/// How long a process was ready to run and did not; zero where the kernel does not tell.
fn waited_for_processor(pid: u32) -> Duration {
    let said = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let waited = said.split(' ').nth(1).and_then(|word| word.parse().ok());
    Duration::from_nanos(waited.unwrap_or(0))
}

fn garbled_memory_leads_to_errors_only() {
    let session = Session::new().unwrap();
    let (count, first) = rounds();
    let mut bad = Vec::new();
    for seed in first..first + count {
        let child = session
            .worker()
            .name("hostile")
            .spawn(one_round, seed)
            .unwrap();
        match outcome(&child, LONGEST) {
            Some(ExitStatus::Exited(0)) => {}
            Some(_) => bad.push(format!("seed {seed}: {}", child.result().unwrap_err())),
            None => {
                let place = format!("/proc/{}/syscall", child.pid());
                let call = std::fs::read_to_string(place).unwrap_or_default();
                child.kill().unwrap();
                bad.push(format!("seed {seed}: hangs in system call {call}"));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

fn a_hang_would_be_seen() {
    let session = Session::new().unwrap();
    let sleeps = |_: u64| loop {
        std::thread::park();
    };
    let child = session.spawn(sleeps, 0).unwrap();
    assert_eq!(outcome(&child, Duration::from_millis(10)), None);
    child.kill().unwrap();
    assert!(matches!(
        outcome(&child, LONGEST),
        Some(ExitStatus::Signaled(9))
    ));
}
