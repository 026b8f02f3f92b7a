//! The state that a child has from its starter, exactly as after an exec.
//!
//! [`State::capture`] collects it in the starter, [`State::plan`] decides in the template what a
//! forked child must change to have it, or why it cannot, and [`Plan::apply`] changes it in the
//! child. What is not listed in [`State`] does not survive an exec, or cannot be seen.

mod apply;
mod capture;
mod encode;
mod environment;
mod plan;
mod status;

pub use capture::can_capture;
pub use environment::Environment;
pub use plan::Plan;

use bequeath_os::attributes::LIMITS;

/// The kinds of namespaces, as procfs calls them.
pub(crate) const NAMESPACES: [&str; 8] = [
    "cgroup",
    "ipc",
    "mnt",
    "net",
    "pid_for_children",
    "time_for_children",
    "user",
    "uts",
];

/// Everything that a process passes on by exec, but its descriptors and its working directory,
/// which travel as descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What a child of a template can be given.
    pub settable: Settable,
    /// What it cannot: where this differs, only a real exec serves.
    pub fixed: Fixed,
    /// The environment.
    pub environment: Environment,
}

/// What a process may set for itself, within limits that [`State::plan`] knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settable {
    /// File mode creation mask.
    pub umask: u32,
    /// Soft and hard resource limits.
    pub limits: [(u64, u64); LIMITS],
    /// Nice value.
    pub nice: i32,
    /// Scheduling policy and priority.
    pub scheduler: (i32, i32),
    /// Processors it may run on.
    pub affinity: Vec<u64>,
    /// Input/output priority.
    pub io_priority: i32,
    /// How late timers may fire.
    pub timer_slack: u64,
    /// The out-of-memory killer's adjustment.
    pub oom_score_adj: i32,
    /// Process group.
    pub group: i32,
    /// Blocked signals of the starting thread, signal 1 in the lowest bit.
    pub blocked: u64,
    /// Ignored signals.
    pub ignored: u64,
}

/// What a process cannot, or must not, change for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Session.
    pub session: i32,
    /// Real, effective, saved and file-system user.
    pub users: [u32; 4],
    /// Real, effective, saved and file-system group.
    pub groups: [u32; 4],
    /// Supplementary groups.
    pub supplementary: Vec<u32>,
    /// Inheritable, permitted, effective, bounding and ambient capabilities.
    pub capabilities: [u64; 5],
    /// Secure bits, `no_new_privs`, seccomp mode and number of filters, personality,
    /// no huge pages.
    pub restrictions: [i64; 6],
    /// Device and inode of the root directory.
    pub root: (u64, u64),
    /// Control groups, as procfs tells them.
    pub cgroup: Vec<u8>,
    /// Inode of each namespace.
    pub namespaces: [u64; NAMESPACES.len()],
}
