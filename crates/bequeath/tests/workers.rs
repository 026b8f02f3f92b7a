//! Workers: copies of this program that run one function.
#![allow(clippy::unwrap_used)]

mod support;

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bequeath::{Error, Event, ExitStatus, Queue, Session};
use bequeath_testing::wait_until;
use serde::{Deserialize, Serialize};

tests!(
    a_worker_gives_its_result,
    closures_without_captures_and_functions_chosen_at_run_time_are_workers,
    arguments_and_results_may_be_large,
    a_panic_is_told_with_its_text,
    a_killed_worker_is_told_by_the_name_of_the_signal,
    a_worker_that_exits_by_itself_is_told_by_its_code,
    an_argument_that_cannot_be_decoded_is_told,
    a_result_that_cannot_be_encoded_is_told,
    waiting_has_a_timeout_and_does_not_take_the_result,
    a_worker_is_known_by_its_name,
    a_worker_starts_workers,
    a_daemon_dies_with_its_parent_at_every_depth,
    a_worker_that_is_no_daemon_outlives_its_parent,
    a_worker_has_no_descriptors_but_its_own,
    a_result_nobody_asks_for_is_given_back,
    a_command_line_that_names_no_line_is_refused,
    many_workers_at_once,
    without_descriptors_a_start_is_refused_and_leaves_nothing,
);

fn add((a, b): (u64, u64)) -> u64 {
    a + b
}

fn multiply((a, b): (u64, u64)) -> u64 {
    a * b
}

fn forever(_: ()) {
    loop {
        std::thread::park();
    }
}

fn a_worker_gives_its_result() {
    let session = Session::new().unwrap();
    let child = session.spawn(add, (2, 3)).unwrap();
    assert_ne!(child.pid(), std::process::id());
    assert_eq!(child.result().unwrap(), 5);
}

fn closures_without_captures_and_functions_chosen_at_run_time_are_workers() {
    let session = Session::new().unwrap();
    let child = session
        .spawn(|text: String| text.to_uppercase(), "loud".to_owned())
        .unwrap();
    assert_eq!(child.result().unwrap(), "LOUD");
    for (function, expected) in [(add as fn((u64, u64)) -> u64, 7), (multiply, 12)] {
        assert_eq!(
            session.spawn(function, (3, 4)).unwrap().result().unwrap(),
            expected
        );
    }
}

fn arguments_and_results_may_be_large() {
    let session = Session::new().unwrap();
    let large: Vec<u32> = (0..1_000_000).collect();
    let child = session
        .spawn(
            |list: Vec<u32>| -> Vec<u32> { list.into_iter().rev().collect() },
            large.clone(),
        )
        .unwrap();
    let turned = child.result().unwrap();
    assert!(turned.into_iter().rev().eq(large));
}

fn a_panic_is_told_with_its_text() {
    let session = Session::new().unwrap();
    let child = session
        .worker()
        .name("unlucky")
        .spawn(|n: u32| -> u32 { panic!("{n} is too many") }, 13)
        .unwrap();
    match child.result() {
        Err(Error::Panicked { name, message, .. }) => {
            assert_eq!(
                (name.as_str(), message.as_str()),
                ("unlucky", "13 is too many")
            );
        }
        other => panic!("{other:?}"),
    }
}

fn a_killed_worker_is_told_by_the_name_of_the_signal() {
    let session = Session::new().unwrap();
    for (end, name) in [(9, "SIGKILL"), (15, "SIGTERM"), (6, "SIGABRT")] {
        let child = session.worker().name("victim").spawn(forever, ()).unwrap();
        child.send_signal(end).unwrap();
        assert_eq!(child.wait().unwrap(), ExitStatus::Signaled(end));
        let pid = child.pid();
        let error = child.result().unwrap_err().to_string();
        assert_eq!(
            error,
            format!("worker victim (pid {pid}) died: killed by {name}")
        );
    }
}

fn a_worker_that_exits_by_itself_is_told_by_its_code() {
    let session = Session::new().unwrap();
    let child = session
        .spawn(|_: ()| -> u8 { std::process::exit(7) }, ())
        .unwrap();
    match child.result() {
        Err(Error::Died { status, .. }) => assert_eq!(status, ExitStatus::Exited(7)),
        other => panic!("{other:?}"),
    }
}

#[derive(Debug, Serialize)]
struct Locked;

impl<'de> Deserialize<'de> for Locked {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("never"))
    }
}

fn an_argument_that_cannot_be_decoded_is_told() {
    let session = Session::new().unwrap();
    let child = session.spawn(|_: Locked| (), Locked).unwrap();
    match child.result() {
        Err(Error::Failed { message, .. }) => assert!(message.contains("Locked"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[derive(Debug, Deserialize)]
struct Stuck;

impl Serialize for Stuck {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("never"))
    }
}

fn a_result_that_cannot_be_encoded_is_told() {
    let session = Session::new().unwrap();
    let child = session.spawn(|_: ()| Stuck, ()).unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Exited(1));
    assert!(matches!(child.result(), Err(Error::Failed { .. })));
    // In the caller it is refused before anything is started.
    assert!(matches!(
        session.spawn(|_: Stuck| (), Stuck),
        Err(Error::Encode { .. })
    ));
}

fn waiting_has_a_timeout_and_does_not_take_the_result() {
    let session = Session::new().unwrap();
    let go = session.event().unwrap();
    let child = session
        .spawn(
            |go: Event| -> u32 { go.wait().map_or(0, |()| 42) },
            go.clone(),
        )
        .unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.wait_timeout(Duration::from_millis(5)).unwrap(), None);
    go.set();
    assert_eq!(child.wait().unwrap(), ExitStatus::Exited(0));
    assert_eq!(child.try_wait().unwrap(), Some(ExitStatus::Exited(0)));
    assert_eq!(child.result().unwrap(), 42);
}

fn a_worker_is_known_by_its_name() {
    let session = Session::new().unwrap();
    let child = session
        .worker()
        .name("the-reader")
        .spawn(forever, ())
        .unwrap();
    let read = |file: &str| {
        std::fs::read_to_string(format!("/proc/{}/{file}", child.pid())).unwrap_or_default()
    };
    assert_eq!(child.name(), "the-reader");
    wait_until("it has its name", || read("comm") == "the-reader\n");
    let line = read("cmdline");
    assert!(
        line.contains("--bequeath-worker") && line.contains("the-reader"),
        "{line:?}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let unnamed = session.spawn(|_: ()| (), ()).unwrap();
    assert!(unnamed.name().starts_with("workers-"), "{}", unnamed.name());
    unnamed.result().unwrap();
}

fn depth(levels: u32) -> u32 {
    if levels == 0 {
        return 1;
    }
    let session = Session::current().expect("a worker has its parent's session");
    1 + session.spawn(depth, levels - 1).unwrap().result().unwrap()
}

fn a_worker_starts_workers() {
    let session = Session::new().unwrap();
    assert_eq!(session.spawn(depth, 2).unwrap().result().unwrap(), 3);
}

/// Starts a tied worker `levels` deep; the deepest says so and hangs.
fn chain((levels, here): (u32, Queue<u32>)) {
    here.send(&std::process::id()).unwrap();
    if levels > 0 {
        let session = Session::current().unwrap();
        let _child = session
            .worker()
            .daemon(true)
            .spawn(chain, (levels - 1, here))
            .unwrap();
        forever(());
    }
    forever(());
}

fn a_daemon_dies_with_its_parent_at_every_depth() {
    let session = Session::new().unwrap();
    let here = session.queue(None).unwrap();
    let child = session.spawn(chain, (2, here.clone())).unwrap();
    let pids: Vec<u32> = (0..3).map(|_| here.recv().unwrap()).collect();
    assert_eq!(pids[0], child.pid());
    child.kill().unwrap();
    child.wait().unwrap();
    for pid in pids {
        wait_until("the tied worker is dead", || !is_running(pid));
    }
}

/// Whether it exists and is no zombie that nobody has reaped yet.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

fn start_one_and_leave((go, answer): (Event, Queue<String>)) -> u32 {
    let session = Session::current().unwrap();
    let child = session.spawn(
        |(go, answer): (Event, Queue<String>)| {
            go.wait().unwrap();
            answer.send(&"still here".to_owned()).unwrap();
        },
        (go, answer),
    );
    child.unwrap().pid()
}

fn a_worker_that_is_no_daemon_outlives_its_parent() {
    let session = Session::new().unwrap();
    let (go, answer) = (session.event().unwrap(), session.queue(None).unwrap());
    let child = session
        .spawn(start_one_and_leave, (go.clone(), answer.clone()))
        .unwrap();
    let orphan = child.result().unwrap();
    assert!(is_running(orphan));
    go.set();
    assert_eq!(answer.recv().unwrap(), "still here");
    wait_until("the orphan is gone", || !is_running(orphan));
}

fn list_descriptors(_: ()) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter_map(|entry| Some(std::fs::read_link(entry.path()).ok()?.display().to_string()))
        .collect();
    found.sort();
    found
}

fn a_worker_has_no_descriptors_but_its_own() {
    let session = Session::new().unwrap();
    // One that is inherited by carelessness: without close-on-exec.
    let careless: OwnedFd = std::fs::File::open("/dev/zero").unwrap().into();
    bequeath_os::handover::keep_across_exec(careless.as_fd()).unwrap();
    let found = session
        .spawn(list_descriptors, ())
        .unwrap()
        .result()
        .unwrap();
    assert!(!found.contains(&"/dev/zero".to_owned()), "{found:?}");
    let above_two = found
        .iter()
        .filter(|target| target.starts_with("socket") || target.contains("memfd"));
    assert!(above_two.count() <= 5, "{found:?}");
}

fn a_result_nobody_asks_for_is_given_back() {
    let session = Session::new().unwrap();
    let before = session.usage().unwrap();
    for _ in 0..3 {
        let child = session.spawn(|_: ()| vec![7_u8; 3 << 20], ()).unwrap();
        assert_eq!(child.wait().unwrap(), ExitStatus::Exited(0));
    }
    // What an unread result held is given back when room is looked for.
    session.set_limit(before.used + (8 << 20));
    for _ in 0..3 {
        drop(session.allocate(4 << 20).unwrap());
    }
}

fn a_command_line_that_names_no_line_is_refused() {
    let program = std::env::current_exe().unwrap();
    for number in ["99", "1", "-1", "many", ""] {
        let output = std::process::Command::new(&program)
            .args(["--bequeath-worker", number, "forged"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("no line to a parent"), "{said}");
    }
}

fn many_workers_at_once() {
    let session = Session::new().unwrap();
    let children: Vec<_> = (0..12)
        .map(|n| session.spawn(add, (n, 1)).unwrap())
        .collect();
    for (n, child) in children.into_iter().enumerate() {
        assert_eq!(child.result().unwrap(), n as u64 + 1);
    }
}

fn without_descriptors_a_start_is_refused_and_leaves_nothing() {
    let session = Session::new().unwrap();
    let inner = session.event().unwrap();
    let before = session.usage().unwrap().references;
    let mut refused = 0;
    for free in (0..12).rev() {
        let started = bequeath_testing::with_descriptors_left(free, || {
            session
                .worker()
                .daemon(true)
                .spawn(|event: Event| event.set(), inner.clone())
        });
        match started {
            Ok(child) => child.result().unwrap(),
            Err(error) => {
                refused += 1;
                let said = error.to_string();
                let reasons = ["Too many open files", "no room for them"];
                assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
            }
        }
    }
    assert!(refused > 3, "{refused}");
    session.scavenge();
    assert_eq!(session.usage().unwrap().references, before);
}
