//! The children that a template has forked: who runs, who has ended, and who was told.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;

use bequeath_os::epoll::Events;
use bequeath_os::{Deadline, PidFd};

use super::footprint::Footprint;
use super::protocol::Told;
use super::request::Request;
use super::requesters::Newborn;
use super::server::{Server, SIGKILL};

/// A child that was forked here.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) pid: u32,
    pub(super) pidfd: PidFd,
    pub(super) requester: u64,
    pub(super) tied: bool,
    /// It waits, as a child of its starter would, until the starter has asked after it: until then
    /// nobody else gets its number.
    pub(super) ended: bool,
}

/// How a child came to be.
pub(super) struct Birth {
    pub(super) tied: bool,
    pub(super) ahead: bool,
}

impl Server {
    /// Books a child that was forked for this request, and tells its starter.
    pub fn started(&mut self, request: Box<Request>, pid: u32) {
        let (requester, tied) = (request.requester, request.arrived.is_tied());
        // Closes our copies of what the child was handed.
        let Some(line) = request.into_line() else {
            return;
        };
        match self.made(pid) {
            Ok(pidfd) => {
                let birth = Birth { tied, ahead: false };
                self.book(pid, pidfd, line, requester, birth);
            }
            Err(error) => self.tell(requester, &Told::Failed(error.errno()), None),
        }
    }

    pub(super) fn book(
        &mut self,
        pid: u32,
        pidfd: PidFd,
        line: OwnedFd,
        requester: u64,
        Birth { tied, ahead }: Birth,
    ) {
        let token = self.take_tokens();
        let copy = self
            .epoll
            .add(&pidfd, token, Events::IN)
            .and_then(|()| pidfd.try_clone());
        match copy {
            Ok(copy) => {
                let newborn = Newborn { pidfd: copy, line };
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
                self.tell(requester, &Told::Started { pid, ahead }, Some(newborn));
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

    pub(super) fn reap(&mut self, token: u64) {
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
        Footprint::has_ended(pid);
        if self.requesters.contains_key(&requester) {
            self.tell(requester, &Told::Ended(pid, status.into_raw()), None);
        } else {
            self.bury(token);
        }
    }

    /// Nobody asks after this child any more.
    pub(super) fn bury(&mut self, token: u64) {
        if let Some(child) = self.children.remove(&token) {
            let _ = child.pidfd.wait(Deadline::PAST);
        }
    }

    pub(super) fn collected(&mut self, requester: u64, pid: u32) {
        let theirs = |child: &Served| child.requester == requester && child.pid == pid;
        let found = self
            .children
            .iter()
            .find(|(_, child)| theirs(child) && child.ended);
        if let Some(token) = found.map(|(token, _)| *token) {
            self.bury(token);
        }
    }
}
