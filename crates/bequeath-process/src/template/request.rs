#![allow(unsafe_code)]
//! One child to be made: what the template knows of it before the fork, and its first steps after.
//!
//! # Safety invariants
//! After the fork the child never uses a descriptor that the template owned: the values that owned
//! them are forgotten, not dropped.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use bequeath_os::attributes;

use super::footprint;
use super::go_ahead;
use super::protocol::{Carried, Start};
use super::server::Server;
use crate::error::Result;
use crate::launch::Arrived;
use crate::state::{Environment, Plan};
use crate::watch;

/// A child that a requester wants.
#[derive(Debug)]
pub struct Request {
    pub(super) requester: u64,
    pub(super) plan: Plan,
    pub(super) environment: Environment,
    pub(super) own_environment: Environment,
    pub(super) directory: OwnedFd,
    pub(super) streams: [Option<OwnedFd>; 3],
    pub(super) arrived: Arrived,
    /// Where the child hears that it may go ahead.
    inside: OwnedFd,
    /// Where its starter says so, as long as this has it.
    outside: Option<OwnedFd>,
}

/// What is left for the interpreter to do in the child.
#[derive(Debug)]
pub struct Become {
    /// What the starter handed over.
    pub arrived: Arrived,
    /// The environment to have, if it is not the template's.
    pub environment: Option<Environment>,
    /// Signals to ignore, signal 1 in the lowest bit.
    pub ignore: u64,
    /// Signals to ignore no longer.
    pub heed: u64,
    plan: Plan,
    line: OwnedFd,
}

impl Request {
    pub(super) fn new(
        requester: u64,
        plan: Plan,
        start: Start,
        own_environment: Environment,
        fds: Vec<OwnedFd>,
        inside: OwnedFd,
        outside: Option<OwnedFd>,
    ) -> Result<Self> {
        let carried = Carried::sort(&start, fds)?;
        let payload = match &carried.payload {
            Some(file) => bequeath_os::handover::content(file.as_fd())?,
            None => start.payload.unwrap_or_default(),
        };
        Ok(Self {
            requester,
            plan,
            environment: start.state.environment,
            own_environment,
            directory: carried.directory,
            streams: carried.streams,
            arrived: Arrived::from_parts(&start.header, carried.launch, payload)?,
            inside,
            outside,
        })
    }

    /// After the fork, in the template: closes its copies of what the child was handed; what is left is
    /// the end that the starter gets.
    pub(super) fn into_line(self) -> Option<OwnedFd> {
        self.outside
    }

    /// The child's first steps: the starter's streams, directory, limits and the rest; the template's
    /// descriptors are closed, but for `also_keep`. Ends with signals still blocked as in the template; see
    /// [`LastStep`].
    ///
    /// # Errors
    /// What the kernel refused against expectation.
    pub fn become_child(mut self, server: Server, also_keep: &[RawFd]) -> Result<Become> {
        // Everything the template owned is closed below, by range.
        std::mem::forget((server, self.outside.take()));
        self.become_starter(also_keep)
    }

    /// The same in a child that was forked before there was a request.
    pub(super) fn become_starter(self, also_keep: &[RawFd]) -> Result<Become> {
        let streams = self
            .streams
            .each_ref()
            .map(|fd| fd.as_ref().map(AsRawFd::as_raw_fd));
        attributes::set_standard_streams(streams)?;
        attributes::set_working_directory(self.directory.as_fd())?;
        std::mem::forget((self.streams, self.directory));
        let mut keep: Vec<RawFd> = self.arrived.descriptors().collect();
        keep.extend(also_keep);
        keep.extend(watch::own());
        keep.push(self.inside.as_raw_fd());
        keep.sort_unstable();
        // SAFETY: whoever owned the others was forgotten: the server and its sockets and pidfds, the
        // request's own; a template that had any more would not have been forked from.
        unsafe { attributes::close_all_but(&keep) }?;
        self.plan.apply()?;
        footprint::become_teller();
        Ok(Become {
            environment: (self.environment != self.own_environment).then_some(self.environment),
            arrived: self.arrived,
            ignore: self.plan.ignore,
            heed: self.plan.heed,
            plan: self.plan,
            line: self.inside,
        })
    }
}

impl Become {
    /// What arrived, and the last step.
    #[must_use]
    pub fn split(self) -> (Arrived, LastStep) {
        let (plan, line) = (self.plan, self.line);
        (self.arrived, LastStep { plan, line })
    }
}

/// The last step of a child, when all that is its own affair is in place.
#[derive(Debug)]
pub struct LastStep {
    plan: Plan,
    line: OwnedFd,
}

impl LastStep {
    /// Waits until the starter has heard of this process; from then on signals arrive as it wanted it. False when
    /// the starter, or the template before it told the starter, is gone: then this process has to end at once.
    ///
    /// # Errors
    /// Never, in practice.
    pub fn take(self) -> Result<bool> {
        if !go_ahead::comes(&self.line) {
            return Ok(false);
        }
        drop(self.line);
        self.plan.apply_signal_mask()?;
        Ok(true)
    }
}
