//! Limits that bind: control groups, resource limits, free memory.

use std::path::Path;

use bequeath_os::limits;

use super::{line, Finding, Level};

const TOPIC: &str = "limits";

/// Fewer descriptors than this are soon used up.
const FEW_DESCRIPTORS: u64 = 256;
/// A session of less than this holds no large messages.
const LITTLE: u64 = 64 << 20;

pub(super) fn findings() -> Vec<Finding> {
    vec![
        memory(),
        file_size(),
        address_space(),
        descriptors(),
        processors(),
        tasks(),
        mappings(),
        Finding::new(
            TOPIC,
            "/dev/shm",
            Level::Good,
            "not used",
            "its size does not matter",
        ),
    ]
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn memory() -> Finding {
    let group = limits::cgroup_memory();
    let free = limits::available_memory();
    let room = [group, free, limits::address_space().soft];
    let room = room.into_iter().flatten().min().unwrap_or(1 << 30);
    let (level, means) = if room / 2 < LITTLE {
        (
            Level::Note,
            "the session's budget is half of the least: MemoryError comes early",
        )
    } else {
        (
            Level::Good,
            "the session's budget is half of the least (BEQUEATH_MEMORY_LIMIT changes it)",
        )
    };
    let group = group.map_or("no limit of a control group".to_owned(), |bytes| {
        format!("control group: {}", mebibytes(bytes))
    });
    let free = free.map_or(String::new(), |bytes| {
        format!(", {} available", mebibytes(bytes))
    });
    Finding::new(TOPIC, "memory", level, group + &free, means)
}

fn file_size() -> Finding {
    match limits::file_size().soft {
        None => Finding::new(TOPIC, "RLIMIT_FSIZE", Level::Good, "none", "nothing"),
        Some(bytes) => Finding::new(
            TOPIC,
            "RLIMIT_FSIZE",
            if bytes < 256 << 10 {
                Level::Problem
            } else {
                Level::Note
            },
            format!("{bytes} bytes"),
            "the session's memory is never larger than this, and no message, value or array either",
        ),
    }
}

fn address_space() -> Finding {
    match limits::address_space().soft {
        None => Finding::new(TOPIC, "RLIMIT_AS", Level::Good, "none", "nothing"),
        Some(bytes) => Finding::new(
            TOPIC,
            "RLIMIT_AS",
            Level::Note,
            mebibytes(bytes),
            "each process maps the shared memory that it touches within this",
        ),
    }
}

fn descriptors() -> Finding {
    let found = limits::descriptors().soft;
    let few = found.is_some_and(|count| count < FEW_DESCRIPTORS);
    let level = if few { Level::Note } else { Level::Good };
    let text = found.map_or("none".to_owned(), |count| count.to_string());
    let means =
        "each child takes two in its parent, each Pipe two, a queue none unless it is polled";
    Finding::new(TOPIC, "RLIMIT_NOFILE", level, text, means)
}

fn processors() -> Finding {
    let usable = limits::usable_processors();
    let quota = limits::cpu_quota_in(Path::new("/"));
    let mut found = format!("{usable} usable");
    if let Some(quota) = quota {
        found += &format!(", quota of a control group: {quota:.1}");
    }
    let level = if usable < 2 { Level::Note } else { Level::Good };
    let means =
        "one processor: nothing runs side by side, and nobody looks for a message before sleeping";
    Finding::new(TOPIC, "processors", level, found, means)
}

/// Processes and threads: of the control group, and of the user.
fn tasks() -> Finding {
    let group = limits::tasks_limit_in(Path::new("/"));
    let user = line_of_limits("Max processes");
    let least = [group, user].into_iter().flatten().min();
    let level = if least.is_some_and(|most| most < 64) {
        Level::Note
    } else {
        Level::Good
    };
    let show = |limit: Option<u64>| limit.map_or("none".to_owned(), |most| most.to_string());
    let found = format!("control group: {}, user: {}", show(group), show(user));
    let means = "more children, templates and threads than this cannot be started";
    Finding::new(TOPIC, "processes", level, found, means)
}

fn line_of_limits(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn mappings() -> Finding {
    let found = line("/proc/sys/vm/max_map_count");
    let few = found
        .as_ref()
        .and_then(|count| count.parse::<u64>().ok())
        .is_some_and(|count| count < 65_530);
    let level = if few { Level::Note } else { Level::Good };
    let found = found.unwrap_or_else(|| "unknown".to_owned());
    let means = "many large arrays that were received at once need a mapping each";
    Finding::new(TOPIC, "vm.max_map_count", level, found, means)
}
