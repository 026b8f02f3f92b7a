//! `Lock`: one holder at a time; any process and thread may release it, as with
//! `multiprocessing.Lock`. A killed holder is reported, never silently replaced.

use bequeath_os::Deadline;

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::error::{Error, Result};
use crate::owner::{thread_number, ProcessId};
use crate::park::Interrupt;
use crate::seen::LockSeen;
use crate::word::{about_its_holder, OwnerWord, Times};

/// A lock between processes. All zero is a free lock.
///
/// # After fork
/// Valid in both processes; what the parent held the parent still holds, and the child does not.
///
/// # If a peer dies
/// Killed while holding: every `acquire` answers [`Error::Abandoned`] without taking the lock, until
/// one caller's [`recover`](Self::recover) takes it or anyone's [`release`](Self::release) frees it.
/// Ended in order while holding: it stays held, and anyone may release it. Killed while waiting:
/// nothing happens to anybody.
#[repr(C, align(16))]
#[derive(Debug)]
pub struct Lock {
    word: OwnerWord,
    /// Which thread of the owner; zero for a moment after it was taken. Only for telling.
    thread: AtomicU64,
    recovering: AtomicU32,
    times: Times,
}

impl Lock {
    /// A free lock.
    #[must_use]
    pub fn new() -> Self {
        Self {
            word: OwnerWord::new(),
            thread: AtomicU64::new(0),
            recovering: AtomicU32::new(0),
            times: Times::new(),
        }
    }

    /// Waits until it is ours.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::Interrupted`], [`Error::Abandoned`]; it is not ours then.
    #[inline]
    pub fn acquire(&self, deadline: Deadline, interrupt: &mut dyn Interrupt) -> Result<()> {
        self.word.acquire(deadline, interrupt)?;
        self.sign();
        Ok(())
    }

    /// Takes it if it is free, and asks nothing about who holds it.
    #[must_use]
    #[inline]
    pub fn try_take(&self) -> bool {
        let taken = self.word.take();
        if taken {
            self.sign();
        }
        taken
    }

    /// Takes it if it is free.
    ///
    /// # Errors
    /// [`Error::Abandoned`].
    #[inline]
    pub fn try_acquire(&self) -> Result<bool> {
        let taken = self.word.try_acquire()?;
        if taken {
            self.sign();
        }
        Ok(taken)
    }

    #[inline]
    fn sign(&self) {
        self.times.count();
        self.thread.store(thread_number(), Ordering::Relaxed);
    }

    /// Frees it, whoever holds it.
    ///
    /// # Errors
    /// [`Error::NotHeld`] when it was free.
    #[inline]
    pub fn release(&self) -> Result<()> {
        if self.word.owner().is_none() {
            return Err(Error::NotHeld);
        }
        self.thread.store(0, Ordering::Relaxed);
        self.word.release()
    }

    /// Takes an abandoned lock; what it protects may be half written.
    ///
    /// # Errors
    /// [`Error::NotAbandoned`] when it is free, held by somebody alive, or another caller was faster.
    pub fn recover(&self) -> Result<()> {
        self.word.recover()?;
        self.sign();
        Ok(())
    }

    about_its_holder!();

    /// What a copy of a lock's words says; `None` when it is too short.
    #[must_use]
    pub fn read(words: &[u64]) -> Option<LockSeen> {
        let [word, noted, thread, last, ..] = *words else {
            return None;
        };
        let thread = (thread != 0).then_some(thread);
        Some(LockSeen {
            thread,
            times: (last >> 32) as u32,
            ..crate::word::read(word, noted)
        })
    }

    /// Whether this thread of this process took it.
    #[must_use]
    pub fn is_mine(&self) -> bool {
        self.is_held_here() && self.thread.load(Ordering::Relaxed) == thread_number()
    }

    /// Whether some thread of this process took it.
    #[must_use]
    pub fn is_held_here(&self) -> bool {
        self.word.owner() == Some(ProcessId::current())
    }
}

impl Default for Lock {
    fn default() -> Self {
        Self::new()
    }
}
