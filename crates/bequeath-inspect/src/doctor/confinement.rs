//! What confines this process: filters of system calls, namespaces, who may look at whom.

use super::{line, status, Finding, Level};

const TOPIC: &str = "confinement";

pub(super) fn findings() -> Vec<Finding> {
    vec![
        seccomp(),
        namespaces(),
        user_namespace(),
        first_process(),
        yama(),
        memory_files(),
    ]
}

fn good(name: &str, found: impl Into<String>, means: &str) -> Finding {
    Finding::new(TOPIC, name, Level::Good, found, means)
}

fn note(name: &str, found: impl Into<String>, means: &str) -> Finding {
    Finding::new(TOPIC, name, Level::Note, found, means)
}

fn seccomp() -> Finding {
    match status("Seccomp").as_deref() {
        Some("0") => good("seccomp", "no filter", "nothing"),
        Some("2") => note(
            "seccomp",
            "a filter",
            "system calls may be refused: what matters of that stands above, under kernel",
        ),
        Some(other) => note(
            "seccomp",
            format!("mode {other}"),
            "system calls are refused",
        ),
        None => note("seccomp", "unknown", "procfs does not tell"),
    }
}

/// In how many process number namespaces this process has a number.
fn namespaces() -> Finding {
    let numbers = status("NSpid").unwrap_or_default();
    match numbers.split_whitespace().count() {
        0 => note("pid namespace", "unknown", "procfs does not tell"),
        1 => good("pid namespace", "the outermost that is seen", "nothing"),
        depth => note(
            "pid namespace",
            format!("{depth} deep"),
            "only processes of this namespace can share a session; inspect works inside it",
        ),
    }
}

fn user_namespace() -> Finding {
    let whole = line("/proc/self/uid_map").is_none_or(|map| {
        let fields: Vec<&str> = map.split_whitespace().collect();
        fields == ["0", "0", "4294967295"]
    });
    if whole {
        good("user namespace", "the machine's", "nothing")
    } else {
        note(
            "user namespace",
            "one of its own",
            "only processes of the same user, as this namespace has it, can share a session",
        )
    }
}

fn first_process() -> Finding {
    if std::process::id() == 1 {
        note(
            "process 1",
            "this is it",
            "orphans become its children: a program that reaps none gathers zombies (use an init such as tini)",
        )
    } else {
        good("process 1", "another", "nothing")
    }
}

fn yama() -> Finding {
    let found = match line("/proc/sys/kernel/yama/ptrace_scope").as_deref() {
        None => "not there".to_owned(),
        Some(scope) => format!("ptrace_scope {scope}"),
    };
    good("Yama", found + ", nothing is traced", "nothing")
}

fn memory_files() -> Finding {
    match line("/proc/sys/vm/memfd_noexec").as_deref() {
        None => good("vm.memfd_noexec", "not there", "nothing"),
        Some(value) => good(
            "vm.memfd_noexec",
            format!("{value}: ours are never executable"),
            "nothing",
        ),
    }
}
