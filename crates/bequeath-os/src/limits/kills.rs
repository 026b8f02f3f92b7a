//! Processes that the kernel has killed for want of memory, as the control groups count them.
//!
//! A group of version 2 counts the kills in it and below it (`memory.events`); one of version 1 those of its own processes
//! only (`memory.oom_control`). Ancestors count other people's besides, so the nearest group that
//! counts is the one to ask. Where none does (the root group has no count), the machine's own count is all there is.

use std::path::Path;

use super::cgroup::{groups_of, upwards, Group};
use super::content;

/// How many there were, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OomKills {
    /// In a process's own group.
    pub group: Option<u64>,
    /// On the whole machine.
    pub machine: Option<u64>,
}

impl OomKills {
    /// For this process.
    #[must_use]
    pub fn now() -> Self {
        Self::read_in(Path::new("/"), None)
    }

    /// For another process, which may have ended but not been reaped; nobody's group counts for one that is gone.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self::read_in(Path::new("/"), Some(pid))
    }

    /// The same, where `root` stands for the root folder of the machine.
    #[must_use]
    pub fn read_in(root: &Path, pid: Option<u32>) -> Self {
        let process = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        let groups = groups_of(root, &process, "memory");
        let machine = content(&root.join("proc/vmstat"));
        Self {
            group: groups.iter().find_map(nearest),
            machine: machine.ok().as_deref().and_then(counted),
        }
    }

    /// The count to compare, later, with the same process's: of the group if there is one.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        self.group.or(self.machine)
    }

    /// Whether there were any since an earlier look; nothing if that can not be told.
    #[must_use]
    pub fn any_since(&self, earlier: &Self) -> Option<bool> {
        let rose = |now: Option<u64>, then: Option<u64>| Some(now? > then?);
        rose(self.group, earlier.group).or_else(|| rose(self.machine, earlier.machine))
    }
}

/// The count of the nearest group that has one.
fn nearest(group: &Group) -> Option<u64> {
    let file = match group.version {
        2 => "memory.events",
        _ => "memory.oom_control",
    };
    upwards(group).find_map(|folder| counted(&content(&folder.join(file)).ok()?))
}

/// The line `oom_kill N`, which all three texts have (since Linux 4.13).
fn counted(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?
        .trim()
        .parse()
        .ok()
}
