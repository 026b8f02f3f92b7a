//! The template's own side: who is served, what they ask, whose children run and how they ended.
//!
//! One thread, one `epoll`. The interpreter forks between [`Server::next_work`] and
//! [`Server::started`] or [`Server::seated`]; everything else happens in here.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use bequeath_os::epoll::{Epoll, Events};
use bequeath_os::socket::{self, RecvFlags, SendFlags, MAX_DESCRIPTORS};
use bequeath_os::{Deadline, PidFd};

use super::dependence::Dependence;
use super::protocol::{Asked, Start, Told, PACKET};
use super::request::Request;
use super::spare::{Knowledge, Seat, Spare};
use crate::error::Result;
use crate::launch::Arrived;
use crate::state::State;
use crate::watch::Watch;

const SIGKILL: i32 = 9;
const DOOR: u64 = 0;
const SPARE: u64 = 1;
const TRIAL: u64 = 2;

/// Nothing happened for so long: a start or an end of the program is not what comes next.
const PAUSE: Duration = Duration::from_millis(20);
/// Where there is no such pause, what can wait has waited this many times.
const POSTPONED: u32 = 64;

/// A template's books.
///
/// # After fork
/// The child calls [`Request::become_child`], which closes all of this process's descriptors.
///
/// # If a peer dies
/// A requester's death ends its children that are tied to it; a child's death is reported.
#[derive(Debug)]
pub struct Server {
    epoll: Epoll,
    door: Option<OwnedFd>,
    requesters: BTreeMap<u64, Requester>,
    children: BTreeMap<u64, Served>,
    next_token: u64,
    own: State,
    /// Whether libraries were loaded that read the environment.
    loaded: bool,
    spare: Keeping,
    /// A child that finds out what the template may load.
    trial: Option<PidFd>,
    /// What loaded modules asked for when they were loaded.
    asked: Dependence,
    /// What is to be told to everybody who comes.
    notes: Vec<String>,
    /// Why nobody can be served.
    unfit: Option<String>,
    /// Of the fork that comes next.
    watch: Option<Watch>,
    /// Children that seem to have ended, and run.
    doubtful: Vec<u64>,
    /// A child has ended, or the trial, since the last rest.
    rest_is_due: bool,
    postponed: u32,
    ready: VecDeque<(u64, Events)>,
    packet: Vec<u8>,
}

/// A process that starts children here. Its token is even, that of its pidfd the next odd number.
#[derive(Debug)]
struct Requester {
    socket: OwnedFd,
    pidfd: PidFd,
    /// What it has no room for yet.
    backlog: VecDeque<(Vec<u8>, Option<PidFd>)>,
}

/// A child that was forked here.
#[derive(Debug)]
struct Served {
    pid: u32,
    pidfd: PidFd,
    requester: u64,
    tied: bool,
    /// It waits, as a child of its starter would, until the starter has asked after it: until then
    /// nobody else gets its number.
    ended: bool,
}

/// What the interpreter shall fork for.
#[derive(Debug)]
pub enum Work {
    /// A child that somebody waits for.
    Child(Box<Request>),
    /// One that waits for the next request, so that the next starter need not wait for the fork.
    Spare(Seat),
    /// Nothing: a child has ended and nobody asks for the next, so there is time for what can wait.
    Rest,
}

/// Whether a spare child is kept.
#[derive(Debug)]
enum Keeping {
    /// Not before somebody has started a second child.
    NotYet(u32),
    Wanted,
    /// One ended while it waited.
    NeverAgain,
    Ready(Spare),
}

impl Server {
    /// Serves those who come through the door.
    ///
    /// # Errors
    /// Without procfs; when descriptors ran out.
    pub fn new(door: OwnedFd, loaded: bool) -> Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(&door, DOOR, Events::IN)?;
        Ok(Self {
            epoll,
            door: Some(door),
            requesters: BTreeMap::new(),
            children: BTreeMap::new(),
            next_token: 2,
            own: State::capture()?,
            loaded,
            spare: Keeping::NotYet(0),
            trial: None,
            asked: Dependence::default(),
            notes: Vec::new(),
            unfit: None,
            watch: None,
            doubtful: Vec::new(),
            rest_is_due: false,
            postponed: 0,
            ready: VecDeque::new(),
            packet: vec![0; PACKET],
        })
    }

    /// Descriptors of this server, which are no business of a check for what modules left behind.
    #[must_use]
    pub fn descriptors(&self) -> Vec<RawFd> {
        let mut all = vec![self.epoll.as_fd().as_raw_fd()];
        all.extend(self.door.as_ref().map(AsRawFd::as_raw_fd));
        all
    }

    /// What to fork for next; `None` when nobody is left who could ask. There is a [`Work::Rest`] after
    /// a child's or the trial's end, with `has_more` in any pause.
    ///
    /// # Errors
    /// EINTR for a signal.
    pub fn next_work(&mut self, has_more: bool) -> Result<Option<Work>> {
        loop {
            while let Some((token, events)) = self.ready.pop_front() {
                if let Some(request) = self.handle(token, events) {
                    if let Some(request) = self.watched(request) {
                        return Ok(Some(Work::Child(request)));
                    }
                }
            }
            if self.door.is_none() && self.requesters.is_empty() {
                self.end_trial();
                return Ok(None);
            }
            if matches!(self.spare, Keeping::Wanted) {
                // Only when there is nothing else to do.
                self.ready = self.epoll.look()?.into();
                if self.ready.is_empty() {
                    match self.before_fork().and_then(|()| Seat::new()) {
                        Ok(seat) => return Ok(Some(Work::Spare(seat))),
                        // No room for a luxury.
                        Err(_) => self.dismiss_spare(),
                    }
                }
            } else if !self.doubtful.is_empty() {
                self.ready = self.epoll.wait_for(PAUSE)?.into();
                let doubtful = std::mem::take(&mut self.doubtful);
                doubtful.into_iter().for_each(|token| self.reap(token));
            } else if has_more || self.rest_is_due {
                self.ready = self.epoll.wait_for(PAUSE)?.into();
                self.postponed += 1;
                if self.ready.is_empty() || self.postponed > POSTPONED {
                    self.rest_is_due = false;
                    self.postponed = 0;
                    return Ok(Some(Work::Rest));
                }
            } else {
                self.ready = self.epoll.wait()?.into();
            }
        }
    }

    /// To be called right before a fork that [`next_work`](Self::next_work) did not ask for.
    ///
    /// # Errors
    /// When descriptors ran out.
    pub fn before_fork(&mut self) -> Result<()> {
        self.watch = Some(Watch::before_fork()?);
        Ok(())
    }

    fn watched(&mut self, request: Request) -> Option<Box<Request>> {
        let request = Box::new(request);
        match self.before_fork() {
            Ok(()) => Some(request),
            Err(error) => {
                self.failed(request, error.errno());
                None
            }
        }
    }

    /// The child that was forked just now.
    fn made(&mut self, pid: u32) -> Result<PidFd> {
        match self.watch.take() {
            Some(watch) => watch.in_parent(pid),
            None => Ok(PidFd::open(pid)?),
        }
    }

    fn handle(&mut self, token: u64, events: Events) -> Option<Request> {
        if token == DOOR {
            self.admit();
            return None;
        }
        if self.children.contains_key(&token) {
            self.reap(token);
            return None;
        }
        if token == TRIAL {
            self.end_trial();
            self.rest_is_due = true;
            return None;
        }
        if token == SPARE {
            // It should have waited. Whatever ended it would end the next one.
            self.dismiss_spare();
            return None;
        }
        let requester = token & !1;
        if token != requester {
            self.forget(requester);
            return None;
        }
        if events.contains(Events::OUT) {
            self.flush(requester);
        }
        if !events.intersects(Events::IN | Events::HUP | Events::ERR) {
            return None;
        }
        self.hear(requester)
    }

    /// Somebody new, or nobody any more.
    fn admit(&mut self) {
        let Some(door) = &self.door else { return };
        match socket::recv(door, &mut self.packet, 2, RecvFlags::DONTWAIT) {
            Ok(received) if received.len > 0 => {
                let hello = Asked::decode(&self.packet[..received.len]);
                if let (Ok(Asked::Hello), Ok([socket, pidfd])) =
                    (hello, <[OwnedFd; 2]>::try_from(received.fds))
                {
                    // Without room for one more, the newcomer sees its socket closed.
                    let _ = self.enter(socket, PidFd::from_fd(pidfd));
                }
            }
            Err(error) if error.would_block() || error.is_interrupted() => {}
            _ => self.door = None,
        }
    }

    fn enter(&mut self, socket: OwnedFd, pidfd: PidFd) -> Result<()> {
        let token = self.take_tokens();
        self.epoll.add(&pidfd, token + 1, Events::IN)?;
        self.epoll.add(&socket, token, Events::IN)?;
        self.requesters.insert(
            token,
            Requester {
                socket,
                pidfd,
                backlog: VecDeque::new(),
            },
        );
        for note in self.notes.clone() {
            self.tell(token, &Told::Note(note), None);
        }
        Ok(())
    }

    fn take_tokens(&mut self) -> u64 {
        self.next_token += 2;
        self.next_token
    }

    fn hear(&mut self, token: u64) -> Option<Request> {
        let requester = self.requesters.get(&token)?;
        let packet = &mut self.packet;
        let received = match socket::recv(
            &requester.socket,
            packet,
            MAX_DESCRIPTORS,
            RecvFlags::DONTWAIT,
        ) {
            Ok(received) if received.len > 0 => received,
            Err(error) if error.would_block() || error.is_interrupted() => return None,
            _ => {
                self.forget(token);
                return None;
            }
        };
        if received.truncated {
            self.tell(token, &Told::Failed(EMFILE), None);
            return None;
        }
        match Asked::decode(&self.packet[..received.len]) {
            Ok(Asked::Start(start)) => self.serve(token, *start, received.len, received.fds),
            Ok(Asked::Collected(pid)) => {
                self.collected(token, pid);
                None
            }
            Ok(Asked::Goodbye) => {
                self.say_goodbye(token);
                None
            }
            _ => {
                self.forget(token);
                None
            }
        }
    }

    /// Lets the spare child have it, or returns it to be forked for.
    fn serve(
        &mut self,
        token: u64,
        start: Start,
        len: usize,
        fds: Vec<OwnedFd>,
    ) -> Option<Request> {
        let plan = match self.own.plan(&start.state, self.loaded) {
            Ok(plan) => plan,
            Err(what) => {
                self.tell(token, &Told::Refused(format!("{what} differs")), None);
                return None;
            }
        };
        let own = &self.own.environment;
        let differs = self
            .asked
            .differs(own, &start.state.environment, fds.first());
        if let Some(reason) = self.unfit.clone().or_else(|| differs.map(Into::into)) {
            self.tell(token, &Told::Refused(reason), None);
            return None;
        }
        let (spare, keeping) = match std::mem::replace(&mut self.spare, Keeping::NeverAgain) {
            Keeping::NotYet(0) => (None, Keeping::NotYet(1)),
            Keeping::NotYet(_) | Keeping::Wanted => (None, Keeping::Wanted),
            Keeping::Ready(spare) => (Some(spare), Keeping::Wanted),
            Keeping::NeverAgain => (None, Keeping::NeverAgain),
        };
        self.spare = keeping;
        if let Some(spare) = spare {
            let _ = self.epoll.remove(&spare.pidfd);
            if spare.take(&self.packet[..len], &fds) {
                let tied = Arrived::tells_tie(&start.header);
                drop(fds);
                self.book(spare.pid, spare.pidfd, token, tied);
                return None;
            }
            spare.end();
        }
        let request = Request::new(token, plan, start, self.own.environment.clone(), fds);
        match request {
            Ok(request) => Some(request),
            Err(error) => {
                self.tell(token, &Told::Refused(error.to_string()), None);
                None
            }
        }
    }

    /// The spare child was forked.
    pub fn seated(&mut self, seat: Seat, pid: u32) {
        self.spare = match self.made(pid) {
            Ok(pidfd) if self.epoll.add(&pidfd, SPARE, Events::IN).is_ok() => {
                Keeping::Ready(seat.taken_by(pid, pidfd))
            }
            _ => Keeping::NeverAgain,
        };
    }

    /// No spare child could be forked, or none that stays.
    pub fn dismiss_spare(&mut self) {
        self.watch = None;
        if let Keeping::Ready(spare) = std::mem::replace(&mut self.spare, Keeping::NeverAgain) {
            let _ = self.epoll.remove(&spare.pidfd);
            spare.end();
        }
    }

    /// The template has loaded more: a spare child that was forked before gives way to the next.
    pub fn renew_spare(&mut self) {
        if matches!(self.spare, Keeping::Ready(_)) {
            self.dismiss_spare();
            self.spare = Keeping::Wanted;
        }
    }

    /// Watches a child that was forked to find out what may be loaded; its end brings a rest.
    ///
    /// # Errors
    /// When descriptors ran out; nobody watches it then.
    pub fn watch_trial(&mut self, pid: u32) -> Result<()> {
        self.end_trial();
        let pidfd = self.made(pid)?;
        self.epoll.add(&pidfd, TRIAL, Events::IN)?;
        self.trial = Some(pidfd);
        Ok(())
    }

    /// Whether that child still runs.
    #[must_use]
    pub const fn is_trying(&self) -> bool {
        self.trial.is_some()
    }

    fn end_trial(&mut self) {
        if let Some(pidfd) = self.trial.take() {
            let _ = self.epoll.remove(&pidfd);
            let _ = pidfd.send_signal(SIGKILL);
            let _ = pidfd.wait(Deadline::NEVER);
        }
    }

    /// Modules that this template has loaded asked for this: who would give another answer is not
    /// served.
    pub fn depend_on(&mut self, what: Dependence) {
        self.asked.join(what);
    }

    /// Tells this to everybody who starts children here, once.
    pub fn note(&mut self, text: &str) {
        self.notes.push(text.into());
        let all: Vec<u64> = self.requesters.keys().copied().collect();
        for token in all {
            self.tell(token, &Told::Note(text.into()), None);
        }
    }

    /// This template must not be forked from, for this reason: nobody is served.
    pub fn refuse_all(&mut self, reason: &str) {
        self.unfit = Some(reason.into());
    }

    /// In the spare child: what this server knows that [`Seat::wait`] needs.
    #[must_use]
    pub fn into_knowledge(self) -> Knowledge {
        let knowledge = Knowledge {
            own: self.own.clone(),
            loaded: self.loaded,
        };
        // Its descriptors are closed by range.
        std::mem::forget(self);
        knowledge
    }

    /// Books a child that was forked for this request, and tells its starter.
    pub fn started(&mut self, request: Box<Request>, pid: u32) {
        let (requester, tied) = (request.requester, request.arrived.is_tied());
        // Closes our copies of what the child was handed.
        drop(request);
        match self.made(pid) {
            Ok(pidfd) => self.book(pid, pidfd, requester, tied),
            Err(error) => self.tell(requester, &Told::Failed(error.errno()), None),
        }
    }

    fn book(&mut self, pid: u32, pidfd: PidFd, requester: u64, tied: bool) {
        let token = self.take_tokens();
        let copy = self
            .epoll
            .add(&pidfd, token, Events::IN)
            .and_then(|()| pidfd.try_clone());
        match copy {
            Ok(copy) => {
                self.children.insert(
                    token,
                    Served {
                        pid,
                        pidfd,
                        requester,
                        tied,
                        ended: false,
                    },
                );
                self.tell(requester, &Told::Started(pid), Some(copy));
            }
            Err(error) => {
                // Not watched, so it must not run; its starter is told why.
                let _ = pidfd.send_signal(SIGKILL);
                let _ = pidfd.wait(Deadline::NEVER);
                self.tell(requester, &Told::Failed(error.raw()), None);
            }
        }
    }

    /// Tells the starter that `fork` failed.
    pub fn failed(&mut self, request: Box<Request>, errno: i32) {
        self.watch = None;
        let requester = request.requester;
        drop(request);
        self.tell(requester, &Told::Failed(errno), None);
    }

    fn reap(&mut self, token: u64) {
        let Some(child) = self.children.get_mut(&token) else {
            return;
        };
        let status = match child.pidfd.peek() {
            Ok(Some(status)) => status,
            Ok(None) => {
                // A stand-in's process that closed everything and runs on: asked after now and then.
                let _ = self.epoll.remove(&child.pidfd);
                self.doubtful.push(token);
                return;
            }
            Err(_) => return,
        };
        let _ = self.epoll.remove(&child.pidfd);
        self.rest_is_due = self.loaded;
        child.ended = true;
        let (requester, pid) = (child.requester, child.pid);
        if self.requesters.contains_key(&requester) {
            self.tell(requester, &Told::Ended(pid, status.into_raw()), None);
        } else {
            self.bury(token);
        }
    }

    /// Nobody asks after this child any more.
    fn bury(&mut self, token: u64) {
        if let Some(child) = self.children.remove(&token) {
            let _ = child.pidfd.wait(Deadline::PAST);
        }
    }

    fn collected(&mut self, requester: u64, pid: u32) {
        let theirs = |child: &Served| child.requester == requester && child.pid == pid;
        let found = self
            .children
            .iter()
            .find(|(_, child)| theirs(child) && child.ended);
        if let Some(token) = found.map(|(token, _)| *token) {
            self.bury(token);
        }
    }

    /// The requester is gone: its children that are tied to it end. (Their own ties do the same; this is
    /// for those who closed all their descriptors.)
    fn forget(&mut self, token: u64) {
        let Some(requester) = self.requesters.remove(&token) else {
            return;
        };
        let _ = self.epoll.remove(&requester.pidfd);
        let _ = self.epoll.remove(&requester.socket);
        let theirs: Vec<u64> = self
            .children
            .iter()
            .filter(|(_, child)| child.requester == token)
            .map(|(token, _)| *token)
            .collect();
        for token in theirs {
            match self.children.get(&token) {
                Some(child) if child.ended => self.bury(token),
                Some(child) if child.tied => {
                    let _ = child.pidfd.send_signal(SIGKILL);
                }
                _ => {}
            }
        }
    }

    fn say_goodbye(&mut self, token: u64) {
        if self.door.is_some() {
            // The door's other end may have closed a moment ago.
            self.admit();
        }
        if self.door.is_some() || self.requesters.len() > 1 {
            self.tell(token, &Told::Staying, None);
        } else {
            self.forget(token);
        }
    }

    fn tell(&mut self, token: u64, told: &Told, pidfd: Option<PidFd>) {
        if let Some(requester) = self.requesters.get_mut(&token) {
            requester.backlog.push_back((told.encode(), pidfd));
            self.flush(token);
        }
    }

    /// Sends what there is room for; a starter that does not listen must not stop the others.
    fn flush(&mut self, token: u64) {
        let Some(requester) = self.requesters.get_mut(&token) else {
            return;
        };
        while let Some((packet, pidfd)) = requester.backlog.front() {
            let fds: Vec<BorrowedFd<'_>> = pidfd.iter().map(PidFd::as_fd).collect();
            let bytes = [IoSlice::new(packet)];
            match socket::send(&requester.socket, &bytes, &fds, SendFlags::DONTWAIT) {
                Err(error) if error.is_interrupted() => {}
                Err(error) if error.would_block() => {
                    let wanted = Events::IN | Events::OUT;
                    let _ = self.epoll.modify(&requester.socket, token, wanted);
                    return;
                }
                // Sent, or nobody listens, which the next wait reports.
                _ => {
                    requester.backlog.pop_front();
                }
            }
        }
        let _ = self.epoll.modify(&requester.socket, token, Events::IN);
    }
}

const EMFILE: i32 = 24;
