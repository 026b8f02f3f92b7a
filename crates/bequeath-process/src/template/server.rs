//! The template's own side: what to fork for next, and the child that is kept ahead.
//!
//! One thread, one `epoll`. The interpreter forks between [`Server::next_work`] and
//! [`Server::started`] or [`Server::seated`]; everything else happens in here. Those who ask are the
//! affair of `requesters`, the children that run that of `served`.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use bequeath_os::epoll::{Epoll, Events};
use bequeath_os::{Deadline, PidFd};

use super::ahead::{Ahead, Next};
use super::dependence::Dependence;
use super::footprint::Footprint;
use super::go_ahead;
use super::protocol::{Start, Told, PACKET};
use super::request::Request;
use super::requesters::Requester;
use super::served::{Birth, Served};
use super::spare::{Knowledge, Seat, Spare};
use crate::error::Result;
use crate::launch::Arrived;
use crate::state::State;
use crate::watch::Watch;

pub(super) const SIGKILL: i32 = 9;
const DOOR: u64 = 0;
const SPARE: u64 = 1;
const TRIAL: u64 = 2;

/// Nothing happened for so long: a start or an end of the program is not what comes next.
const PAUSE: Duration = Duration::from_millis(20);
/// Those who start several children at a time have done so by then, and have their first answer.
const LATER: Duration = Duration::from_millis(4);
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
    pub(super) epoll: Epoll,
    pub(super) door: Option<OwnedFd>,
    pub(super) requesters: BTreeMap<u64, Requester>,
    pub(super) children: BTreeMap<u64, Served>,
    next_token: u64,
    own: State,
    /// Whether libraries were loaded that read the environment.
    pub(super) loaded: bool,
    ahead: Ahead,
    footprint: Footprint,
    /// A child that finds out what the template may load.
    trial: Option<PidFd>,
    /// What loaded modules asked for when they were loaded.
    asked: Dependence,
    /// What is to be told to everybody who comes.
    pub(super) notes: Vec<String>,
    /// Why nobody can be served.
    unfit: Option<String>,
    /// Of the fork that comes next.
    pub(super) watch: Option<Watch>,
    /// Children that seem to have ended, and run.
    pub(super) doubtful: Vec<u64>,
    /// A child has ended, or the trial, since the last rest.
    pub(super) rest_is_due: bool,
    postponed: u32,
    ready: VecDeque<(u64, Events)>,
    pub(super) packet: Vec<u8>,
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
            ahead: Ahead::new(),
            footprint: Footprint::new(),
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
            if self.ahead.next() == Next::Now {
                // Only when there is nothing else to do.
                self.ready = self.epoll.look()?.into();
                if self.ready.is_empty() {
                    self.footprint.learn();
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
            } else if self.ahead.next() == Next::Later {
                self.ready = self.epoll.wait_for(LATER)?.into();
                if self.ready.is_empty() {
                    self.ahead.pause();
                }
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
    pub(super) fn made(&mut self, pid: u32) -> Result<PidFd> {
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

    pub(super) fn take_tokens(&mut self) -> u64 {
        self.next_token += 2;
        self.next_token
    }

    /// Lets the spare child have it, or returns it to be forked for.
    pub(super) fn serve(
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
        let spare = if start.fresh {
            None
        } else {
            self.ahead.take(start.hurried)
        };
        if let Some(spare) = spare {
            let _ = self.epoll.remove(&spare.pidfd);
            if spare.forward(&self.packet[..len], &fds) {
                let tied = Arrived::tells_tie(&start.header);
                drop(fds);
                let (pid, pidfd, line) = spare.given_away();
                self.book(pid, pidfd, line, token, Birth { tied, ahead: true });
                return None;
            }
            spare.end();
        }
        let request = go_ahead::line().and_then(|(inside, outside)| {
            let own = self.own.environment.clone();
            Request::new(token, plan, start, own, fds, inside, Some(outside))
        });
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
        match self.made(pid) {
            Ok(pidfd) if self.epoll.add(&pidfd, SPARE, Events::IN).is_ok() => {
                self.ahead.put(seat.taken_by(pid, pidfd));
            }
            _ => self.dismiss_spare(),
        }
    }

    /// No spare child could be forked, or none that stays.
    pub fn dismiss_spare(&mut self) {
        self.watch = None;
        let spares = self.ahead.give_up();
        self.end_spares(spares);
    }

    /// The template has loaded more: a spare child that was forked before gives way to the next.
    pub fn renew_spare(&mut self) {
        self.footprint.ask_again();
        let spares = self.ahead.renew();
        self.end_spares(spares);
    }

    fn end_spares(&self, spares: VecDeque<Spare>) {
        for spare in spares {
            let _ = self.epoll.remove(&spare.pidfd);
            spare.end();
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

    /// This template must not be forked from, for this reason: nobody is served.
    pub fn refuse_all(&mut self, reason: &str) {
        self.unfit = Some(reason.into());
    }

    /// In the spare child: what this server knows that [`Seat::wait`] needs.
    #[must_use]
    pub fn into_knowledge(mut self) -> Knowledge {
        let knowledge = Knowledge {
            own: self.own.clone(),
            loaded: self.loaded,
            footprint: std::mem::take(&mut self.footprint),
        };
        // Its descriptors are closed by range.
        std::mem::forget(self);
        knowledge
    }
}
