//! One request to a template, with the starter or the template killed anywhere in it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bequeath_os::footprint::Record;
use bequeath_os::poll::{self, Events};
use bequeath_os::Deadline;
use bequeath_process::template::{Answer, Server, Template, Work};
use bequeath_process::{Child, Error, Launch, OnParentDeath};
use bequeath_testing::{wait_until, Death, Outcome, Peer, Scenario};

use super::{children_of, fork_for, program, run, spare_of, start, wire, Program};

/// Who has not ended by then never will.
const STUCK: Duration = Duration::from_secs(10);

/// What is said on a wire until nobody holds its other end.
fn all_said(mut wire: File) -> String {
    let mut said = Vec::new();
    loop {
        let ready = poll::wait_one(wire.as_fd(), Events::IN, Deadline::after(STUCK)).unwrap();
        assert!(!ready.is_empty(), "an orphan, or a descriptor left open");
        let mut piece = [0; 256];
        match wire.read(&mut piece).unwrap() {
            0 => return String::from_utf8(said).unwrap(),
            length => said.extend(&piece[..length]),
        }
    }
}

fn open_in(process: &Peer) -> usize {
    let path = format!("/proc/{}/fd", process.pid());
    std::fs::read_dir(path).unwrap().count()
}

/// Starts one child before, and another, so that the template keeps a third one ahead.
fn until_one_is_kept(program: &Program) {
    run(&program.template, b"end");
    let (last, _) = run(&program.template, b"end");
    spare_of(&program.process, last);
}

/// The starter is killed: it comes through the door, asks, and has its child.
pub struct Starter {
    kept_ahead: bool,
    /// The child is to end with it, and would run for ever else.
    pub tied: bool,
    stage: Option<(Program, (File, OwnedFd), usize)>,
    child: Option<Child>,
    pub ran: usize,
}

impl Starter {
    pub fn new(kept_ahead: bool, tied: bool) -> Self {
        Self {
            kept_ahead,
            tied,
            stage: None,
            child: None,
            ran: 0,
        }
    }
}

impl Scenario for Starter {
    fn arrange(&mut self) {
        self.stage = None;
        let program = program();
        if self.kept_ahead {
            until_one_is_kept(&program);
        } else {
            // It has come to rest.
            run(&program.template, b"end");
            wait_until("it is reaped", || {
                children_of(program.process.pid()).is_empty()
            });
        }
        program.process.wait_asleep(); // it has closed what it needs no more
        let open = open_in(&program.process);
        self.stage = Some((program, wire(), open));
    }

    fn act(&mut self) {
        let (program, (_, theirs), _) = self.stage.as_ref().unwrap();
        let door = program.template.door().try_clone_to_owned().unwrap();
        let template = Template::through(door).unwrap();
        let (what, on_parent_death): (&[u8], _) = if self.tied {
            (b"wait", Some(OnParentDeath::Kill))
        } else {
            (b"end", None)
        };
        self.child = Some(start(&template, what, theirs.as_fd(), on_parent_death));
        std::mem::forget(template);
    }

    fn check(&mut self, death: &Death) {
        let (program, (ours, theirs), open) = self.stage.take().unwrap();
        drop(theirs);
        let said = all_said(ours);
        assert!(said.lines().count() <= 1, "it ran twice: {said:?}");
        self.ran += said.lines().count();
        if death.completed && !self.tied {
            assert_eq!(said.lines().count(), 1, "it was started and did not run");
        }
        let template = &program.process;
        wait_until("the template has all in order", || {
            let kept = children_of(template.pid()).len();
            if open_in(template) == open {
                kept == usize::from(self.kept_ahead)
            } else {
                // The request was its second: from now on one is kept ahead, with two descriptors.
                !self.kept_ahead && kept == 1 && open_in(template) == open + 2
            }
        });
        run(&program.template, b"end"); // it serves others
        program.template.leave(STUCK).unwrap();
        assert_eq!(program.process.join(), Outcome::Exited(0));
    }
}

/// The template is killed while it serves one request.
pub struct Serving {
    kept_ahead: bool,
    stage: Option<Stage>,
    pub ran: usize,
}

struct Stage {
    door: Option<OwnedFd>,
    starter: Peer,
    wire: File,
    told: File,
    /// In the template: tells the starter that one is kept ahead.
    ready: Option<OwnedFd>,
    server: Option<Server>,
}

impl Serving {
    pub fn new(kept_ahead: bool) -> Self {
        Self {
            kept_ahead,
            stage: None,
            ran: 0,
        }
    }
}

/// One child, asked for once. What it becomes aware of is told to the test: a word.
fn ask(template: &Template, wire: &OwnedFd, told: OwnedFd) {
    let launch = Launch {
        name: "child",
        on_parent_death: None,
        payload: b"end",
        session: None,
        doors: Vec::new(),
        given: vec![wire.as_fd()],
        hurried: false,
    };
    let word = match template.start(&launch, &mut || false) {
        Ok(Answer::Child(child)) => {
            let ended = child.wait(Deadline::after(STUCK)).unwrap();
            if ended.is_some() {
                "a child"
            } else {
                "a child without end"
            }
        }
        Ok(Answer::Refused(_)) => "refused",
        Err(Error::TemplateGone) => "gone",
        Err(_) => "another error",
    };
    std::io::Write::write_all(&mut File::from(told), word.as_bytes()).unwrap();
}

impl Scenario for Serving {
    fn arrange(&mut self) {
        self.stage = None;
        let (door, inside) = Template::make_door().unwrap();
        let (wire, theirs) = wire();
        let (told, telling) = super::wire();
        let (mut go, ready) = super::wire();
        let mut hers = Some((door, theirs, telling, inside, ready));
        let kept_ahead = self.kept_ahead;
        let starter = Peer::spawn(|| {
            let (door, theirs, telling, inside, ready) = hers.take().unwrap();
            drop((inside, ready));
            let template = Template::through(door).unwrap();
            if kept_ahead {
                run(&template, b"end");
                run(&template, b"end");
                assert_eq!(go.read(&mut [0]).unwrap(), 1);
            }
            ask(&template, &theirs, telling);
        });
        let (_, _, _, inside, ready) = hers.unwrap();
        if !kept_ahead {
            starter.wait_asleep(); // it has asked
        }
        self.stage = Some(Stage {
            door: Some(inside),
            starter,
            wire,
            told,
            ready: Some(ready),
            server: None,
        });
    }

    fn forked(&mut self, _: u32) {
        let stage = self.stage.as_mut().unwrap();
        (stage.door, stage.ready) = (None, None);
    }

    fn enter(&mut self) {
        let stage = self.stage.as_mut().unwrap();
        stage.server = Some(Server::new(stage.door.take().unwrap(), false).unwrap());
        if !self.kept_ahead {
            return;
        }
        loop {
            let work = stage.server.as_mut().unwrap().next_work(false).unwrap();
            let work = work.expect("somebody asks");
            let kept = matches!(work, Work::Spare(_));
            fork_for(&mut stage.server, work);
            if kept {
                let ready = stage.ready.take().unwrap();
                bequeath_os::bytes::write(&ready, &[std::io::IoSlice::new(b"!")]).unwrap();
                return;
            }
        }
    }

    fn act(&mut self) {
        let server = &mut self.stage.as_mut().unwrap().server;
        loop {
            match server.as_mut().unwrap().next_work(false) {
                Ok(Some(Work::Rest)) => {}
                // A child's end: a traced process is told of signals that it ignores.
                Err(error) if error.is_interrupted() => {}
                Ok(Some(Work::Child(request))) => return fork_for(server, Work::Child(request)),
                // The request has been served: it is time to think of the next, or the starter has ended.
                done => return std::mem::forget(done.unwrap()),
            }
        }
    }

    fn check(&mut self, death: &Death) {
        let stage = self.stage.take().unwrap();
        drop((stage.door, stage.ready));
        let told = all_said(stage.told);
        assert_eq!(stage.starter.join(), Outcome::Exited(0));
        assert!(
            matches!(told.as_str(), "a child" | "gone"),
            "the starter was told: {told:?}"
        );
        let said = all_said(stage.wire);
        let started = told == "a child";
        assert_eq!(
            said.lines().count(),
            usize::from(started),
            "the starter was told of {told:?}, and there was said: {said:?}"
        );
        self.ran += usize::from(started);
        assert!(started || !death.completed, "served, and not told");
    }
}

/// A child is killed while it tells which pages it has used.
pub struct Telling {
    /// Its parent says that it has ended.
    pub noted: bool,
    record: Option<Record>,
    pub told: usize,
}

impl Telling {
    pub fn new(noted: bool) -> Self {
        Self {
            noted,
            record: None,
            told: 0,
        }
    }
}

impl Scenario for Telling {
    fn arrange(&mut self) {
        self.record = Some(Record::new().unwrap());
    }

    fn act(&mut self) {
        self.record.as_ref().unwrap().fill();
    }

    fn check(&mut self, death: &Death) {
        let record = self.record.take().unwrap();
        if self.noted {
            record.has_ended(death.pid);
        }
        let told = record.take();
        assert!(told.is_some() || !death.completed);
        self.told += usize::from(told.is_some());
        let told = told.or_else(|| {
            // The next one may.
            record.fill();
            record.take()
        });
        let spans = told.expect("nobody can tell any more");
        // As much as any process has.
        assert!(spans.iter().map(|span| span.pages()).sum::<usize>() > 10);
    }
}
