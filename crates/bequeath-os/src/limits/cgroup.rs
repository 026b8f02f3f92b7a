//! Limits of control groups: the group of this process and every ancestor that can be seen.
//!
//! Two texts of procfs say where to look: `cgroup` which group in which hierarchy, `mountinfo` where
//! each hierarchy is mounted and which of its folders the mount shows. In a container the group's
//! path often lies outside what the mount shows; then the mount's own top is the nearest known
//! ancestor.

use std::path::{Path, PathBuf};

use super::content;

/// A folder of a control group and the top of its mount.
pub(super) struct Group {
    pub(super) version: u8,
    pub(super) folder: PathBuf,
    top: PathBuf,
}

/// The tightest memory limit in bytes, where `root` stands for the root folder of the machine.
#[must_use]
pub fn memory_limit_in(root: &Path) -> Option<u64> {
    groups(root, "memory")
        .iter()
        .flat_map(|group| {
            let file = if group.version == 2 {
                "memory.max"
            } else {
                "memory.limit_in_bytes"
            };
            upwards(group).filter_map(move |folder| number(&folder.join(file)))
        })
        .filter(is_a_limit)
        .min()
}

/// How much more memory the groups let this process use now: the least of what their limits leave,
/// where pages of files that the kernel can drop at once do not count as used. `root` as above.
#[must_use]
pub fn memory_room_in(root: &Path) -> Option<u64> {
    groups(root, "memory")
        .iter()
        .flat_map(|group| upwards(group).filter_map(|folder| room(folder, group.version)))
        .min()
}

fn room(folder: &Path, version: u8) -> Option<u64> {
    let (limit, usage, droppable) = match version {
        2 => ("memory.max", "memory.current", "inactive_file "),
        _ => (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file ",
        ),
    };
    let limit = number(&folder.join(limit)).filter(is_a_limit)?;
    let used = number(&folder.join(usage))?;
    let stat = content(&folder.join("memory.stat")).unwrap_or_default();
    let found = stat.lines().find_map(|line| line.strip_prefix(droppable));
    let droppable: u64 = found.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(droppable)))
}

/// Version 1 writes "no limit" as the largest multiple of a page that fits a signed number.
fn is_a_limit(limit: &u64) -> bool {
    *limit < (i64::MAX as u64) & !0xffff
}

/// The tightest limit of processes and threads, where `root` stands for the root folder of the machine.
#[must_use]
pub fn tasks_limit_in(root: &Path) -> Option<u64> {
    groups(root, "pids")
        .iter()
        .flat_map(|group| upwards(group).filter_map(|folder| number(&folder.join("pids.max"))))
        .min()
}

/// The tightest processor quota in processors (1.5 = one and a half), where `root` stands for the
/// root folder of the machine.
#[must_use]
pub fn cpu_quota_in(root: &Path) -> Option<f64> {
    groups(root, "cpu")
        .iter()
        .flat_map(|group| {
            let version = group.version;
            upwards(group).filter_map(move |folder| quota(folder, version))
        })
        .min_by(f64::total_cmp)
}

fn quota(folder: &Path, version: u8) -> Option<f64> {
    let (quota, period) = if version == 2 {
        let text = content(&folder.join("cpu.max")).ok()?;
        let mut words = text.split_whitespace();
        (
            words.next()?.parse::<u64>().ok()?,
            words.next()?.parse::<u64>().ok()?,
        )
    } else {
        (
            number(&folder.join("cpu.cfs_quota_us"))?,
            number(&folder.join("cpu.cfs_period_us"))?,
        )
    };
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

/// A file with one number; "max" and "-1" are none.
fn number(file: &Path) -> Option<u64> {
    content(file).ok()?.trim().parse().ok()
}

pub(super) fn upwards(group: &Group) -> impl Iterator<Item = &Path> {
    let top = group.top.as_path();
    group
        .folder
        .ancestors()
        .take_while(move |folder| folder.starts_with(top))
}

fn groups(root: &Path, controller: &str) -> Vec<Group> {
    groups_of(root, "self", controller)
}

/// The groups of a process, named as in procfs; where they are mounted is looked up in this one's view.
pub(super) fn groups_of(root: &Path, process: &str, controller: &str) -> Vec<Group> {
    let read = |process: &str, name: &str| {
        content(&root.join("proc").join(process).join(name)).unwrap_or_default()
    };
    let (memberships, mounts) = (read(process, "cgroup"), read("self", "mountinfo"));
    let mut found = Vec::new();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let version = if controllers.is_empty() { 2 } else { 1 };
        if version == 1 && !controllers.split(',').any(|name| name == controller) {
            continue;
        }
        found.extend(
            mounts
                .lines()
                .filter_map(|mount| located(root, mount, version, controller, path)),
        );
    }
    found
}

/// The folder of group `path` below the mount that `line` of mountinfo describes, if it is the right one.
fn located(root: &Path, line: &str, version: u8, controller: &str, path: &str) -> Option<Group> {
    let (before, after) = line.split_once(" - ")?;
    let mut kind = after.split(' ');
    let (filesystem, options) = (kind.next()?, kind.nth(1).unwrap_or_default());
    let fits = match version {
        2 => filesystem == "cgroup2",
        _ => filesystem == "cgroup" && options.split(',').any(|name| name == controller),
    };
    if !fits {
        return None;
    }
    let mut fields = before.split(' ').skip(3);
    let (shown, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
    let top = root.join(point.trim_start_matches('/'));
    let below = match path.strip_prefix(shown.trim_end_matches('/')) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        // Seen from inside a namespace the path may climb out of the mount: its top is all we know.
        _ => "",
    };
    let climbs = below.split('/').any(|part| part == "..");
    let folder = if climbs {
        top.clone()
    } else {
        top.join(below.trim_start_matches('/'))
    };
    Some(Group {
        version,
        folder,
        top,
    })
}

/// mountinfo writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}
