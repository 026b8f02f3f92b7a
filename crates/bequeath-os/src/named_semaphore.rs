#![allow(unsafe_code)]
//! POSIX semaphores with a name in the file system: nothing of ours uses them, but programs exist
//! that share them with other programs, or make them through multiprocessing's private module.
//!
//! # Safety invariants
//! - The address came from `sem_open` and is closed by nobody but the drop of the one value that
//!   owns it.
//! - `sem_t` is synchronised by its own functions; no reference to it is ever made.

use std::ffi::CStr;
use std::ptr::NonNull;
use std::time::Duration;

use rustix::time::{clock_gettime, ClockId};

use crate::errno::{last, Errno, Error, Result};
use crate::futex::Wait;

/// An open named semaphore.
///
/// # After fork
/// Valid in both processes.
///
/// # If a peer dies
/// Units that it took are lost; that is why nothing of ours is built on these.
#[derive(Debug)]
pub struct NamedSemaphore(NonNull<libc::sem_t>);

// SAFETY: a semaphore may be used by any thread; its functions synchronise.
unsafe impl Send for NamedSemaphore {}
// SAFETY: as above.
unsafe impl Sync for NamedSemaphore {}

/// The largest value.
pub const VALUE_MAX: u32 = i32::MAX as u32;

impl NamedSemaphore {
    /// Makes a new one, for this user only.
    ///
    /// # Errors
    /// EEXIST when the name is taken, EINVAL for a bad name or too large a value, ENAMETOOLONG.
    pub fn create(name: &CStr, value: u32) -> Result<Self> {
        let flags = libc::O_CREAT | libc::O_EXCL;
        // SAFETY: a C string and the two further arguments that O_CREAT asks for.
        let opened = unsafe {
            libc::sem_open(
                name.as_ptr(),
                flags,
                0o600 as libc::c_uint,
                value as libc::c_uint,
            )
        };
        Self::opened(opened)
    }

    /// Opens an existing one.
    ///
    /// # Errors
    /// ENOENT and EACCES.
    pub fn open(name: &CStr) -> Result<Self> {
        // SAFETY: a C string, and no further arguments without O_CREAT.
        Self::opened(unsafe { libc::sem_open(name.as_ptr(), 0) })
    }

    fn opened(address: *mut libc::sem_t) -> Result<Self> {
        match NonNull::new(address) {
            Some(address) if address.as_ptr() != libc::SEM_FAILED => Ok(Self(address)),
            _ => Err(last("sem_open")),
        }
    }

    /// A number that is its own in this process, as multiprocessing's `handle`.
    #[must_use]
    pub fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }

    /// Takes a unit if there is one.
    ///
    /// # Errors
    /// EINTR.
    pub fn try_wait(&self) -> Result<bool> {
        // SAFETY: an open semaphore, by the invariants.
        let done = unsafe { libc::sem_trywait(self.0.as_ptr()) };
        match done {
            0 => Ok(true),
            _ => match last("sem_trywait") {
                error if error.would_block() => Ok(false),
                error => Err(error),
            },
        }
    }

    /// Waits for a unit for at most `slice`.
    ///
    /// # Errors
    /// What is neither a timeout nor a signal.
    pub fn wait_slice(&self, slice: Duration) -> Result<Wait> {
        // The only clock that every C library offers here can be set; short slices bound the harm.
        let now = clock_gettime(ClockId::Realtime);
        let nanos = now.tv_nsec as u64 + u64::from(slice.subsec_nanos());
        let until = libc::timespec {
            tv_sec: (now.tv_sec as u64 + slice.as_secs() + nanos / 1_000_000_000) as _,
            tv_nsec: (nanos % 1_000_000_000) as _,
        };
        // SAFETY: an open semaphore and a time on this stack.
        let done = unsafe { libc::sem_timedwait(self.0.as_ptr(), &raw const until) };
        if done == 0 {
            return Ok(Wait::Woken);
        }
        match last("sem_timedwait") {
            error if error.errno == Errno::TIMEDOUT => Ok(Wait::TimedOut),
            error if error.is_interrupted() => Ok(Wait::Interrupted),
            error => Err(error),
        }
    }

    /// Gives a unit.
    ///
    /// # Errors
    /// EOVERFLOW.
    pub fn post(&self) -> Result<()> {
        // SAFETY: an open semaphore, by the invariants.
        let done = unsafe { libc::sem_post(self.0.as_ptr()) };
        if done == 0 {
            Ok(())
        } else {
            Err(last("sem_post"))
        }
    }

    /// How many units there are now.
    ///
    /// # Errors
    /// None that the kernel gives for an open one.
    pub fn value(&self) -> Result<u32> {
        let mut value = 0;
        // SAFETY: an open semaphore and a number on this stack.
        let done = unsafe { libc::sem_getvalue(self.0.as_ptr(), &raw mut value) };
        if done == 0 {
            Ok(u32::try_from(value).unwrap_or(0))
        } else {
            Err(last("sem_getvalue"))
        }
    }
}

impl Drop for NamedSemaphore {
    fn drop(&mut self) {
        // SAFETY: open until now, and never used again.
        unsafe { libc::sem_close(self.0.as_ptr()) };
    }
}

/// Removes a name; who has it open keeps it.
///
/// # Errors
/// ENOENT and EACCES.
pub fn unlink(name: &CStr) -> Result<()> {
    // SAFETY: a C string.
    let done = unsafe { libc::sem_unlink(name.as_ptr()) };
    if done == 0 {
        Ok(())
    } else {
        Err(last("sem_unlink"))
    }
}

/// What `sem_open` says of a value that no semaphore can have.
#[must_use]
pub const fn invalid_value() -> Error {
    Error::new("sem_open", Errno::INVAL)
}
