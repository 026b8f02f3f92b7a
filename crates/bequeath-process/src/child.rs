//! A started process: wait for it, ask after it, signal it; always by descriptor.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

use bequeath_os::{Deadline, PidFd};

use crate::error::Result;
use crate::exit::ExitStatus;
use crate::watch::Watch;

/// Who can tell how a child ended that is no child of this process.
pub trait Reaper: Send + Sync + std::fmt::Debug {
    /// How `pid` ended, waiting until the deadline for the report; `None` when it came first.
    ///
    /// The report comes once: it is put into `known` before another thread can ask for it, who finds
    /// it there and does not wait for a second one.
    ///
    /// # Errors
    /// EINTR for a signal.
    fn status_of(
        &self,
        pid: u32,
        known: &OnceLock<ExitStatus>,
        deadline: Deadline,
    ) -> Result<Option<ExitStatus>>;
}

/// A process that was started by this one.
///
/// # After fork
/// The forked child may look and signal, but the status of somebody else's child is [`ExitStatus::Lost`]
/// to it unless the kernel tells any holder (6.15 and newer).
///
/// # If a peer dies
/// When the template that made the child is gone, its status comes from the kernel if it tells,
/// else it is [`ExitStatus::Lost`].
#[derive(Debug)]
pub struct Child {
    pid: u32,
    pidfd: PidFd,
    reaper: Option<Arc<dyn Reaper>>,
    status: OnceLock<ExitStatus>,
}

impl Child {
    /// A child that this process has just forked and not yet waited for, with what was made for it
    /// before the fork.
    ///
    /// # Errors
    /// When descriptors ran out; ESRCH when somebody reaped it already.
    pub fn forked(pid: u32, watch: Watch) -> Result<Self> {
        Ok(Self::own(pid, watch.in_parent(pid)?))
    }

    /// A child of this process with its descriptor.
    #[must_use]
    pub const fn own(pid: u32, pidfd: PidFd) -> Self {
        Self {
            pid,
            pidfd,
            reaper: None,
            status: OnceLock::new(),
        }
    }

    /// A child of the template that `reaper` speaks to.
    #[must_use]
    pub fn of_template(pid: u32, pidfd: PidFd, reaper: Arc<dyn Reaper>) -> Self {
        Self {
            pid,
            pidfd,
            reaper: Some(reaper),
            status: OnceLock::new(),
        }
    }

    /// Its number; another process may have it once this one is dead and reaped.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    /// EINTR for a signal while the template's report is waited for.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.wait(Deadline::PAST)
    }

    /// How it ended, waiting for the end until the deadline; `None` when that came first.
    ///
    /// # Errors
    /// EINTR for a signal.
    pub fn wait(&self, deadline: Deadline) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.status.get() {
            return Ok(Some(*status));
        }
        let status = loop {
            if !self.pidfd.wait_dead(deadline)? {
                return Ok(None);
            }
            let status = match &self.reaper {
                None => self.reap(deadline)?,
                Some(reaper) => {
                    reaper.status_of(self.pid, &self.status, Deadline::after(REPORT))?
                }
            };
            match status {
                Some(status) => break status,
                None if deadline.is_past() => return Ok(None),
                None => {}
            }
        };
        let status = match status {
            ExitStatus::Lost => self.told_by_kernel(),
            known => known,
        };
        Ok(Some(*self.status.get_or_init(|| status)))
    }

    /// Sends a signal; false when the process is gone.
    ///
    /// # Errors
    /// EPERM when it has become somebody else's; EINVAL for no signal.
    pub fn send_signal(&self, signal: i32) -> Result<bool> {
        if self.status.get().is_some() {
            return Ok(false);
        }
        match self.pidfd.send_signal(signal) {
            Ok(()) => Ok(true),
            Err(error) if error.errno == bequeath_os::Errno::SRCH => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The process is dead: its status, once. Another thread, or a stranger's `wait`, may be first.
    /// `None` when it only seems so at the deadline (a stand-in's process that closed everything).
    fn reap(&self, deadline: Deadline) -> Result<Option<ExitStatus>> {
        match self.pidfd.wait(deadline) {
            Ok(status) => Ok(status.map(Into::into)),
            Err(error) if error.is_interrupted() => Err(error.into()),
            Err(_) => Ok(Some(self.status.get().copied().unwrap_or(ExitStatus::Lost))),
        }
    }

    /// The last source. Whoever inherited the child reaps it in its own time, so this waits a little.
    fn told_by_kernel(&self) -> ExitStatus {
        let deadline = Deadline::after(INHERITED);
        loop {
            if let Some(status) = self.pidfd.exit_status() {
                return status.into();
            }
            if deadline.is_past() || !self.wait_reaped(deadline) {
                return self
                    .pidfd
                    .exit_status()
                    .map_or(ExitStatus::Lost, Into::into);
            }
        }
    }

    /// False when the kernel does not tell (older than 6.15) or nobody reaps.
    fn wait_reaped(&self, deadline: Deadline) -> bool {
        use bequeath_os::poll::{wait_one, Events};
        wait_one(self.pidfd.as_fd(), Events::empty(), deadline)
            .is_ok_and(|events| events.contains(Events::HUP))
    }
}

/// How long one call waits for a template that is alive and silent (stopped, or swamped).
const REPORT: std::time::Duration = std::time::Duration::from_secs(1);
/// How long one call waits until a child of a dead template has been reaped by its new parent.
const INHERITED: std::time::Duration = std::time::Duration::from_millis(500);

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
