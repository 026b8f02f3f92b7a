//! Before this process becomes another program: no cell may stay locked.
//!
//! An exec ends all other threads wherever they are, yet pid and start time stay the same: a cell that
//! one of them was in would be held for ever by a process that is alive. So whoever execs calls
//! [`before`] first. From then on a thread that wants a cell waits, and `before` waits until every
//! other thread has been seen where it is in none: asleep in the kernel (nobody sleeps inside a cell),
//! or having run for longer than any critical section takes.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::HashMap;

use bequeath_os::{threads, Deadline};

/// Pid and thread of who is about to exec, 0 for nobody.
static EXECUTING: AtomicU64 = AtomicU64::new(0);

/// Critical sections take microseconds; this much running is none of them any more.
const LONG: u64 = 20_000_000;
/// For a thread that neither sleeps nor runs (stopped by a debugger, starved): then the exec goes on.
const PATIENCE: Duration = Duration::from_secs(1);

fn me() -> u64 {
    u64::from(std::process::id()) << 32 | u64::from(threads::own_number())
}

/// To be called right before an exec. If that fails, the caller's next operation, or a second, lets
/// the other threads go on.
pub fn before() {
    EXECUTING.store(me(), Ordering::SeqCst);
    crate::owner::withhold_name(true);
    let deadline = Deadline::after(PATIENCE);
    let mut first_seen = HashMap::new();
    loop {
        // Without procfs: long enough for anybody who has a processor.
        let Some(others) = threads::others() else {
            std::thread::sleep(Duration::from_nanos(LONG));
            return;
        };
        let mut doubtful = 0;
        for seen in others {
            let proof = first_seen.entry(seen.number).or_insert((seen.ran, false));
            proof.1 |= seen.sleeps || seen.ran.saturating_sub(proof.0) > LONG;
            doubtful += usize::from(!proof.1);
        }
        if doubtful == 0 || deadline.is_past() {
            return;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// On the way to a process's own name, which every lock needs: waits while another thread execs.
pub(crate) fn pass() {
    let executing = EXECUTING.load(Ordering::SeqCst);
    if executing == 0 {
        return;
    }
    if executing >> 32 == u64::from(std::process::id()) && executing != me() {
        let deadline = Deadline::after(PATIENCE);
        while EXECUTING.load(Ordering::SeqCst) == executing && !deadline.is_past() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    // It failed, or happened in a process that this one was forked from.
    let over = EXECUTING.compare_exchange(executing, 0, Ordering::SeqCst, Ordering::SeqCst);
    if over.is_ok() {
        crate::owner::withhold_name(false);
    }
}
