//! A hang is a failed test with a report, never a job that somebody has to cancel.
//!
//! The guard is a thread of the test process; when its time is over it prints which test hung, where it was
//! armed and what every descendant is waiting for, kills the descendants and aborts.
//!
//! # Safety invariants
//! Only `kill`, on pids that procfs just named as descendants of this process.
#![allow(unsafe_code)]

use std::fs;
use std::io::Write;
use std::panic::Location;
use std::sync::mpsc::{channel, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// Ends the whole test process when it is still armed after its time.
///
/// # After fork
/// Guards the process that created it only (threads do not survive a fork); that process kills its descendants.
/// # If a peer dies
/// Not concerned.
#[must_use = "the watchdog guards only while it lives"]
pub struct Watchdog {
    disarm: Option<Sender<()>>,
    owner: u32,
}

impl Watchdog {
    /// Arms a guard for `limit`; dropping it disarms.
    #[track_caller]
    pub fn new(limit: Duration) -> Self {
        let place = Location::caller();
        let (disarm, armed) = channel();
        let test = thread::current().name().unwrap_or("unnamed").to_owned();
        thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || {
                if armed.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                    report_and_abort(&test, place, limit);
                }
            })
            .expect("a test process can start a thread");
        Self {
            disarm: Some(disarm),
            owner: std::process::id(),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // In a forked child the channel's other end has no thread: leave it alone.
        if std::process::id() != self.owner {
            std::mem::forget(self.disarm.take());
        }
    }
}

fn report_and_abort(test: &str, place: &Location<'_>, limit: Duration) -> ! {
    let mut report = format!("watchdog: test {test} armed at {place} hangs after {limit:?}\n");
    let me = std::process::id();
    let family = descendants(me);
    for pid in std::iter::once(me).chain(family.iter().copied()) {
        report.push_str(&describe(pid));
    }
    // (What `eprintln` says is kept for the end of the test, which does not come.)
    let _ = writeln!(std::io::stderr(), "{report}");
    for pid in family {
        // SAFETY: a plain system call on a process that we started.
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
    }
    std::process::abort()
}

/// What each thread of a process waits for, as far as the kernel tells.
fn describe(pid: u32) -> String {
    let read = |path: String| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let command = read(format!("/proc/{pid}/cmdline")).replace('\0', " ");
    let mut text = format!("  process {pid}: {command}\n");
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let base = task.path().display().to_string();
        let (name, call, place) = (
            read(format!("{base}/comm")),
            read(format!("{base}/syscall")),
            read(format!("{base}/wchan")),
        );
        text.push_str(&format!("    {base} {name}: system call {call}, {place}\n"));
    }
    text
}

/// Every living descendant of `root`, children before grandchildren.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut links = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        links.extend(parent.map(|parent| (parent, pid)));
    }
    let mut family = vec![root];
    let mut next = 0;
    while next < family.len() {
        let parent = family[next];
        family.extend(
            links
                .iter()
                .filter(|(of, _)| *of == parent)
                .map(|(_, pid)| *pid),
        );
        next += 1;
    }
    family.remove(0);
    family
}
