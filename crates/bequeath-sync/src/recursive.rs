//! `RecursiveLock`: a lock that its holding thread may take again.

use bequeath_os::Deadline;

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::broken::{self, Mistake};
use crate::error::{Error, Result};
use crate::owner::{thread_number, ProcessId};
use crate::park::Interrupt;
use crate::seen::LockSeen;
use crate::word::{about_its_holder, OwnerWord, Times};

/// A lock between processes, owned by a thread. All zero is a free lock.
///
/// # After fork
/// Valid in both processes; the child's threads are not the owner.
///
/// # If a peer dies
/// As [`Lock`](crate::Lock); the depth of the dead is forgotten.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct RecursiveLock {
    word: OwnerWord,
    /// The owning thread, named for all processes. Only that thread ever writes its own name here, and
    /// it clears it before it releases: whoever reads its own name below its process's holds the lock.
    /// What a killed thread left here is nobody's name, so it may stay until the next owner signs.
    thread: AtomicU64,
    depth: AtomicU32,
    recovering: AtomicU32,
    times: Times,
    reserved: AtomicU32,
}

impl RecursiveLock {
    /// A free lock.
    #[must_use]
    pub fn new() -> Self {
        Self {
            word: OwnerWord::new(),
            thread: AtomicU64::new(0),
            depth: AtomicU32::new(0),
            recovering: AtomicU32::new(0),
            times: Times::new(),
            reserved: AtomicU32::new(0),
        }
    }

    /// Waits until it is this thread's, or counts one more.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::Interrupted`], [`Error::Abandoned`], [`Error::TooDeep`].
    #[inline]
    pub fn acquire(&self, deadline: Deadline, interrupt: &mut dyn Interrupt) -> Result<()> {
        if self.is_mine() {
            return self.deepen();
        }
        self.word.acquire(deadline, interrupt)?;
        self.sign(1);
        Ok(())
    }

    /// Takes it if it is free, or counts one more, and asks nothing about who holds it.
    #[must_use]
    #[inline]
    pub fn try_take(&self) -> bool {
        if self.is_mine() {
            return self.deepen().is_ok();
        }
        let taken = self.word.take();
        if taken {
            self.sign(1);
        }
        taken
    }

    /// Takes it, or counts one more, without waiting.
    ///
    /// # Errors
    /// [`Error::Abandoned`], [`Error::TooDeep`].
    #[inline]
    pub fn try_acquire(&self) -> Result<bool> {
        if self.is_mine() {
            return self.deepen().map(|()| true);
        }
        let taken = self.word.try_acquire()?;
        if taken {
            self.sign(1);
        }
        Ok(taken)
    }

    fn deepen(&self) -> Result<()> {
        let depth = self
            .depth
            .load(Ordering::Relaxed)
            .checked_add(1)
            .ok_or(Error::TooDeep)?;
        self.depth.store(depth, Ordering::Relaxed);
        Ok(())
    }

    #[inline]
    fn sign(&self, depth: u32) {
        self.times.count();
        self.thread.store(this_thread(), Ordering::Relaxed);
        self.depth.store(depth, Ordering::Relaxed);
    }

    /// Counts one less, and frees it at the last. An abandoned lock anybody may free.
    ///
    /// # Errors
    /// [`Error::NotOwner`].
    #[inline]
    pub fn release(&self) -> Result<()> {
        if !self.is_mine() {
            return self.release_abandoned();
        }
        match self.depth.load(Ordering::Relaxed) {
            0 | 1 => self.free(),
            deep => {
                self.depth.store(deep - 1, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    #[inline]
    fn free(&self) -> Result<()> {
        self.depth.store(0, Ordering::Relaxed);
        self.thread.store(0, Ordering::Relaxed);
        self.word.release()
    }

    #[cold]
    fn release_abandoned(&self) -> Result<()> {
        match self.abandoned_by() {
            Some(_) => self.word.release(),
            None => Err(Error::NotOwner),
        }
    }

    /// Frees it however deep it is, and says how deep it was.
    ///
    /// # Errors
    /// [`Error::NotOwner`].
    pub fn release_fully(&self) -> Result<u32> {
        if !self.is_mine() {
            return Err(Error::NotOwner);
        }
        let depth = self.depth.load(Ordering::Relaxed);
        self.free().map(|()| depth)
    }

    /// Takes it back as deep as it was.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_again(
        &self,
        depth: u32,
        deadline: Deadline,
        interrupt: &mut dyn Interrupt,
    ) -> Result<()> {
        self.word.acquire(deadline, interrupt)?;
        self.sign(depth);
        Ok(())
    }

    /// Takes an abandoned lock, once deep; what it protects may be half written.
    ///
    /// # Errors
    /// [`Error::NotAbandoned`].
    pub fn recover(&self) -> Result<()> {
        self.word.recover()?;
        self.sign(if broken::is(Mistake::DepthKept) {
            self.depth()
        } else {
            1
        });
        Ok(())
    }

    about_its_holder!();

    /// What a copy of a lock's words says; `None` when it is too short.
    #[must_use]
    pub fn read(words: &[u64]) -> Option<LockSeen> {
        let [word, noted, thread, depth, times, ..] = *words else {
            return None;
        };
        let seen = crate::word::read(word, noted);
        let its = seen
            .owner
            .is_some_and(|owner| thread >> 40 == u64::from(owner.pid()));
        Some(LockSeen {
            thread: its.then_some(thread & 0xff_ffff_ffff),
            depth: (depth as u32).max(1),
            times: times as u32,
            ..seen
        })
    }

    /// Whether this thread of this process holds it.
    #[must_use]
    #[inline]
    pub fn is_mine(&self) -> bool {
        self.thread.load(Ordering::Relaxed) == this_thread() && self.is_held_here()
    }

    /// Whether some thread of this process holds it.
    #[must_use]
    #[inline]
    pub fn is_held_here(&self) -> bool {
        self.word.owner() == Some(ProcessId::current())
    }

    /// How often the holding thread took it; meant for that thread.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.depth.load(Ordering::Relaxed)
    }
}

/// This thread among all threads of all processes: a bare number is another process's, too.
#[inline]
fn this_thread() -> u64 {
    u64::from(ProcessId::current().pid()) << 40 | (thread_number() & 0xff_ffff_ffff)
}

impl Default for RecursiveLock {
    fn default() -> Self {
        Self::new()
    }
}
