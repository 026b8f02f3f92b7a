#![allow(clippy::unwrap_used)]
//! Who was killed for want of memory is counted: read from recorded trees, and live where this machine lets us make a group.

mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bequeath_os::limits::OomKills;
use tree::Tree;

fn read(tree: &Tree, pid: Option<u32>) -> OomKills {
    OomKills::read_in(tree.path(), pid)
}

const UNIFIED: &str =
    "35 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
const EVENTS: &str = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";

#[test]
fn a_unified_group_counts_in_its_events() {
    let files = [
        ("proc/self/cgroup", "0::/user.slice/job\n"),
        ("proc/self/mountinfo", UNIFIED),
        ("proc/vmstat", "nr_free_pages 7\noom_kill 41\n"),
        (
            "sys/fs/cgroup/user.slice/memory.events",
            "oom 9\noom_kill 9\n",
        ),
        ("sys/fs/cgroup/user.slice/job/memory.events", EVENTS),
    ];
    let tree = Tree::new("unified", &files);
    let before = read(&tree, None);
    assert_eq!((before.group, before.machine), (Some(2), Some(41)));
    // Somebody else's, in a group beside ours: the ancestor's count rises, and the machine's.
    tree.write(
        "sys/fs/cgroup/user.slice/memory.events",
        "oom 10\noom_kill 10\n",
    );
    tree.write("proc/vmstat", "nr_free_pages 7\noom_kill 42\n");
    assert_eq!(read(&tree, None).any_since(&before), Some(false));
    tree.write(
        "sys/fs/cgroup/user.slice/job/memory.events",
        "oom 4\noom_kill 3\n",
    );
    assert_eq!(read(&tree, None).any_since(&before), Some(true));
}

#[test]
fn a_group_that_counts_nothing_leaves_it_to_its_ancestor() {
    let files = [
        ("proc/self/cgroup", "0::/a/b\n"),
        ("proc/self/mountinfo", UNIFIED),
        ("sys/fs/cgroup/a/memory.events", "oom_kill 5\n"),
        ("sys/fs/cgroup/a/b/cgroup.procs", ""),
    ];
    assert_eq!(read(&Tree::new("ancestor", &files), None).count(), Some(5));
}

#[test]
fn a_version_one_group_counts_in_its_control_file() {
    let files = [
        ("proc/self/cgroup", "4:memory:/docker/abc\n0::/\n"),
        ("proc/77/cgroup", "4:memory:/docker/abc/worker\n0::/\n"),
        (
            "proc/self/mountinfo",
            "40 30 0:35 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
        ),
        (
            "sys/fs/cgroup/memory/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        ),
        (
            "sys/fs/cgroup/memory/worker/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 6\n",
        ),
    ];
    let tree = Tree::new("version-one", &files);
    assert_eq!(read(&tree, None).group, Some(1));
    assert_eq!(read(&tree, Some(77)).group, Some(6));
    assert_eq!(read(&tree, Some(78)).group, None);
}

#[test]
fn without_groups_the_machine_counts() {
    let tree = Tree::new("machine", &[("proc/vmstat", "oom_kill 4\n")]);
    let before = read(&tree, None);
    assert_eq!(before.count(), Some(4));
    tree.write("proc/vmstat", "oom_kill 5\n");
    assert_eq!(read(&tree, None).any_since(&before), Some(true));
}

#[test]
fn nothing_known_is_told_as_such() {
    let tree = Tree::new("nothing", &[("proc/self/cgroup", "\u{1}:\n")]);
    let kills = read(&tree, None);
    assert_eq!((kills.count(), kills.any_since(&kills)), (None, None));
}

/// A group of our own for a child that eats memory; none where this machine does not let us make one.
fn small_group() -> Option<PathBuf> {
    let memberships = fs::read_to_string("/proc/self/cgroup").ok()?;
    for (mark, top, limit) in [
        (":memory:", "/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("0::", "/sys/fs/cgroup", "memory.max"),
    ] {
        let Some((_, path)) = memberships.lines().find_map(|line| line.split_once(mark)) else {
            continue;
        };
        let group = Path::new(top)
            .join(path.trim_start_matches('/'))
            .join(format!("bequeath-test-{}", std::process::id()));
        if fs::create_dir(&group).is_ok() {
            if fs::write(group.join(limit), "33554432").is_ok() {
                return Some(group);
            }
            let _ = fs::remove_dir(&group);
        }
    }
    None
}

#[test]
fn a_child_that_eats_memory_is_counted_live() {
    let Some(group) = small_group() else {
        println!("left out: this machine lets us make no control group with a limit of memory");
        return;
    };
    let script = format!(
        "echo $$ > {}/cgroup.procs && read go && exec tail /dev/zero",
        group.display()
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Its group is asked for once it is there, and the count of that group when it is over, not yet reaped.
    let ours = fs::read_to_string("/proc/self/cgroup").unwrap();
    while fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap() == ours {
        std::thread::yield_now();
    }
    let before = OomKills::of(child.id());
    drop(
        child
            .stdin
            .take()
            .map(|mut go| std::io::Write::write_all(&mut go, b"go\n")),
    );
    let ended = child.wait().unwrap();
    let counted = fs::read_to_string(group.join("memory.oom_control"))
        .or_else(|_| fs::read_to_string(group.join("memory.events")))
        .unwrap();
    fs::remove_dir(&group).unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&ended),
        Some(9)
    );
    assert_eq!(before.group, Some(0));
    assert!(counted.contains("oom_kill 1"), "{counted}");
}
