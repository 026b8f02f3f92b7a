//! What this process may use: rlimits, control groups, free memory, processors.
//!
//! Everything that reads a text takes the text or a root folder, so that it is tested on recorded trees.

mod cgroup;
mod kills;
mod processors;

use std::io::Read;
use std::path::Path;

use rustix::process::{getrlimit, Resource, Rlimit};

pub use cgroup::{cpu_quota_in, memory_limit_in, memory_room_in, tasks_limit_in};
pub use kills::OomKills;
pub use processors::{is_free_to_move, usable_processors, usable_processors_in};

/// A text that the kernel makes when it is read. It has no length, and is made again for each piece: one piece.
fn content(file: &Path) -> std::io::Result<String> {
    let mut text = String::with_capacity(1 << 14);
    std::fs::File::open(file)?.read_to_string(&mut text)?;
    Ok(text)
}

/// A soft and a hard limit; `None` means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What is enforced.
    pub soft: Option<u64>,
    /// How far the soft one may be raised.
    pub hard: Option<u64>,
}

fn limits(resource: Resource) -> Limits {
    let Rlimit { current, maximum } = getrlimit(resource);
    Limits {
        soft: current,
        hard: maximum,
    }
}

/// RLIMIT_FSIZE: the largest file.
#[must_use]
pub fn file_size() -> Limits {
    limits(Resource::Fsize)
}

/// RLIMIT_AS: address space.
#[must_use]
pub fn address_space() -> Limits {
    limits(Resource::As)
}

/// RLIMIT_NOFILE: descriptors.
#[must_use]
pub fn descriptors() -> Limits {
    limits(Resource::Nofile)
}

/// The tightest memory limit of this process's control group and its ancestors, version 1 or 2.
#[must_use]
pub fn cgroup_memory() -> Option<u64> {
    memory_limit_in(Path::new("/"))
}

/// How much more memory this process's control groups let it use now; `None` without a limit.
#[must_use]
pub fn cgroup_memory_room() -> Option<u64> {
    memory_room_in(Path::new("/"))
}

/// Memory that can be had without swapping, as the kernel estimates it (`MemAvailable`).
#[must_use]
pub fn available_memory() -> Option<u64> {
    parse_available(&content(Path::new("/proc/meminfo")).ok()?)
}

/// Finds `MemAvailable` in the text of `/proc/meminfo`, in bytes.
#[must_use]
pub fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}
