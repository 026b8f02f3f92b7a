#![allow(unsafe_code)]
//! A child that was forked ahead of its request, so that no starter waits for a fork.
//!
//! It is an ordinary child of the template that waits at a socket. The template forwards the next
//! request to it as it came, and hands the other end to the starter, to whom the spare says that it is
//! awake: from then on signals sent to the child are kept for it, and those that came while it was
//! nobody are gone.
//!
//! # Safety invariants
//! A spare uses no descriptor that the template owned: its owners were forgotten before the spare
//! closed them by range.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use bequeath_os::poll::{self, Events};
use bequeath_os::socket::{self, RecvFlags, SendFlags, MAX_DESCRIPTORS};
use bequeath_os::{attributes, Deadline, PidFd};

use super::footprint::Footprint;
use super::go_ahead;
use super::protocol::Asked;
use super::request::{Become, Request};
use super::server::Server;
use crate::error::{Error, Result};
use crate::state::State;
use crate::watch;

const SIGKILL: i32 = 9;

/// The two ends at which a spare will wait, before the fork.
#[derive(Debug)]
pub struct Seat {
    inside: OwnedFd,
    outside: OwnedFd,
}

/// A spare child, as its template holds it.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) pid: u32,
    pub(super) pidfd: PidFd,
    socket: OwnedFd,
}

/// What a spare must know of its template.
#[derive(Debug)]
pub struct Knowledge {
    pub(super) own: State,
    pub(super) loaded: bool,
    pub(super) footprint: Footprint,
}

impl Seat {
    pub(super) fn new() -> Result<Self> {
        let (inside, outside) = go_ahead::line()?;
        Ok(Self { inside, outside })
    }

    pub(super) fn taken_by(self, pid: u32, pidfd: PidFd) -> Spare {
        Spare {
            pid,
            pidfd,
            socket: self.outside,
        }
    }

    /// In the spare child: waits for a request and becomes what it asks for; `None` when the template
    /// has ended, or nobody is left who wants the child.
    ///
    /// # Errors
    /// What the kernel refused against expectation.
    pub fn wait(self, knowledge: Knowledge, also_keep: &[RawFd]) -> Result<Option<Become>> {
        let Self { inside, outside } = self;
        std::mem::forget(outside);
        let mut keep = also_keep.to_vec();
        keep.push(inside.as_raw_fd());
        keep.extend(watch::own());
        keep.sort_unstable();
        // SAFETY: the server was turned into `knowledge`, which forgot its descriptors, and the
        // outer end was forgotten above.
        unsafe { attributes::close_all_but(&keep) }?;
        let asked = || poll::is_ready(inside.as_fd(), Events::IN).unwrap_or(true);
        knowledge.footprint.make(asked);
        let Some((packet, fds)) = next_packet(&inside) else {
            return Ok(None);
        };
        attributes::forget_pending_signals();
        go_ahead::say(&inside);
        let Asked::Start(start) = Asked::decode(&packet)? else {
            return Err(Error::Malformed { what: "request" });
        };
        let plan = knowledge
            .own
            .plan(&start.state, knowledge.loaded)
            .map_err(|what| Error::Refused {
                reason: what.into(),
            })?;
        let own = knowledge.own.environment;
        let request = Request::new(0, plan, *start, own, fds, inside, None)?;
        request.become_starter(also_keep).map(Some)
    }
}

/// Waits for a packet; `None` at the end of the stream. It takes no more memory than the packet: each page
/// that is written to has to be copied from the template's first.
fn next_packet(inside: &OwnedFd) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    loop {
        let mut packet = match socket::next_length(inside) {
            Ok(0) => return None,
            Ok(length) => vec![0; length],
            Err(error) if error.is_interrupted() => continue,
            Err(_) => return None,
        };
        match socket::recv(inside, &mut packet, MAX_DESCRIPTORS, RecvFlags::empty()) {
            Ok(received) if received.len == packet.len() => return Some((packet, received.fds)),
            Err(error) if error.is_interrupted() => {}
            _ => return None,
        }
    }
}

/// In a child that was forked to try what may be loaded: lets go of what is the template's, but for the
/// standard streams and `also_keep`.
///
/// # Errors
/// What the kernel refused against expectation.
pub fn leave_template(server: Server, also_keep: &[RawFd]) -> Result<()> {
    std::mem::forget(server.into_knowledge());
    let mut keep = also_keep.to_vec();
    keep.extend(watch::own());
    keep.sort_unstable();
    // SAFETY: the server was turned into `knowledge`, which forgot its descriptors.
    unsafe { attributes::close_all_but(&keep) }?;
    Ok(())
}

impl Spare {
    /// Forwards a request; false when the spare is not there to take it.
    pub(super) fn forward(&self, packet: &[u8], fds: &[OwnedFd]) -> bool {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(OwnedFd::as_fd).collect();
        let packet = [IoSlice::new(packet)];
        socket::send(&self.socket, &packet, &fds, SendFlags::DONTWAIT).is_ok()
    }

    /// What its starter gets of it, and its number: the line at which it sat is that of its word.
    pub(super) fn given_away(self) -> (u32, PidFd, OwnedFd) {
        (self.pid, self.pidfd, self.socket)
    }

    /// Ends it; nobody has been told of it.
    pub(super) fn end(self) {
        let _ = self.pidfd.send_signal(SIGKILL);
        let _ = self.pidfd.wait(Deadline::NEVER);
    }
}
