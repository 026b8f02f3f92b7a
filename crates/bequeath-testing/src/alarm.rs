//! Signals at a steady pace, as profilers and heartbeats send them: no wait may depend on being left
//! alone for long.
//!
//! # Safety invariants
//! The handler does nothing; the timer and the handler are this process's own.
#![allow(unsafe_code)]

use std::time::Duration;

/// SIGALRM for this process, again and again, until dropped.
///
/// # After fork
/// A forked child has the handler and no timer.
/// # If a peer dies
/// Not concerned.
#[derive(Debug)]
#[must_use = "the alarm rings only while it lives"]
pub struct Alarm(());

extern "C" fn ignore(_signal: libc::c_int) {}

impl Alarm {
    /// Rings every `interval`, interrupting whatever system call is waiting.
    ///
    /// # Panics
    /// When the system has no timer.
    pub fn every(interval: Duration) -> Self {
        // SAFETY: all zero is a valid action; no flags means that calls are interrupted.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
        // SAFETY: a whole action whose handler touches nothing.
        let done =
            unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
        assert_eq!(done, 0, "sigaction: {}", std::io::Error::last_os_error());
        set_timer(interval);
        Self(())
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        set_timer(Duration::ZERO);
    }
}

fn set_timer(interval: Duration) {
    let interval = libc::timeval {
        tv_sec: interval.as_secs() as libc::time_t,
        tv_usec: interval.subsec_micros() as libc::suseconds_t,
    };
    let timer = libc::itimerval {
        it_interval: interval,
        it_value: interval,
    };
    // SAFETY: a whole timer value; the old one is not asked for.
    let done =
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(done, 0, "setitimer: {}", std::io::Error::last_os_error());
}
