//! Those who start children at a template: they come through the door, ask, and go.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bequeath_os::epoll::Events;
use bequeath_os::socket::{self, RecvFlags, SendFlags, MAX_DESCRIPTORS};
use bequeath_os::PidFd;

use super::protocol::{Asked, Told};
use super::request::Request;
use super::server::{Server, SIGKILL};
use crate::broken::{self, Mistake};
use crate::error::Result;

const EMFILE: i32 = 24;

/// What a starter is handed of its child: the process, and the line by which to tell it to go ahead.
#[derive(Debug)]
pub(super) struct Newborn {
    pub(super) pidfd: PidFd,
    pub(super) line: OwnedFd,
}

impl Newborn {
    fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.pidfd.as_fd(), self.line.as_fd()]
    }
}

/// A process that starts children here. Its token is even, that of its pidfd the next odd number.
#[derive(Debug)]
pub(super) struct Requester {
    pub(super) socket: OwnedFd,
    pub(super) pidfd: PidFd,
    /// What it has no room for yet.
    pub(super) backlog: VecDeque<(Vec<u8>, Option<Newborn>)>,
}

impl Server {
    /// Somebody new, or nobody any more.
    pub(super) fn admit(&mut self) {
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

    pub(super) fn enter(&mut self, socket: OwnedFd, pidfd: PidFd) -> Result<()> {
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

    pub(super) fn hear(&mut self, token: u64) -> Option<Request> {
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

    /// Tells this to everybody who starts children here, once.
    pub fn note(&mut self, text: &str) {
        self.notes.push(text.into());
        let all: Vec<u64> = self.requesters.keys().copied().collect();
        for token in all {
            self.tell(token, &Told::Note(text.into()), None);
        }
    }

    /// The requester is gone: its children that are tied to it end. (Their own ties do the same; this is
    /// for those who closed all their descriptors.)
    pub(super) fn forget(&mut self, token: u64) {
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

    pub(super) fn say_goodbye(&mut self, token: u64) {
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

    pub(super) fn tell(&mut self, token: u64, told: &Told, child: Option<Newborn>) {
        if let Some(requester) = self.requesters.get_mut(&token) {
            requester.backlog.push_back((told.encode(), child));
            self.flush(token);
        }
    }

    /// Sends what there is room for; a starter that does not listen must not stop the others.
    pub(super) fn flush(&mut self, token: u64) {
        let Some(requester) = self.requesters.get_mut(&token) else {
            return;
        };
        while let Some((packet, child)) = requester.backlog.front() {
            let fds: Vec<BorrowedFd<'_>> = child.iter().flat_map(Newborn::descriptors).collect();
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
                    let sent = requester.backlog.pop_front();
                    if broken::is(Mistake::LineKept) {
                        std::mem::forget(sent);
                    }
                }
            }
        }
        let _ = self.epoll.modify(&requester.socket, token, Events::IN);
    }
}
