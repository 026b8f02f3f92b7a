#![allow(clippy::unwrap_used)]
//! Limits are read from recorded trees: one per way that control groups are mounted.

mod tree;

use bequeath_os::limits;
use tree::Tree;

const UNIFIED: &str =
    "35 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

#[test]
fn the_tightest_ancestor_of_a_unified_hierarchy_counts() {
    let tree = Tree::new(
        "unified",
        &[
            ("proc/self/cgroup", "0::/user.slice/job\n"),
            ("proc/self/mountinfo", UNIFIED),
            ("sys/fs/cgroup/user.slice/memory.max", "1048576\n"),
            ("sys/fs/cgroup/user.slice/job/memory.max", "max\n"),
            ("sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/user.slice/job/cpu.max", "max 100000\n"),
        ],
    );
    assert_eq!(limits::memory_limit_in(tree.path()), Some(1_048_576));
    assert_eq!(limits::cpu_quota_in(tree.path()), Some(1.5));
    assert!(limits::usable_processors_in(tree.path()) <= 2);
}

#[test]
fn a_version_one_hierarchy_is_found_by_its_controller() {
    let tree = Tree::new(
        "version-one",
        &[
            ("proc/self/cgroup", "12:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n"),
            (
                "proc/self/mountinfo",
                "40 30 0:35 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                 41 30 0:36 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ],
    );
    assert_eq!(limits::memory_limit_in(tree.path()), Some(536_870_912));
    assert_eq!(limits::cpu_quota_in(tree.path()), Some(0.5));
    assert_eq!(limits::usable_processors_in(tree.path()), 1);
}

#[test]
fn an_unlimited_version_one_group_has_no_limit() {
    let tree = Tree::new(
        "unlimited",
        &[
            ("proc/self/cgroup", "12:memory:/\n"),
            (
                "proc/self/mountinfo",
                "40 30 0:35 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            ),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ],
    );
    assert_eq!(limits::memory_limit_in(tree.path()), None);
}

#[test]
fn a_path_outside_the_mount_falls_back_to_the_mounts_top() {
    let tree = Tree::new(
        "namespace",
        &[
            ("proc/self/cgroup", "0::/../../other\n"),
            ("proc/self/mountinfo", UNIFIED),
            ("sys/fs/cgroup/memory.max", "4096000\n"),
        ],
    );
    assert_eq!(limits::memory_limit_in(tree.path()), Some(4_096_000));
}

/// What the kernel can drop at once counts as room; the tightest of all groups decides.
#[test]
fn the_room_of_a_unified_hierarchy_is_what_its_tightest_group_leaves() {
    let stat = "anon 300000\nfile 500000\ninactive_file 400000\nactive_file 100000\n";
    let tree = Tree::new(
        "unified-room",
        &[
            ("proc/self/cgroup", "0::/user.slice/job\n"),
            ("proc/self/mountinfo", UNIFIED),
            ("sys/fs/cgroup/user.slice/memory.max", "2000000\n"),
            ("sys/fs/cgroup/user.slice/memory.current", "1900000\n"),
            ("sys/fs/cgroup/user.slice/memory.stat", "inactive_file 0\n"),
            ("sys/fs/cgroup/user.slice/job/memory.max", "1000000\n"),
            ("sys/fs/cgroup/user.slice/job/memory.current", "800000\n"),
            ("sys/fs/cgroup/user.slice/job/memory.stat", stat),
        ],
    );
    assert_eq!(limits::memory_room_in(tree.path()), Some(100_000));
}

#[test]
fn the_room_of_a_version_one_group_counts_its_children() {
    let tree = Tree::new(
        "version-one-room",
        &[
            ("proc/self/cgroup", "4:memory:/docker/abc\n"),
            (
                "proc/self/mountinfo",
                "40 30 0:35 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "900000\n"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "inactive_file 7\ntotal_inactive_file 150000\n",
            ),
        ],
    );
    assert_eq!(limits::memory_room_in(tree.path()), Some(250_000));
}

#[test]
fn a_group_over_its_limit_leaves_nothing_and_one_without_a_limit_says_nothing() {
    let files = |limit| {
        [
            ("proc/self/cgroup", "0::/job\n"),
            ("proc/self/mountinfo", UNIFIED),
            ("sys/fs/cgroup/job/memory.max", limit),
            ("sys/fs/cgroup/job/memory.current", "700000\n"),
        ]
    };
    let tree = Tree::new("over", &files("500000\n"));
    assert_eq!(limits::memory_room_in(tree.path()), Some(0));
    let tree = Tree::new("without", &files("max\n"));
    assert_eq!(limits::memory_room_in(tree.path()), None);
}

#[test]
fn nothing_mounted_means_no_limit() {
    let tree = Tree::new(
        "nothing",
        &[
            ("proc/self/cgroup", "0::/x\n"),
            ("proc/self/mountinfo", "garbage\n\n"),
        ],
    );
    assert_eq!(limits::memory_limit_in(tree.path()), None);
    assert_eq!(limits::cpu_quota_in(tree.path()), None);
}

#[test]
fn available_memory_is_parsed_in_bytes() {
    let text = "MemTotal:       16 kB\nMemFree:  1 kB\nMemAvailable:    8123 kB\n";
    assert_eq!(limits::parse_available(text), Some(8123 * 1024));
    assert_eq!(limits::parse_available("MemTotal: 1 kB\n"), None);
    assert!(limits::available_memory().unwrap_or(0) > 0);
}

#[test]
fn the_least_number_of_tasks_of_an_ancestor_counts() {
    let tree = Tree::new(
        "tasks",
        &[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("proc/self/mountinfo", UNIFIED),
            ("sys/fs/cgroup/a/b/pids.max", "max\n"),
            ("sys/fs/cgroup/a/pids.max", "77\n"),
        ],
    );
    assert_eq!(limits::tasks_limit_in(tree.path()), Some(77));
    let legacy = Tree::new(
        "tasks-legacy",
        &[
            ("proc/self/cgroup", "5:pids:/a\n"),
            (
                "proc/self/mountinfo",
                "40 25 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n",
            ),
            ("sys/fs/cgroup/pids/a/pids.max", "12\n"),
        ],
    );
    assert_eq!(limits::tasks_limit_in(legacy.path()), Some(12));
}
