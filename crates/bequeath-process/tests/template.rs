//! Children of a template of every kind, and ties.
#![allow(clippy::unwrap_used)]

mod world;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use bequeath_os::{Deadline, PidFd};
use bequeath_process::template::Template;
use bequeath_process::{ExitStatus, OnParentDeath};
use bequeath_testing::{wait_until, Outcome, Peer, Watchdog};
use world::{children_of, program, run, spare_of, start, turn, wire, Program, MEMORY};

#[test]
fn children_are_forked_on_request_and_ahead_of_it() {
    let _turn = turn();
    let _watchdog = Watchdog::new(Duration::from_secs(60));
    let Program { process, template } = program();

    assert_eq!(run(&template, b"end").1, ExitStatus::Exited(0));
    wait_until("nobody is kept yet", || {
        children_of(process.pid()).is_empty()
    });
    let (second, status) = run(&template, b"kill");
    assert_eq!(status, ExitStatus::Signaled(9));

    // From the second one on a child is kept ahead, and is the next to be given out.
    let spare = spare_of(&process, second);
    assert_eq!(run(&template, b"kill"), (spare, ExitStatus::Signaled(9)));

    // One that is stopped does not answer: it is ended, and another serves in its place.
    let stopped = spare_of(&process, spare);
    let spare = PidFd::open(stopped).unwrap();
    spare.send_signal(19).unwrap();
    let (other, status) = run(&template, b"end");
    assert_eq!(status, ExitStatus::Exited(0));
    assert_ne!(other, stopped);
    assert!(spare.wait_dead(Deadline::NEVER).unwrap());

    // One that is killed while it waits is missed by nobody.
    let spare = PidFd::open(spare_of(&process, other)).unwrap();
    spare.send_signal(9).unwrap();
    assert!(spare.wait_dead(Deadline::NEVER).unwrap());
    drop(spare);
    assert_eq!(run(&template, b"end").1, ExitStatus::Exited(0));

    template.leave(Duration::from_secs(30)).unwrap();
    assert!(matches!(process.join(), Outcome::Exited(0)));
}

#[test]
fn a_child_that_waits_has_ready_what_the_first_one_used() {
    let _turn = turn();
    let _watchdog = Watchdog::new(Duration::from_secs(60));
    *MEMORY.lock().unwrap() = vec![1; 4 << 20];
    let Program { process, template } = program();
    assert_eq!(run(&template, b"touch").1, ExitStatus::Exited(0));
    let (last, _) = run(&template, b"end");
    let spare = spare_of(&process, last);
    wait_until("its pages are its own", || own_kilobytes(spare) > 4 << 10);

    // It works with them as any other, and what it holds ahead is no more than that.
    assert_eq!(run(&template, b"touch"), (spare, ExitStatus::Exited(0)));
    let spare = spare_of(&process, spare);
    wait_until("so are those of the next", || {
        own_kilobytes(spare) > 4 << 10
    });
    assert!(own_kilobytes(spare) < 16 << 10);
    template.leave(Duration::from_secs(30)).unwrap();
    assert!(matches!(process.join(), Outcome::Exited(0)));
}

/// What a process has of memory that nobody shares.
fn own_kilobytes(pid: u32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with("Private_Dirty"));
    let number = line.and_then(|line| line.split_ascii_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

#[test]
fn a_tied_child_ends_with_its_starter_and_no_other_does() {
    let _turn = turn();
    let _watchdog = Watchdog::new(Duration::from_secs(60));
    let Program { process, template } = program();

    let (mut tied, its_end) = wire();
    let (mut free, other_end) = wire();
    let starter = Peer::spawn(|| {
        let door = template.door().try_clone_to_owned().unwrap();
        let template = Template::through(door).unwrap();
        let kill = Some(OnParentDeath::Kill);
        let first = start(&template, b"wait", its_end.as_fd(), kill);
        let second = start(&template, b"wait", other_end.as_fd(), None);
        let _ = (first.wait(Deadline::NEVER), second.wait(Deadline::NEVER));
    });
    drop((its_end, other_end));
    let mut said = [0; 64];
    let mut word = |wire: &mut File| wire.read(&mut said).unwrap();
    assert!(word(&mut tied) > 0);
    assert!(word(&mut free) > 0);

    starter.kill();
    starter.wait_dead();
    assert_eq!(word(&mut tied), 0, "the tied child has ended");
    wait_until("the other one is alone", || {
        children_of(process.pid()).len() <= 2
    });
    free.write_all(b"!").unwrap(); // it listens still

    drop((starter, free));
    template.leave(Duration::from_secs(30)).unwrap();
    assert!(matches!(process.join(), Outcome::Exited(0)));
}
