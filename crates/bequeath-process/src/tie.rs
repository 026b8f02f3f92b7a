#![allow(unsafe_code)]
//! Ties a child's life to its parent's: when the parent is gone, in whatever way, the child is
//! ended by the kernel.
//!
//! One pipe per process, whose writing end nobody else ever holds; each tied child has a reading
//! end of its own that signals it on close (`bequeath_os::lifeline`). It works for a child started
//! by a thread that has ended since, by every start method, at every depth, with no process
//! watching.
//!
//! # Safety invariants
//! `LIFELINE` is null or came from `Box::into_raw` and is freed only in a forked child, which has
//! one thread then, so that nobody can hold a reference.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use bequeath_os::{lifeline, pidfd, Errno};

use crate::error::Result;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// What becomes of a child when its parent is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnParentDeath {
    /// SIGTERM: it may clean up, or refuse.
    Terminate,
    /// SIGKILL.
    Kill,
}

impl OnParentDeath {
    /// The signal that is sent.
    #[must_use]
    pub const fn signal(self) -> i32 {
        match self {
            Self::Terminate => SIGTERM,
            Self::Kill => SIGKILL,
        }
    }
}

struct Lifeline {
    pid: u32,
    reader: OwnedFd,
    _writer: OwnedFd,
    /// Writing ends of pipes that tie one child each.
    singles: Mutex<Vec<OwnedFd>>,
}

impl Lifeline {
    fn own_pipe_for_one(&self) -> Result<Tie> {
        let (reader, writer) = lifeline::pipe()?;
        let mut singles = self.singles.lock().unwrap_or_else(PoisonError::into_inner);
        // Those whose child is gone have no reader any more.
        singles.retain(|writer| lifeline::has_reader(writer.as_fd()));
        singles.push(writer);
        Ok(Tie(reader))
    }
}

fn no_more_descriptors(error: bequeath_os::Error) -> bool {
    matches!(error.errno, Errno::MFILE | Errno::NFILE)
}

/// This process's pipe; swapped, never locked, because a fork may happen while a thread makes it.
static LIFELINE: AtomicPtr<Lifeline> = AtomicPtr::new(std::ptr::null_mut());

/// The child's end of a tie; made in the parent, handed to the child, dropped in the parent.
///
/// # After fork
/// The child calls [`hold`](Tie::hold); in any other forked child [`after_fork_in_child`] must run,
/// because a copied writing end would keep the tie from ever acting.
///
/// # If a peer dies
/// The parent's death closes the pipe, and the kernel sends the signal.
#[derive(Debug)]
pub struct Tie(OwnedFd);

impl Tie {
    /// A tie to this process.
    ///
    /// # Errors
    /// When descriptors ran out.
    pub fn to_this_process() -> Result<Self> {
        let lifeline = own_lifeline()?;
        match lifeline::another_reader(lifeline.reader.as_fd()) {
            Ok(reader) => Ok(Self(reader)),
            // No procfs (or one of others): only it opens a pipe once more.
            Err(error) if !no_more_descriptors(error) => lifeline.own_pipe_for_one(),
            Err(error) => Err(error.into()),
        }
    }

    /// A tie that arrived as a descriptor.
    #[must_use]
    pub const fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The descriptor, to be handed to the child.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// In the child: from now on the parent's death sends the signal to this process; at once, if
    /// the parent is gone already.
    ///
    /// # Errors
    /// Where the kernel has no signals for pipes.
    pub fn hold(self, on_parent_death: OnParentDeath) -> Result<()> {
        let signal = on_parent_death.signal();
        let gone = lifeline::signal_on_close(self.0.as_fd(), signal)?;
        // Held for the rest of this process's life.
        std::mem::forget(self.0);
        if gone {
            pidfd::kill(std::process::id(), signal)?;
        }
        Ok(())
    }
}

/// A pipe's end that is readable when this process is gone.
pub(crate) fn own_reader() -> Result<BorrowedFd<'static>> {
    Ok(own_lifeline()?.reader.as_fd())
}

fn own_lifeline() -> Result<&'static Lifeline> {
    let pid = std::process::id();
    let current = LIFELINE.load(Ordering::Acquire);
    if let Some(lifeline) = borrowed(current) {
        if lifeline.pid == pid {
            return Ok(lifeline);
        }
    }
    let (reader, writer) = lifeline::pipe()?;
    let fresh = Box::into_raw(Box::new(Lifeline {
        pid,
        reader,
        _writer: writer,
        singles: Mutex::default(),
    }));
    match LIFELINE.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => borrowed(fresh),
        // Another thread was faster; its pipe serves. Ours stays open and unused: it was never shared.
        Err(winner) => borrowed(winner),
    }
    .ok_or(crate::error::Error::Malformed { what: "lifeline" })
}

fn borrowed(lifeline: *mut Lifeline) -> Option<&'static Lifeline> {
    // SAFETY: null or a leaked box, by the module's invariant.
    unsafe { lifeline.as_ref() }
}

/// In a forked child, before anything else runs there: lets go of the parent's pipe.
pub fn after_fork_in_child() {
    let inherited = LIFELINE.swap(std::ptr::null_mut(), Ordering::AcqRel);
    if !inherited.is_null() {
        // SAFETY: a leaked box that nobody else sees: the pointer was taken out, and the forked child
        // has no other thread that could have read it before.
        drop(unsafe { Box::from_raw(inherited) });
    }
}
