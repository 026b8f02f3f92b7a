#![allow(unsafe_code)]
//! A process as a descriptor: it names one process for ever, whatever becomes of its number.
//!
//! Sandboxes deny `pidfd_open`. There the reading end of a pipe stands in, whose writing end only the
//! process holds: it is readable when the process is gone, and whatever else is asked goes by number.
//! Unlike a pidfd it is readable too early when the process closes all its descriptors or runs another
//! program; its parent therefore asks the kernel as well.
//!
//! # Safety invariants
//! The one raw call gives the kernel a fully initialised structure together with its size.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use core::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rustix::process::{self, Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus};

use crate::clock::Deadline;
use crate::errno::{last, Errno, Error, Named, Result};
use crate::poll::{self, Events};
use crate::procfs;

/// A process, by descriptor.
///
/// # After fork
/// Valid in the child too, but only the parent can [`wait`](PidFd::wait) for its own children.
///
/// # If a peer dies
/// The descriptor becomes readable when every thread of the process is gone, reaped or not.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
    /// The number of the process that a pipe stands in for; `None` for a real pidfd.
    stands_for: Option<Pid>,
}

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
        let pid = number(pid).ok_or(Error::new("pidfd_open", Errno::INVAL))?;
        let fd = process::pidfd_open(pid, PidfdFlags::empty()).named("pidfd_open")?;
        crate::handover::beyond_standard(fd).map(Self::from_fd)
    }

    /// Wraps a descriptor that came from elsewhere (a message, `clone`).
    #[must_use]
    pub const fn from_fd(fd: OwnedFd) -> Self {
        Self {
            fd,
            stands_for: None,
        }
    }

    /// The process with this number by the reading end of a pipe whose writing end only it holds.
    #[must_use]
    pub fn stand_in(reader: OwnedFd, pid: u32) -> Self {
        Self {
            fd: reader,
            stands_for: number(pid),
        }
    }

    /// Wraps a descriptor of this process that came from elsewhere, be it a pidfd or a stand-in.
    #[must_use]
    pub fn arrived(fd: OwnedFd, pid: u32) -> Self {
        let is_pipe = rustix::fs::fstat(&fd).is_ok_and(|stat| {
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo
        });
        if is_pipe {
            Self::stand_in(fd, pid)
        } else {
            Self::from_fd(fd)
        }
    }

    /// Whether it is a pipe instead of a pidfd, so that signals go by number.
    #[must_use]
    pub const fn is_stand_in(&self) -> bool {
        self.stands_for.is_some()
    }

    /// Gives the descriptor up.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Another descriptor of the same process.
    ///
    /// # Errors
    /// When descriptors ran out.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = rustix::io::fcntl_dupfd_cloexec(&self.fd, 3).named("fcntl")?;
        Ok(Self {
            fd,
            stands_for: self.stands_for,
        })
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
        if let Some(pid) = self.stands_for {
            return kill(pid.as_raw_nonzero().get().unsigned_abs(), signal);
        }
        let fd = self.fd.as_raw_fd();
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
        self.ask(WaitIdOptions::empty(), deadline)
    }

    /// How a child of this process ended, leaving it to be waited for; `None` while it runs.
    ///
    /// # Errors
    /// ECHILD when it is no child of this process or was reaped already.
    pub fn peek(&self) -> Result<Option<ExitStatus>> {
        self.ask(WaitIdOptions::NOWAIT, Deadline::PAST)
    }

    fn ask(&self, more: WaitIdOptions, deadline: Deadline) -> Result<Option<ExitStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | more;
        let Some(pid) = self.stands_for else {
            let status =
                process::waitid(WaitId::PidFd(self.fd.as_fd()), options).named("waitid")?;
            return Ok(status.as_ref().map(exit_status));
        };
        // Its pipe closes a few steps before it has ended.
        let deadline = deadline.max(Deadline::after(LAST_STEPS));
        let mut pause = Duration::from_micros(50);
        loop {
            let status = process::waitid(WaitId::Pid(pid), options).named("waitid")?;
            if status.is_some() || !self.is_dead()? || deadline.is_past() {
                return Ok(status.as_ref().map(exit_status));
            }
            poll::wait(&[], Deadline::after(pause).earlier(deadline))?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// How the process ended, asked by any holder of a descriptor, also after somebody else reaped
    /// it; `None` while it is not known (alive, not reaped yet, or the kernel is older than 6.15).
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        if self.stands_for.is_some() {
            return None;
        }
        let mut info = Info {
            mask: INFO_EXIT,
            ..Info::default()
        };
        // SAFETY: the number of the call carries the size of the structure, which is all of `info`.
        let done = unsafe { libc::ioctl(self.fd.as_raw_fd(), GET_INFO as _, &raw mut info) };
        (done == 0 && info.mask & INFO_EXIT != 0).then(|| ExitStatus::from_raw(info.exit_code))
    }

    /// A copy of descriptor `number` of the process.
    ///
    /// # Errors
    /// EPERM without the right to trace the process, ESRCH when it is gone, EBADF.
    pub fn get_fd(&self, number: RawFd) -> Result<OwnedFd> {
        let fd = self.fd.as_raw_fd();
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

/// How long a process may take from closing its descriptors to its end, before it counts as running.
const LAST_STEPS: Duration = Duration::from_millis(5);
/// How seldom a process is looked at that closed its descriptors and runs on.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

fn number(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Whether processes can be had as descriptors by their numbers: old kernels and sandboxes refuse
/// (ENOSYS, EPERM, EACCES). Found out once per process.
#[must_use]
pub fn can_open() -> bool {
    static KNOWN: AtomicU8 = AtomicU8::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        1 => true,
        2 => false,
        _ => match PidFd::open(std::process::id()) {
            Ok(_) => {
                KNOWN.store(1, Ordering::Relaxed);
                true
            }
            Err(error) if error.is_unavailable() => {
                KNOWN.store(2, Ordering::Relaxed);
                false
            }
            // Not now, for lack of descriptors: whoever tries next is told so.
            Err(_) => true,
        },
    }
}

/// Sends a signal by number: to a process that cannot have another's number yet, such as an
/// unreaped child or this one.
///
/// # Errors
/// ESRCH when there is none, EPERM when it is not ours, EINVAL for no signal.
pub fn kill(pid: u32, signal: i32) -> Result<()> {
    let pid = number(pid).ok_or(Error::new("kill", Errno::INVAL))?;
    // SAFETY: two numbers; one that is positive means one process.
    if unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) } == 0 {
        Ok(())
    } else {
        Err(last("kill"))
    }
}

/// Whether every thread of the process with this number is gone, without a descriptor of it: by
/// procfs, or for a child by asking after it. False where neither tells.
#[must_use]
pub fn is_gone(pid: u32) -> bool {
    let Some(number) = number(pid) else {
        return true;
    };
    if process::test_kill_process(number) == Err(Errno::SRCH) {
        return true;
    }
    if let Some(stat) = procfs::stat(pid) {
        return stat.is_dead();
    }
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(process::waitid(WaitId::Pid(number), options), Ok(Some(_)))
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
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for PidFd {
    fn from(fd: OwnedFd) -> Self {
        Self::from_fd(fd)
    }
}
