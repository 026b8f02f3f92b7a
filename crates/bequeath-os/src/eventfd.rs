//! A wakeup that `select` and `epoll` can see.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{eventfd, EventfdFlags};

use crate::errno::{Errno, Named, Result};

/// A descriptor that is readable while it is raised.
///
/// # After fork
/// Both processes hold the same one.
///
/// # If a peer dies
/// It stays as it was: raised or lowered.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A new one, lowered.
    ///
    /// # Errors
    /// When descriptors ran out.
    pub fn create() -> Result<Self> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .named("eventfd")
            .map(Self)
    }

    /// Wraps one that came from elsewhere.
    #[must_use]
    pub const fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Gives the descriptor up.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Makes it readable.
    ///
    /// # Errors
    /// When the descriptor is not open.
    pub fn raise(&self) -> Result<()> {
        raise(self.as_fd())
    }

    /// Makes it unreadable.
    ///
    /// # Errors
    /// When the descriptor is not open.
    pub fn lower(&self) -> Result<()> {
        lower(self.as_fd())
    }
}

/// Makes an eventfd readable.
///
/// # Errors
/// When the descriptor is not open.
pub fn raise(fd: BorrowedFd<'_>) -> Result<()> {
    match rustix::io::write(fd, &1_u64.to_ne_bytes()) {
        // EAGAIN: the counter is full, so it is readable already.
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(errno) => Err(errno).named("write"),
    }
}

/// Makes an eventfd unreadable.
///
/// # Errors
/// When the descriptor is not open.
pub fn lower(fd: BorrowedFd<'_>) -> Result<()> {
    let mut count = [0_u8; 8];
    match rustix::io::read(fd, &mut count) {
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(errno) => Err(errno).named("read"),
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
