//! How many processors this process can keep busy: affinity and control-group quota together.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Usable processors, at least one; looked up once per process, since it costs several file reads.
#[must_use]
pub fn usable_processors() -> u32 {
    static KNOWN: AtomicU32 = AtomicU32::new(0);
    match KNOWN.load(Relaxed) {
        0 => {
            let found = usable_processors_in(Path::new("/"));
            KNOWN.store(found, Relaxed);
            found
        }
        known => known,
    }
}

/// Whether this thread may run on more than one processor at this moment: one system call, nothing
/// is remembered.
#[must_use]
pub fn is_free_to_move() -> bool {
    rustix::thread::sched_getaffinity(None).is_ok_and(|set| set.count() > 1)
}

/// As [`usable_processors`], with `root` standing for the root folder and without remembering.
#[must_use]
pub fn usable_processors_in(root: &Path) -> u32 {
    let affinity = rustix::thread::sched_getaffinity(None)
        .map_or(1, |set| set.count())
        .max(1);
    match super::cpu_quota_in(root) {
        Some(quota) => affinity.min((quota.ceil() as u32).max(1)),
        None => affinity,
    }
}
