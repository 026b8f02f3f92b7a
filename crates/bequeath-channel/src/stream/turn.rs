//! One thread of this process at a time, for what must not be mixed on one descriptor.
//!
//! Not a `std` mutex: who waits must run signal handlers, and a fork while another thread is inside
//! must not lock the child out for ever. So the word holds the pid of the process whose thread is
//! inside: in a child that number is another process's, and taking over is right, since the thread
//! itself was not copied.

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use bequeath_os::{futex, Deadline};
use bequeath_sync::{Interrupt, ProcessId};

use super::error::Result;

const SLICE: Duration = Duration::from_millis(50);

/// The right to use one direction of a descriptor.
///
/// # After fork
/// Free in the child, whoever was inside in the parent.
///
/// # If a peer dies
/// Not shared between processes: nothing.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    inside: AtomicU32,
    waiting: AtomicU32,
}

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a Turn);

impl Turn {
    /// Waits until no other thread of this process is inside.
    ///
    /// # Errors
    /// `Interrupted`.
    pub(crate) fn take(&self, interrupt: &mut dyn Interrupt) -> Result<Inside<'_>> {
        let me = ProcessId::current().pid();
        loop {
            match self.try_take(me) {
                Ok(inside) => return Ok(inside),
                Err(holder) => self.sleep(holder, interrupt)?,
            }
        }
    }

    fn try_take(&self, me: u32) -> Result<Inside<'_>, u32> {
        let mut expected = 0;
        loop {
            let taken =
                self.inside
                    .compare_exchange(expected, me, Ordering::Acquire, Ordering::Relaxed);
            match taken {
                Ok(_) => return Ok(Inside(self)),
                Err(holder) if holder == me => return Err(holder),
                Err(holder) => expected = holder,
            }
        }
    }

    fn sleep(&self, holder: u32, interrupt: &mut dyn Interrupt) -> Result<()> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        futex::wait(&self.inside, holder, Deadline::after(SLICE));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        interrupt.check()?;
        Ok(())
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.store(0, Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) != 0 {
            futex::wake(&self.0.inside, 1);
        }
    }
}
