//! A template without an interpreter: this test, forked.
#![allow(dead_code, clippy::unwrap_used)]

pub mod killed;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bequeath_os::socket::{self, SocketType};
use bequeath_os::{Deadline, PidFd};
use bequeath_process::template::{tell_footprint, Answer, Become, Server, Template, Work};
use bequeath_process::{Child, ExitStatus, Launch, OnParentDeath};
use bequeath_testing::{wait_until, Peer};

pub fn turn() -> MutexGuard<'static, ()> {
    /// A fork in one test would copy the descriptors whose end another one waits for.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a template has in memory when it begins, and a child may write to.
pub static MEMORY: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// What a template does, with `fork` where the interpreter would call it.
pub fn serve(door: OwnedFd) {
    let mut server = Some(Server::new(door, false).unwrap());
    while let Some(work) = server.as_mut().unwrap().next_work(false).unwrap() {
        fork_for(&mut server, work);
    }
}

/// One piece of a template's work.
pub fn fork_for(server: &mut Option<Server>, work: Work) {
    match work {
        Work::Rest => {}
        Work::Child(request) => {
            let mut request = Some(request);
            let pid = Peer::leave_behind(|| {
                let request = request.take().unwrap();
                let become_ = request.become_child(server.take().unwrap(), &[]).unwrap();
                live(become_);
            });
            let server = server.as_mut().unwrap();
            server.started(request.take().unwrap(), pid);
        }
        Work::Spare(seat) => {
            let mut seat = Some(seat);
            let pid = Peer::leave_behind(|| {
                let knowledge = server.take().unwrap().into_knowledge();
                let become_ = seat.take().unwrap().wait(knowledge, &[]).unwrap();
                become_.into_iter().for_each(live);
            });
            server.as_mut().unwrap().seated(seat.take().unwrap(), pid);
        }
    }
}

/// What a child does: says who it is where it was told to, and then what its payload says.
pub fn live(become_: Become) {
    let (mut arrived, last_step) = become_.split();
    arrived.hold_tie().unwrap();
    if !last_step.take().unwrap() {
        return;
    }
    let mut wire = File::from(arrived.given.remove(0));
    let words = format!("{} {}\n", arrived.name, std::process::id());
    wire.write_all(words.as_bytes()).unwrap(); // at once: somebody reads once
    match arrived.payload[0] {
        b'k' => PidFd::open(std::process::id())
            .unwrap()
            .send_signal(9)
            .unwrap(),
        b'w' => drop(wire.read(&mut [0])), // until nobody holds the other end
        b't' => {
            let mut memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
            memory.iter_mut().step_by(4096).for_each(|byte| *byte = 2);
            tell_footprint();
        }
        _ => {}
    }
}

pub struct Program {
    pub process: Peer,
    pub template: Template,
}

pub fn program() -> Program {
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

pub fn start(
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
        hurried: false,
    };
    match template.start(&launch, &mut || false).unwrap() {
        Answer::Child(child) => child,
        Answer::Refused(reason) => panic!("refused: {reason}"),
    }
}

pub fn wire() -> (File, OwnedFd) {
    let (ours, theirs) = socket::pair(SocketType::Stream).unwrap();
    (File::from(ours), theirs)
}

/// A child from its start to its end.
pub fn run(template: &Template, what: &[u8]) -> (u32, ExitStatus) {
    let (mut ours, theirs) = wire();
    let child = start(template, what, theirs.as_fd(), None);
    drop(theirs);
    let mut said = String::new();
    ours.read_to_string(&mut said).unwrap();
    assert_eq!(said, format!("child {}\n", child.pid()));
    let status = child.wait(Deadline::NEVER).unwrap().unwrap();
    (child.pid(), status)
}

pub fn children_of(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap();
    text.split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect()
}

/// The one child that nobody asked for, when the last one that somebody did ask for has been reaped.
pub fn spare_of(template: &Peer, last: u32) -> u32 {
    let mut spare = 0;
    wait_until("a child is kept ahead", || {
        let children = children_of(template.pid());
        spare = children.first().copied().unwrap_or(0);
        children.len() == 1 && spare != last
    });
    spare
}
