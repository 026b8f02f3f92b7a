//! The template's own side: who is served, what they ask, whose children run and how they ended.
//!
//! One thread, one `epoll`. The interpreter forks between [`Server::next_request`] and
//! [`Server::started`]; everything else happens in here.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;

use bequeath_os::epoll::{Epoll, Events};
use bequeath_os::socket::{self, RecvFlags, SendFlags, MAX_DESCRIPTORS};
use bequeath_os::{Deadline, PidFd};

use super::protocol::{Asked, Carried, Start, Told, PACKET};
use super::request::Request;
use crate::error::{Error, Result};
use crate::launch::Arrived;
use crate::state::State;

const SIGKILL: i32 = 9;
const DOOR: u64 = 0;

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

    /// The next request; `None` when nobody is left who could ask.
    ///
    /// # Errors
    /// EINTR for a signal.
    pub fn next_request(&mut self) -> Result<Option<Request>> {
        loop {
            while let Some((token, events)) = self.ready.pop_front() {
                if let Some(request) = self.handle(token, events) {
                    return Ok(Some(request));
                }
            }
            if self.door.is_none() && self.requesters.is_empty() {
                return Ok(None);
            }
            self.ready = self.epoll.wait()?.into();
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
            Ok(Asked::Start(start)) => match self.prepare(token, *start, received.fds) {
                Ok(request) => Some(request),
                Err(Error::Refused { reason }) => {
                    self.tell(token, &Told::Refused(reason), None);
                    None
                }
                Err(error) => {
                    self.tell(token, &Told::Refused(error.to_string()), None);
                    None
                }
            },
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

    fn prepare(&self, token: u64, start: Start, fds: Vec<OwnedFd>) -> Result<Request> {
        let plan = self
            .own
            .plan(&start.state, self.loaded)
            .map_err(|what| Error::Refused {
                reason: format!("{what} differs"),
            })?;
        let carried = Carried::sort(&start, fds)?;
        let payload = match &carried.payload {
            Some(file) => bequeath_os::handover::content(file.as_fd())?,
            None => start.payload.unwrap_or_default(),
        };
        let arrived = Arrived::from_parts(&start.header, carried.launch, payload)?;
        Ok(Request {
            requester: token,
            plan,
            environment: start.state.environment,
            own_environment: self.own.environment.clone(),
            directory: carried.directory,
            streams: carried.streams,
            arrived,
        })
    }

    /// Books a child that was forked for this request, and tells its starter.
    pub fn started(&mut self, request: Request, pid: u32) {
        let token = self.take_tokens();
        let tied = request.arrived.is_tied();
        let requester = request.requester;
        // Closes our copies of what the child was handed.
        drop(request);
        let booked = PidFd::open(pid).and_then(|pidfd| {
            self.epoll.add(&pidfd, token, Events::IN)?;
            let copy = pidfd.try_clone()?;
            Ok((pidfd, copy))
        });
        match booked {
            Ok((pidfd, copy)) => {
                self.children.insert(
                    token,
                    Served {
                        pid,
                        pidfd,
                        requester,
                        tied,
                    },
                );
                self.tell(requester, &Told::Started(pid), Some(copy));
            }
            Err(error) => {
                // Not watched, so it must not run; its starter is told why.
                if let Ok(pidfd) = PidFd::open(pid) {
                    let _ = pidfd.send_signal(SIGKILL);
                    let _ = pidfd.wait(Deadline::NEVER);
                }
                self.tell(requester, &Told::Failed(error.raw()), None);
            }
        }
    }

    /// Tells the starter that `fork` failed.
    pub fn failed(&mut self, request: Request, errno: i32) {
        let requester = request.requester;
        drop(request);
        self.tell(requester, &Told::Failed(errno), None);
    }

    fn reap(&mut self, token: u64) {
        let Some(child) = self.children.get(&token) else {
            return;
        };
        let Ok(Some(status)) = child.pidfd.wait(Deadline::PAST) else {
            return;
        };
        let _ = self.epoll.remove(&child.pidfd);
        let (requester, pid) = (child.requester, child.pid);
        self.children.remove(&token);
        self.tell(requester, &Told::Ended(pid, status.into_raw()), None);
    }

    /// The requester is gone: its children that are tied to it end. (Their own ties do the same; this is
    /// for those who closed all their descriptors.)
    fn forget(&mut self, token: u64) {
        let Some(requester) = self.requesters.remove(&token) else {
            return;
        };
        let _ = self.epoll.remove(&requester.pidfd);
        let _ = self.epoll.remove(&requester.socket);
        for child in self.children.values() {
            if child.requester == token && child.tied {
                let _ = child.pidfd.send_signal(SIGKILL);
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
            self.requesters.remove(&token);
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
