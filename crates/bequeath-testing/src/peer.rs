//! Another process that runs a closure of this test: forked, so that it shares the test's objects.
//!
//! # Safety invariants
//! * `fork` in a test process with threads: the child runs the closure and `_exit`s; glibc makes its allocator usable in such a child, and the
//!   closures take no lock that another thread of the test could hold.
//! * Every pid handled here is an unreaped child of ours, so it cannot have been reused.
#![allow(unsafe_code)]

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};

/// How a peer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It exited with this code; 0 when its closure returned, 101 when it panicked.
    Exited(i32),
    /// A signal ended it.
    Killed(i32),
}

/// A forked child of the test.
///
/// # After fork
/// Belongs to the process that spawned it.
/// # If a peer dies
/// [`Peer::join`] says how. Dropping a peer that was not joined kills and reaps it.
#[derive(Debug)]
pub struct Peer {
    pid: i32,
    reaped: bool,
}

impl Peer {
    /// Forks; the child runs `body` and exits. The child dies with the thread that called this.
    ///
    /// # Panics
    /// When the system cannot fork.
    pub fn spawn(body: impl FnOnce()) -> Self {
        // SAFETY: see the module's invariants.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed: {}", std::io::Error::last_os_error());
        if pid == 0 {
            // SAFETY: a plain system call: no orphan outlives a failed test.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            show_panics();
            let code = if catch_unwind(AssertUnwindSafe(body)).is_ok() {
                0
            } else {
                101
            };
            // SAFETY: ends the child without running the test harness's exit handlers.
            unsafe { libc::_exit(code) };
        }
        Self { pid, reaped: false }
    }

    /// Forks a child that nobody reaps and that outlives its parent: for parents that are killed. `body` has to
    /// come to an end. Returns the child's number.
    ///
    /// # Panics
    /// When the system cannot fork.
    pub fn leave_behind(body: impl FnOnce()) -> u32 {
        // SAFETY: see the module's invariants.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed: {}", std::io::Error::last_os_error());
        if pid == 0 {
            show_panics();
            let code = i32::from(catch_unwind(AssertUnwindSafe(body)).is_err());
            // SAFETY: ends the child without running the test harness's exit handlers.
            unsafe { libc::_exit(code) };
        }
        pid as u32
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid as u32
    }

    /// Sends SIGKILL; the peer stays a zombie until joined or dropped.
    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    /// Sends any signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the pid is an unreaped child of ours.
        unsafe { libc::kill(self.pid, signal) };
    }

    /// Waits for its end.
    pub fn join(mut self) -> Outcome {
        self.reap()
    }

    /// Waits until it is dead without reaping it.
    pub fn wait_dead(&self) {
        // SAFETY: all-zero is a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: waits on our own child; the result is written to a local.
        while unsafe {
            libc::waitid(
                libc::P_PID,
                self.pid as u32,
                &mut info,
                libc::WEXITED | libc::WNOWAIT,
            )
        } != 0
        {}
    }

    /// Whether it is dead; it is not reaped by this.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        // SAFETY: all-zero is a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG;
        // SAFETY: asks about our own child; the result is written to a local.
        let asked = unsafe { libc::waitid(libc::P_PID, self.pid as u32, &mut info, flags) };
        // SAFETY: what the call wrote, or zero.
        asked == 0 && unsafe { info.si_pid() } == self.pid
    }

    /// Waits until its main thread sleeps in a futex, poll or the like.
    ///
    /// # Panics
    /// When it does not within ten seconds.
    pub fn wait_asleep(&self) {
        let path = format!("/proc/{}/syscall", self.pid);
        let mut seen = 0;
        wait_until("the peer sleeps in a system call", || {
            // "running" while on a CPU; two looks in a row so that a short call does not count.
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            seen = if text.starts_with(|first: char| first.is_ascii_digit()) {
                seen + 1
            } else {
                0
            };
            seen >= 3
        });
    }

    /// In a peer: stops until somebody sends SIGCONT.
    pub(crate) fn stop_self() {
        // SAFETY: a plain system call.
        unsafe { libc::raise(libc::SIGSTOP) };
    }

    /// Waits until the peer has stopped itself.
    pub(crate) fn wait_stopped(&self) {
        let mut status = 0;
        // SAFETY: waits on our own child; the result is written to a local.
        while unsafe { libc::waitpid(self.pid, &mut status, libc::WUNTRACED) } != self.pid {}
        assert!(
            libc::WIFSTOPPED(status),
            "the peer ended before it was to stop"
        );
    }

    fn reap(&mut self) -> Outcome {
        let mut status = 0;
        // SAFETY: waits on our own child; the result is written to a local.
        while unsafe { libc::waitpid(self.pid, &mut status, 0) } != self.pid {}
        self.reaped = true;
        if libc::WIFSIGNALED(status) {
            Outcome::Killed(libc::WTERMSIG(status))
        } else {
            Outcome::Exited(libc::WEXITSTATUS(status))
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.reap();
        }
    }
}

/// Polls until `condition` holds.
///
/// # Panics
/// After ten seconds, naming what was waited for.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// What a child panics with is shown at once: the harness keeps a test's output in its own process, and the
/// child's copy would end with the child.
fn show_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = format!("process {}: {panic}\n", std::process::id());
        // SAFETY: writes bytes of ours to standard error.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    }));
}
