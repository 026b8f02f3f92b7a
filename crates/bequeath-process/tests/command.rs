//! A fresh program: how it ends, and what it finds open.

#![allow(clippy::unwrap_used)] // the functions beside the tests are tests' too

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use bequeath_os::{Deadline, Errno};
use bequeath_process::{Command, Error, ExitStatus};

fn shell(script: &str) -> Command<'static> {
    Command::new("/bin/sh")
        .and_then(|command| command.arguments(["sh", "-c", script]))
        .unwrap()
}

fn run(command: &Command<'_>) -> ExitStatus {
    let child = command.start().unwrap();
    child.wait(Deadline::NEVER).unwrap().unwrap()
}

#[test]
fn exit_codes_and_signals_are_told_apart() {
    assert_eq!(run(&shell("exit 0")), ExitStatus::Exited(0));
    assert_eq!(run(&shell("exit 7")), ExitStatus::Exited(7));
    assert_eq!(run(&shell("kill -9 $$")), ExitStatus::Signaled(9));
    assert_eq!(run(&shell("kill -9 $$")).code(), -9);
}

#[test]
fn a_running_child_has_no_status_and_can_be_signalled() {
    let child = shell("exec sleep 600").start().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    assert!(child.send_signal(15).unwrap());
    let status = child.wait(Deadline::NEVER).unwrap();
    assert_eq!(status, Some(ExitStatus::Signaled(15)));
    assert_eq!(child.try_wait().unwrap(), status);
    assert!(!child.send_signal(15).unwrap());
}

#[test]
fn a_missing_program_is_an_error_here_and_leaves_no_process() {
    let refused = Command::new("/nonexistent/program").unwrap().start();
    assert!(matches!(refused, Err(Error::Os(error)) if error.errno == Errno::NOENT));
}

#[test]
fn only_listed_descriptors_stay_open() {
    let kept = File::open("/dev/null").unwrap();
    let other = File::open("/dev/null").unwrap();
    let script = format!(
        "test -e /proc/self/fd/{} && ! test -e /proc/self/fd/{}",
        kept.as_raw_fd(),
        other.as_raw_fd()
    );
    assert!(run(&shell(&script).keep(kept.as_fd())).is_success());
}

#[test]
fn a_variable_is_added_and_the_others_stay() {
    let script = r#"test "$ADDED" = "a value" && test -n "$PATH""#;
    let command = shell(script).variable("ADDED", "a value").unwrap();
    assert!(run(&command).is_success());
}

#[test]
fn zero_bytes_are_refused() {
    let refused = Command::new("/bin/sh").unwrap().argument("a\0b");
    assert!(matches!(
        refused,
        Err(Error::ZeroByte {
            what: "an argument"
        })
    ));
}
