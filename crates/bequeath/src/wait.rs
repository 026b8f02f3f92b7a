//! Waiting for whichever comes first: a worker's end, a message, anything readable.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use bequeath_os::poll::{self, Events};
use bequeath_os::Deadline;

use crate::error::Result;

/// Waits until one of the descriptors is readable, and says which are; none when `timeout` came first.
///
/// A [`Child`](crate::Child) is readable when it has ended, [`Queue::readiness`](crate::Queue::readiness)
/// when there is a message; files, sockets and pipes as always.
///
/// # Errors
/// When the kernel refuses to wait for one of them.
///
/// ```
/// # fn main() -> Result<(), bequeath::Error> {
/// bequeath::init();
/// let session = bequeath::Session::new()?;
/// let child = session.spawn(|_: ()| (), ())?;
/// assert_eq!(bequeath::wait(&[&child], None)?, [true]);
/// child.result()
/// # }
/// ```
pub fn wait(descriptors: &[&dyn AsFd], timeout: Option<Duration>) -> Result<Vec<bool>> {
    let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
    let watched: Vec<(BorrowedFd<'_>, Events)> = descriptors
        .iter()
        .map(|descriptor| (descriptor.as_fd(), Events::IN))
        .collect();
    loop {
        match poll::wait(&watched, deadline) {
            Err(error) if error.is_interrupted() => {}
            ready => return Ok(ready?.iter().map(|events| !events.is_empty()).collect()),
        }
    }
}
