#![allow(unsafe_code)]
//! A process as a descriptor: it names one process for ever, whatever becomes of its number.
//!
//! # Safety invariants
//! The one raw call gives the kernel a fully initialised structure together with its size.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{self, Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus};

use crate::clock::Deadline;
use crate::errno::{last, Errno, Error, Named, Result};
use crate::poll::{self, Events};

/// A process, by descriptor.
///
/// # After fork
/// Valid in the child too, but only the parent can [`wait`](PidFd::wait) for its own children.
///
/// # If a peer dies
/// The descriptor becomes readable when every thread of the process is gone, reaped or not.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

/// What `PIDFD_GET_INFO` fills in: the first 64 bytes, which every kernel that has the call knows.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    pid: u32,
    thread_group: u32,
    parent: u32,
    credentials: [u32; 8],
    exit_code: i32,
}

const _: () = assert!(core::mem::size_of::<Info>() == 64);
const GET_INFO: u64 = 0xc040_ff0b;
const INFO_EXIT: u64 = 1 << 3;

impl PidFd {
    /// The process with this number now.
    ///
    /// # Errors
    /// ESRCH when there is none; EINVAL for a number that is no process (a thread's, zero).
    pub fn open(pid: u32) -> Result<Self> {
        let pid = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(Error::new("pidfd_open", Errno::INVAL))?;
        process::pidfd_open(pid, PidfdFlags::empty())
            .named("pidfd_open")
            .map(Self)
    }

    /// Wraps a descriptor that came from elsewhere (a message, `clone`).
    #[must_use]
    pub const fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Gives the descriptor up.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Another descriptor of the same process.
    ///
    /// # Errors
    /// When descriptors ran out.
    pub fn try_clone(&self) -> Result<Self> {
        rustix::io::fcntl_dupfd_cloexec(&self.0, 3)
            .named("fcntl")
            .map(Self)
    }

    /// Whether every thread of the process is gone.
    ///
    /// # Errors
    /// When the kernel cannot tell (no memory).
    pub fn is_dead(&self) -> Result<bool> {
        poll::is_ready(self.as_fd(), Events::IN)
    }

    /// Waits until the process is gone; false when the deadline came first.
    ///
    /// # Errors
    /// EINTR for a signal.
    pub fn wait_dead(&self, deadline: Deadline) -> Result<bool> {
        let ready = poll::wait(&[(self.as_fd(), Events::IN)], deadline)?;
        Ok(ready.iter().any(|events| !events.is_empty()))
    }

    /// Sends a signal; number 0 only asks whether it could be sent.
    ///
    /// # Errors
    /// ESRCH when the process is gone, EPERM when it is not ours.
    pub fn send_signal(&self, signal: i32) -> Result<()> {
        let fd = self.0.as_raw_fd();
        // SAFETY: an open descriptor, a number, no structure, no flags; nothing of ours is touched.
        let done =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, 0_usize, 0_u32) };
        if done == 0 {
            Ok(())
        } else {
            Err(last("pidfd_send_signal"))
        }
    }

    /// Waits for a child of this process, reaps it and tells how it ended; `None` when the deadline came first.
    ///
    /// # Errors
    /// ECHILD when it is no child of this process or was reaped already; EINTR for a signal.
    pub fn wait(&self, deadline: Deadline) -> Result<Option<ExitStatus>> {
        if !self.wait_dead(deadline)? {
            return Ok(None);
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = process::waitid(WaitId::PidFd(self.0.as_fd()), options).named("waitid")?;
        Ok(status.as_ref().map(exit_status))
    }

    /// How a child of this process ended, leaving it to be waited for; `None` while it runs.
    ///
    /// # Errors
    /// ECHILD when it is no child of this process or was reaped already.
    pub fn peek(&self) -> Result<Option<ExitStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = process::waitid(WaitId::PidFd(self.0.as_fd()), options).named("waitid")?;
        Ok(status.as_ref().map(exit_status))
    }

    /// How the process ended, asked by any holder of a descriptor, also after somebody else reaped
    /// it; `None` while it is not known (alive, not reaped yet, or the kernel is older than 6.15).
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let mut info = Info {
            mask: INFO_EXIT,
            ..Info::default()
        };
        // SAFETY: the number of the call carries the size of the structure, which is all of `info`.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), GET_INFO as _, &raw mut info) };
        (done == 0 && info.mask & INFO_EXIT != 0).then(|| ExitStatus::from_raw(info.exit_code))
    }

    /// A copy of descriptor `number` of the process.
    ///
    /// # Errors
    /// EPERM without the right to trace the process, ESRCH when it is gone, EBADF.
    pub fn get_fd(&self, number: RawFd) -> Result<OwnedFd> {
        let fd = self.0.as_raw_fd();
        // SAFETY: two descriptor numbers and no flags; the answer is a number.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, fd, number, 0_u32) };
        let got = RawFd::try_from(got)
            .ok()
            .filter(|got| *got >= 0)
            .ok_or_else(|| last("pidfd_getfd"))?;
        // SAFETY: the kernel just made this descriptor for us, close-on-exec, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(got) })
    }
}

/// Whether a process with this number exists now, dead ones that nobody reaped included: the answer
/// that needs no descriptor.
#[must_use]
pub fn exists(pid: u32) -> bool {
    match i32::try_from(pid).ok().and_then(Pid::from_raw) {
        Some(pid) => process::test_kill_process(pid) != Err(Errno::SRCH),
        None => false,
    }
}

fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    let core = if status.dumped() { 0x80 } else { 0 };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::from_raw((code & 0xff) << 8),
        (None, Some(signal)) => ExitStatus::from_raw(signal | core),
        (None, None) => ExitStatus::from_raw(0xff << 8),
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for PidFd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}
