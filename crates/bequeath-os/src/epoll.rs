//! Waiting for many descriptors, named by tokens, at a cost that does not grow with their number.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData};

pub use rustix::event::epoll::EventFlags as Events;

use crate::errno::{Named, Result};

/// A set of watched descriptors.
///
/// # After fork
/// Shared with the parent: a forked child closes it and makes its own.
///
/// # If a peer dies
/// Its sockets and its pidfd report it.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// When descriptors ran out.
    pub fn new() -> Result<Self> {
        let fd = epoll::create(CreateFlags::CLOEXEC).named("epoll_create1")?;
        Ok(Self(fd))
    }

    /// Watches a descriptor; `token` names it in what [`wait`](Self::wait) returns.
    ///
    /// # Errors
    /// EPERM for a regular file, ENOSPC, EEXIST.
    pub fn add(&self, fd: impl AsFd, token: u64, events: Events) -> Result<()> {
        epoll::add(&self.0, fd, EventData::new_u64(token), events).named("epoll_ctl")
    }

    /// Watches for something else from now on.
    ///
    /// # Errors
    /// ENOENT when it is not watched.
    pub fn modify(&self, fd: impl AsFd, token: u64, events: Events) -> Result<()> {
        epoll::modify(&self.0, fd, EventData::new_u64(token), events).named("epoll_ctl")
    }

    /// Watches a descriptor no longer.
    ///
    /// # Errors
    /// ENOENT when it is not watched.
    pub fn remove(&self, fd: impl AsFd) -> Result<()> {
        epoll::delete(&self.0, fd).named("epoll_ctl")
    }

    /// Waits without a limit until something happens, and says what happened to which.
    ///
    /// # Errors
    /// EINTR for a signal.
    pub fn wait(&self) -> Result<Vec<(u64, Events)>> {
        self.events(None)
    }

    /// What has happened already.
    ///
    /// # Errors
    /// EINTR for a signal.
    pub fn look(&self) -> Result<Vec<(u64, Events)>> {
        self.events(Some(&rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }))
    }

    /// Waits, but not longer than this; empty when nothing happened.
    ///
    /// # Errors
    /// EINTR for a signal.
    pub fn wait_for(&self, patience: Duration) -> Result<Vec<(u64, Events)>> {
        let seconds = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
        self.events(Some(&rustix::event::Timespec {
            tv_sec: seconds,
            tv_nsec: patience.subsec_nanos().into(),
        }))
    }

    fn events(&self, timeout: Option<&rustix::event::Timespec>) -> Result<Vec<(u64, Events)>> {
        let mut events: Vec<Event> = Vec::with_capacity(64);
        epoll::wait(&self.0, spare_capacity(&mut events), timeout).named("epoll_wait")?;
        Ok(events
            .iter()
            .map(|event| ({ event.data }.u64(), { event.flags }))
            .collect())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
