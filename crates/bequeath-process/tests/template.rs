//! A template without an interpreter: this test, forked. Children of every kind, and ties.

#![allow(clippy::unwrap_used)] // the functions beside the tests are tests' too

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bequeath_os::socket::{self, SocketType};
use bequeath_os::{Deadline, PidFd};
use bequeath_process::template::{Answer, Become, Server, Template, Work};
use bequeath_process::{Child, ExitStatus, Launch, OnParentDeath};
use bequeath_testing::{wait_until, Outcome, Peer, Watchdog};

/// A fork in one test would copy the descriptors whose end another one waits for.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a template does, with `fork` where the interpreter would call it.
fn serve(door: OwnedFd) {
    let mut server = Some(Server::new(door, false).unwrap());
    while let Some(work) = server.as_mut().unwrap().next_work(false).unwrap() {
        match work {
            Work::Rest => {}
            Work::Child(request) => {
                let mut request = Some(request);
                let pid = Peer::leave_behind(|| {
                    let request = request.take().unwrap();
                    live(request.become_child(server.take().unwrap(), &[]).unwrap());
                });
                let server = server.as_mut().unwrap();
                server.started(request.take().unwrap(), pid);
            }
            Work::Spare(seat) => {
                let mut seat = Some(seat);
                let pid = Peer::leave_behind(|| {
                    let knowledge = server.take().unwrap().into_knowledge();
                    if let Some(become_) = seat.take().unwrap().wait(knowledge, &[]).unwrap() {
                        live(become_);
                    }
                });
                server.as_mut().unwrap().seated(seat.take().unwrap(), pid);
            }
        }
    }
}

/// What a child does: says who it is where it was told to, and then what its payload says.
fn live(become_: Become) {
    let (mut arrived, signals) = become_.split();
    arrived.hold_tie().unwrap();
    signals.apply().unwrap();
    let mut wire = File::from(arrived.given.remove(0));
    let words = format!("{} {}\n", arrived.name, std::process::id());
    wire.write_all(words.as_bytes()).unwrap(); // at once: somebody reads once
    match arrived.payload[0] {
        b'k' => PidFd::open(std::process::id())
            .unwrap()
            .send_signal(9)
            .unwrap(),
        b'w' => drop(wire.read(&mut [0])), // until nobody holds the other end
        _ => {}
    }
}

struct Program {
    process: Peer,
    template: Template,
}

fn program() -> Program {
    let (outside, inside) = Template::make_door().unwrap();
    let (mut outside, mut inside) = (Some(outside), Some(inside));
    let process = Peer::spawn(|| {
        drop(outside.take()); // who holds it keeps the template alive
        serve(inside.take().unwrap());
    });
    drop(inside);
    let template = Template::through(outside.take().unwrap()).unwrap();
    Program { process, template }
}

fn start(
    template: &Template,
    what: &[u8],
    wire: BorrowedFd<'_>,
    on_parent_death: Option<OnParentDeath>,
) -> Child {
    let launch = Launch {
        name: "child",
        on_parent_death,
        payload: what,
        session: None,
        doors: Vec::new(),
        given: vec![wire],
    };
    match template.start(&launch, &mut || false).unwrap() {
        Answer::Child(child) => child,
        Answer::Refused(reason) => panic!("refused: {reason}"),
    }
}

fn wire() -> (File, OwnedFd) {
    let (ours, theirs) = socket::pair(SocketType::Stream).unwrap();
    (File::from(ours), theirs)
}

/// A child from its start to its end.
fn run(template: &Template, what: &[u8]) -> (u32, ExitStatus) {
    let (mut ours, theirs) = wire();
    let child = start(template, what, theirs.as_fd(), None);
    drop(theirs);
    let mut said = String::new();
    ours.read_to_string(&mut said).unwrap();
    assert_eq!(said, format!("child {}\n", child.pid()));
    let status = child.wait(Deadline::NEVER).unwrap().unwrap();
    (child.pid(), status)
}

fn children_of(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap();
    text.split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect()
}

/// The one child that nobody asked for, when the last one that somebody did ask for has been reaped.
fn spare_of(template: &Peer, last: u32) -> u32 {
    let mut spare = 0;
    wait_until("a child is kept ahead", || {
        let children = children_of(template.pid());
        spare = children.first().copied().unwrap_or(0);
        children.len() == 1 && spare != last
    });
    spare
}

#[test]
fn children_are_forked_on_request_and_ahead_of_it() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
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

    // One that is killed while it waits is missed by nobody.
    let spare = PidFd::open(spare_of(&process, spare)).unwrap();
    spare.send_signal(9).unwrap();
    assert!(spare.wait_dead(Deadline::NEVER).unwrap());
    drop(spare);
    assert_eq!(run(&template, b"end").1, ExitStatus::Exited(0));

    template.leave(Duration::from_secs(30)).unwrap();
    assert!(matches!(process.join(), Outcome::Exited(0)));
}

#[test]
fn a_tied_child_ends_with_its_starter_and_no_other_does() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
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
