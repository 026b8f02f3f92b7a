#![allow(unsafe_code)]
//! How a forked child comes to be watched: by pidfd, or, where a sandbox denies `pidfd_open`, by a
//! pipe that is made before the fork and whose writing end only the child holds.
//!
//! A fork copies every descriptor, also those of forks that other threads are doing at that moment.
//! All writing ends are therefore noted, and a child closes those that are not its own, its parent's
//! included: else a sibling would keep them open, and a death would go unseen.
//!
//! While SIGCHLD is ignored, a child that ends at once is gone before it has a pidfd, and its exit
//! status with it. Then the child waits for the word of its parent, who has the pidfd by then.
//!
//! # Safety invariants
//! The numbers noted here belong to a [`Watch`], or to this process as the writing end that its parent
//! gave it. Each is closed once per process: by the `Watch` in the process that made it, by
//! [`after_fork_in_child`] in a child.

use std::cell::Cell;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering::*};

use bequeath_os::{attributes, lifeline, pidfd, raw, Errno, PidFd};

use crate::error::Result;
use crate::template::go_ahead;
use crate::tie;

const NONE: RawFd = -1;
/// Forks that threads of one process do at the same moment.
const MOST: usize = 64;

/// The writing end by which this process's parent watches it.
static OWN: AtomicI32 = AtomicI32::new(NONE);
/// The writing ends of all forks that are being done.
static PENDING: [AtomicI32; MOST] = [const { AtomicI32::new(NONE) }; MOST];

thread_local! {
    /// The pipe of the fork that this thread is about to do.
    static MINE: Cell<[RawFd; 2]> = const { Cell::new([NONE; 2]) };
    /// The child's end of the line on which it waits for the word.
    static GATE: Cell<RawFd> = const { Cell::new(NONE) };
}

/// Made before a fork, on the thread that forks, to watch the child.
///
/// # After fork
/// The child owns nothing of it: [`after_fork_in_child`] has settled that.
#[derive(Debug)]
#[must_use]
pub struct Watch {
    pipe: [RawFd; 2],
    /// The child's end of its line, and the parent's.
    gate: [RawFd; 2],
    place: usize,
    maker: u32,
}

impl Watch {
    /// # Errors
    /// When descriptors ran out, or more threads fork at this moment than anybody foresaw.
    pub fn before_fork() -> Result<Self> {
        let mut watch = Self {
            pipe: [NONE; 2],
            gate: [NONE; 2],
            place: MOST,
            maker: std::process::id(),
        };
        if !pidfd::can_open() {
            let (reader, writer) = lifeline::pipe()?;
            watch.pipe = [reader.into_raw_fd(), writer.into_raw_fd()];
            watch.note(watch.pipe[1])?;
            MINE.set(watch.pipe);
        } else if attributes::children_vanish() {
            let (child, parent) = go_ahead::line()?;
            watch.gate = [child.into_raw_fd(), parent.into_raw_fd()];
            watch.note(watch.gate[1])?;
            GATE.set(watch.gate[0]);
        }
        Ok(watch)
    }

    /// Every child closes `end`.
    fn note(&mut self, end: RawFd) -> Result<()> {
        let take = |place: &AtomicI32| place.compare_exchange(NONE, end, AcqRel, Relaxed).is_ok();
        self.place = PENDING.iter().position(take).unwrap_or(MOST);
        if self.place == MOST {
            return Err(bequeath_os::Error::new("fork", Errno::AGAIN).into());
        }
        Ok(())
    }

    /// In the parent: the child that the fork has made.
    ///
    /// # Errors
    /// When descriptors ran out; ESRCH when somebody reaped it already.
    pub fn in_parent(mut self, child: u32) -> Result<PidFd> {
        let reader = std::mem::replace(&mut self.pipe[0], NONE);
        if reader == NONE {
            let pidfd = PidFd::open(child)?;
            if self.gate[1] != NONE {
                // SAFETY: open, and owned by this value until it is dropped.
                go_ahead::say(unsafe { BorrowedFd::borrow_raw(self.gate[1]) });
            }
            return Ok(pidfd);
        }
        // SAFETY: made in `before_fork`, owned by this value, and taken out of it just now.
        let reader = unsafe { OwnedFd::from_raw_fd(reader) };
        Ok(PidFd::stand_in(reader, child))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.maker != std::process::id() {
            return; // a copy in a forked child
        }
        MINE.set([NONE; 2]);
        GATE.set(NONE);
        if let Some(place) = PENDING.get(self.place) {
            place.store(NONE, Release);
        }
        self.pipe.into_iter().chain(self.gate).for_each(close);
    }
}

/// In a forked child, before anything else runs there: keeps its own writing end, closes the rest, and
/// waits for the word where the parent promised one.
pub fn after_fork_in_child() {
    let [reader, writer] = MINE.replace([NONE; 2]);
    for place in &PENDING {
        let other = place.swap(NONE, AcqRel);
        if other != writer {
            close(other);
        }
    }
    close(reader);
    close(OWN.swap(writer, AcqRel));
    let gate = GATE.replace(NONE);
    if gate != NONE {
        // SAFETY: made by this thread before the fork; nobody else in this process knows the number.
        let line = unsafe { OwnedFd::from_raw_fd(gate) };
        // Also when the parent has died meanwhile: that is no concern of a fork.
        let _ = go_ahead::comes(&line);
    }
}

/// What a process must keep open that closes its descriptors by range.
#[must_use]
pub fn own() -> Option<RawFd> {
    Some(OWN.load(Acquire)).filter(|fd| *fd != NONE)
}

/// This process, for others to see it end.
///
/// # Errors
/// When descriptors ran out.
pub fn this_process() -> Result<PidFd> {
    if pidfd::can_open() {
        return Ok(PidFd::open(std::process::id())?);
    }
    let reader: BorrowedFd<'_> = tie::own_reader()?;
    let copy = reader
        .try_clone_to_owned()
        .map_err(|_| bequeath_os::Error::new("fcntl", Errno::MFILE))?;
    Ok(PidFd::stand_in(copy, std::process::id()))
}

fn close(fd: RawFd) {
    if fd != NONE {
        // SAFETY: each number that gets here was taken out of the one place that owned it.
        let _ = unsafe { raw::close(fd) };
    }
}
