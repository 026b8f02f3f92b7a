//! Waiting for several descriptors.

use std::os::fd::BorrowedFd;

use rustix::event::{poll, PollFd, Timespec};

/// What to wait for, and what came.
pub use rustix::event::PollFlags as Events;

use crate::clock::Deadline;
use crate::errno::{Named, Result};

/// Waits until one of the descriptors has what was asked for (or an error, or a hang-up, which are
/// always told), and returns what each has, in order; all empty when the deadline came.
///
/// # Errors
/// EINTR for a signal; ENOMEM; EINVAL for more descriptors than RLIMIT_NOFILE.
pub fn wait(descriptors: &[(BorrowedFd<'_>, Events)], deadline: Deadline) -> Result<Vec<Events>> {
    let mut list: Vec<PollFd<'_>> = descriptors
        .iter()
        .map(|(fd, events)| PollFd::from_borrowed_fd(*fd, *events))
        .collect();
    poll(&mut list, timeout(deadline).as_ref()).named("poll")?;
    Ok(list.iter().map(PollFd::revents).collect())
}

/// As [`wait`], for one descriptor and without allocating.
///
/// # Errors
/// As [`wait`].
pub fn wait_one(fd: BorrowedFd<'_>, events: Events, deadline: Deadline) -> Result<Events> {
    let mut list = [PollFd::from_borrowed_fd(fd, events)];
    poll(&mut list, timeout(deadline).as_ref()).named("poll")?;
    Ok(list[0].revents())
}

/// Whether the descriptor has any of `events` (or an error, or a hang-up) right now.
///
/// # Errors
/// ENOMEM.
pub fn is_ready(fd: BorrowedFd<'_>, events: Events) -> Result<bool> {
    wait_one(fd, events, Deadline::PAST).map(|came| !came.is_empty())
}

fn timeout(deadline: Deadline) -> Option<Timespec> {
    let left = deadline.remaining()?;
    Some(Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()) as _,
    })
}
