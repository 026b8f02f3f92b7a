//! A process that some other process started, held by a descriptor that came in a message.
//!
//! Whoever holds it may wait, look and signal. How it ended is its parent's to ask; others learn it
//! from procfs until the parent has asked, from the kernel afterwards (6.15 and newer), or from what
//! the caller knows (a session's deaths).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use bequeath_os::{pidfd, poll, procfs, Deadline, Errno, PidFd};

use crate::error::Result;
use crate::exit::ExitStatus;

/// A process of whatever parent.
///
/// # After fork
/// Valid in the child too.
///
/// # If a peer dies
/// The handle outlives its sender and the process; a later process with the same number is never
/// mistaken for it.
#[derive(Debug)]
pub struct Handle {
    pid: u32,
    start_ticks: u32,
    pidfd: PidFd,
    status: OnceLock<ExitStatus>,
}

impl Handle {
    /// The process that this descriptor is of. `start_ticks` are those of procfs, zero where they are
    /// not known.
    #[must_use]
    pub fn new(descriptor: OwnedFd, pid: u32, start_ticks: u32) -> Self {
        Self {
            pid,
            start_ticks,
            pidfd: PidFd::arrived(descriptor, pid),
            status: OnceLock::new(),
        }
    }

    /// As [`new`](Self::new), of a process whose start nobody told: procfs does while it lives.
    #[must_use]
    pub fn found(descriptor: OwnedFd, pid: u32) -> Self {
        let mut handle = Self::new(descriptor, pid, 0);
        let seen = procfs::stat(pid).map_or(0, |stat| stat.start_ticks);
        // Alive after the look, so nobody else had its number then.
        if handle.pidfd.is_dead().is_ok_and(|dead| !dead) {
            handle.start_ticks = seen;
        }
        handle
    }

    /// Its number; another process may have it once this one is dead and reaped.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// When it started, in clock ticks since boot, low 32 bits; zero when that is not known.
    #[must_use]
    pub const fn start_ticks(&self) -> u32 {
        self.start_ticks
    }

    /// How it ended, as far as anybody has told.
    #[must_use]
    pub fn status(&self) -> Option<ExitStatus> {
        self.status.get().copied()
    }

    /// Somebody who knows says how it ended.
    pub fn learn(&self, status: ExitStatus) {
        // Whoever was first knew it as well.
        let _ = self.status.set(status);
    }

    /// How it ended, waiting for the end until the deadline; `None` when that came first.
    /// [`Lost`](ExitStatus::Lost) while neither the kernel nor `elsewhere` tells: ask again.
    ///
    /// # Errors
    /// EINTR for a signal.
    pub fn wait(
        &self,
        deadline: Deadline,
        elsewhere: impl FnOnce() -> Option<ExitStatus>,
    ) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.status() {
            return Ok(Some(status));
        }
        if !self.wait_dead(deadline)? {
            return Ok(None);
        }
        // In this order: one that is reaped meanwhile is told by the kernel.
        let told = procfs::exit_status(self.pid, self.start_ticks)
            .or_else(|| self.pidfd.exit_status())
            .map(ExitStatus::from)
            .or_else(elsewhere);
        if let Some(status) = told {
            self.learn(status);
        }
        Ok(Some(told.unwrap_or(ExitStatus::Lost)))
    }

    /// Sends a signal; false when the process is gone.
    ///
    /// # Errors
    /// EPERM for a process of somebody else; EINVAL for no signal.
    pub fn send_signal(&self, signal: i32) -> Result<bool> {
        // By number only while the process holds its pipe, and unless procfs knows better.
        let by_number = self.pidfd.is_stand_in();
        if self.status().is_some() || by_number && (self.pidfd.is_dead()? || self.seen_gone()) {
            return Ok(false);
        }
        match self.pidfd.send_signal(signal) {
            Ok(()) => Ok(true),
            Err(error) if error.errno == Errno::SRCH => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn wait_dead(&self, deadline: Deadline) -> Result<bool> {
        if !self.pidfd.wait_dead(deadline)? {
            return Ok(false);
        }
        if !self.pidfd.is_stand_in() {
            return Ok(true);
        }
        // The pipe closes a few steps before the end; or it runs another program and lives on.
        let deadline = deadline.max(Deadline::after(LAST_STEPS));
        let mut pause = Duration::from_micros(50);
        while !self.is_gone() {
            if deadline.is_past() {
                return Ok(false);
            }
            poll::wait(&[], Deadline::after(pause).earlier(deadline))?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(true)
    }

    /// Its pipe is closed: whether the process is gone, too. Where procfs is not ours, that counts as its end.
    fn is_gone(&self) -> bool {
        self.seen_gone() || !procfs::is_ours() || pidfd::is_gone(self.pid)
    }

    /// Dead, or followed by another process, as procfs has it.
    fn seen_gone(&self) -> bool {
        procfs::stat(self.pid).is_some_and(|stat| {
            let is_another = self.start_ticks != 0 && stat.start_ticks != self.start_ticks;
            stat.is_dead() || is_another
        })
    }
}

/// How long a process may take from closing its descriptors to its end, before it counts as running.
const LAST_STEPS: Duration = Duration::from_millis(5);
/// How seldom a process is looked at that closed its descriptors and runs on.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
