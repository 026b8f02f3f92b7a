#![allow(unsafe_code)]
//! `Lock<T>`: a value in shared memory that one process at a time changes.
//!
//! The value is kept twice. A guard works on a copy of its own; when it is dropped after a change,
//! the new value is written over the copy that is *not* selected, and one store selects it. So a
//! holder killed at any instruction leaves a whole value: the old one, or the new one. What it may
//! have left half done *elsewhere* the lock cannot know, and therefore reports the death.
//!
//! # Safety invariants
//! - [`Body`] is `repr(C)`, atomics only, valid for every bit pattern; all zero is a free lock.
//! - The extra bytes behind a body are two values of `T`'s size; `open` checks that before any use.
//!   They are touched by raw byte copies only, never by reference, and `T: Pod` makes every pattern
//!   of them a value.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_shm::{kind, AnyHandle, Handle, Object};
use bequeath_sync::Never;
use bytemuck::Pod;

use crate::dead::{describe, DeadProcess};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::transfer::transferable;

#[repr(C)]
pub(crate) struct Body {
    lock: bequeath_sync::Lock,
    /// Which of the two values is true, in bit 0.
    selected: AtomicU64,
    reserved: AtomicU64,
}

// SAFETY: see the module's invariants.
unsafe impl Object for Body {
    const KIND: u32 = kind::LOCKED_VALUE;
}

/// A value that processes change one at a time.
///
/// `T` is plain data: [`Pod`], that is `Copy`, without padding, pointers or invalid bit patterns,
/// because another process may have written anything. Each lock and unlock copies the value, so
/// keep it small; large data lives in a [`Block`](crate::Block). A `Lock<()>` is a Python program's `Lock`.
///
/// # After fork
/// See [`Session`].
///
/// # If a peer dies
/// Killed while it held the lock: every [`lock`](Lock::lock) is an error that names the dead, until
/// one caller [recovers](LockError::recover) it, as with a poisoned [`std::sync::Mutex`]. The value
/// is the last one that a guard wrote back, never a half written one.
///
/// ```
/// let session = bequeath::Session::new()?;
/// let total = session.lock(0_u64)?;
/// *total.lock()? += 2;
/// assert_eq!(*total.lock()?, 2);
/// # Ok::<(), bequeath::Error>(())
/// ```
pub struct Lock<T: Pod> {
    place: Place,
    value: PhantomData<fn(T) -> T>,
}

/// A lock of nothing is the very lock that Python programs have.
#[derive(Clone)]
enum Place {
    Bare(Handle<bequeath_sync::Lock>),
    Valued(Handle<Body>),
}

impl<T: Pod> Clone for Lock<T> {
    fn clone(&self) -> Self {
        Self::of(self.place.clone())
    }
}

impl<T: Pod> std::fmt::Debug for Lock<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let holder = self.engine().owner().map(bequeath_sync::ProcessId::pid);
        formatter
            .debug_struct("Lock")
            .field("holder", &holder)
            .finish()
    }
}

transferable!(Lock<T: Pod>);

impl<T: Pod> Lock<T> {
    const fn of(place: Place) -> Self {
        Self {
            place,
            value: PhantomData,
        }
    }

    #[track_caller]
    pub(crate) fn create(session: &Session, value: T) -> Result<Self> {
        if size_of::<T>() == 0 {
            let bare = session.engine().create_object(|_| ())?;
            return Ok(Self::of(Place::Bare(bare)));
        }
        let handle = session
            .engine()
            .create_sized::<Body>(2 * size_of::<T>(), |_| ())?;
        Self::write(&handle, 0, value);
        Ok(Self::of(Place::Valued(handle)))
    }

    /// The lock that a received handle refers to.
    ///
    /// # Errors
    /// For an object of another kind, or a lock of a value of another size.
    ///
    /// ```
    /// use bequeath::Lock;
    /// let session = bequeath::Session::new()?;
    /// let lock = session.lock(7_u32)?;
    /// assert_eq!(*Lock::<u32>::from_handle(&lock.to_handle())?.lock()?, 7);
    /// assert!(Lock::<u64>::from_handle(&lock.to_handle()).is_err());
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn from_handle(handle: &AnyHandle) -> Result<Self> {
        if size_of::<T>() == 0 {
            return Ok(Self::of(Place::Bare(handle.downcast()?)));
        }
        let handle = handle.downcast::<Body>()?;
        if handle.extra().1 == 2 * size_of::<T>() {
            Ok(Self::of(Place::Valued(handle)))
        } else {
            Err(Error::Malformed("a lock of a value of another size"))
        }
    }

    /// A handle to pass on inside a [`Message`](crate::Message).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let handle = session.lock(7_u32)?.to_handle();
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn to_handle(&self) -> AnyHandle {
        match &self.place {
            Place::Bare(bare) => bare.erase(),
            Place::Valued(valued) => valued.erase(),
        }
    }

    /// Waits until the lock is ours; the guard gives it back when dropped.
    ///
    /// # Errors
    /// [`LockError::Abandoned`] when the holder was killed. The lock is not ours then.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let lock = session.lock([0_i32; 4])?;
    /// let mut guard = match lock.lock() {
    ///     Ok(guard) => guard,
    ///     Err(abandoned) => {
    ///         eprintln!("{abandoned}");
    ///         abandoned.recover()?
    ///     }
    /// };
    /// guard[2] = 5;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn lock(&self) -> Result<LockGuard<'_, T>, LockError<'_, T>> {
        self.acquire(Deadline::NEVER)
    }

    /// As [`lock`](Lock::lock), but [`Error::TimedOut`] after `timeout`.
    ///
    /// # Errors
    /// As [`lock`](Lock::lock).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let lock = session.lock(0_u8)?;
    /// let guard = lock.lock()?;
    /// assert!(lock.lock_timeout(std::time::Duration::from_millis(1)).is_err());
    /// # drop(guard);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_, T>, LockError<'_, T>> {
        self.acquire(Deadline::after(timeout))
    }

    /// The lock if it is free, else `None`.
    ///
    /// # Errors
    /// [`LockError::Abandoned`].
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let lock = session.lock(0_u8)?;
    /// let guard = lock.try_lock()?;
    /// assert!(guard.is_some() && lock.try_lock()?.is_none());
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn try_lock(&self) -> Result<Option<LockGuard<'_, T>>, LockError<'_, T>> {
        match self.engine().try_acquire() {
            Ok(true) => Ok(Some(self.guard())),
            Ok(false) => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }

    fn acquire(&self, deadline: Deadline) -> Result<LockGuard<'_, T>, LockError<'_, T>> {
        loop {
            match self.engine().acquire(deadline, &mut Never) {
                Ok(()) => return Ok(self.guard()),
                Err(bequeath_sync::Error::Interrupted) => {}
                Err(error) => return Err(self.error(error)),
            }
        }
    }

    pub(crate) fn error(&self, error: bequeath_sync::Error) -> LockError<'_, T> {
        match error {
            bequeath_sync::Error::Abandoned(holder) => LockError::Abandoned(Abandoned {
                lock: self,
                dead: describe(holder.process.pid()),
            }),
            other => LockError::Failed(other.into()),
        }
    }

    /// Called with the lock held.
    pub(crate) fn guard(&self) -> LockGuard<'_, T> {
        let selected = match &self.place {
            Place::Bare(_) => 0,
            Place::Valued(body) => body.selected.load(Ordering::Relaxed) & 1,
        };
        LockGuard {
            lock: self,
            // Nothing else holds it on the way: it may be large.
            value: self.read(selected),
            selected,
            changed: false,
            not_send: PhantomData,
        }
    }

    pub(crate) fn engine(&self) -> &bequeath_sync::Lock {
        match &self.place {
            Place::Bare(bare) => bare,
            Place::Valued(valued) => &valued.lock,
        }
    }

    /// First byte of one of the two values.
    fn place(body: &Handle<Body>, which: u64) -> *mut u8 {
        let (first, len) = body.extra();
        assert_eq!(
            len,
            2 * size_of::<T>(),
            "checked when the lock was made or opened"
        );
        // SAFETY: `which` is 0 or 1, and the extra bytes hold two values.
        unsafe { first.add((which & 1) as usize * size_of::<T>()) }
    }

    fn read(&self, which: u64) -> T {
        let mut value = T::zeroed();
        if let Place::Valued(body) = &self.place {
            let bytes = bytemuck::bytes_of_mut(&mut value);
            let from = Self::place(body, which);
            // SAFETY: as many bytes as a value has, from shared memory to a local value.
            unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
        }
        value
    }

    fn write(body: &Handle<Body>, which: u64, value: T) {
        let bytes = bytemuck::bytes_of(&value);
        // SAFETY: as many bytes as a value has, from a local value to shared memory.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), Self::place(body, which), bytes.len())
        };
    }
}

/// The right to the value of a [`Lock`], given back when dropped.
///
/// # After fork
/// Belongs to the process that locked.
///
/// # If a peer dies
/// If this process is killed while it has a guard, the others are told.
///
/// ```
/// let session = bequeath::Session::new()?;
/// let lock = session.lock((0_u32, 0_u32).0)?;
/// let mut guard = lock.lock()?;
/// *guard += 1; // written back when `guard` is dropped
/// # Ok::<(), bequeath::Error>(())
/// ```
pub struct LockGuard<'lock, T: Pod> {
    lock: &'lock Lock<T>,
    value: T,
    selected: u64,
    changed: bool,
    /// The lock knows which thread holds it.
    not_send: PhantomData<*const ()>,
}

impl<'lock, T: Pod> LockGuard<'lock, T> {
    /// Makes a changed value the true one, in one store.
    fn write_back(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        if let (true, Place::Valued(body)) = (changed, &self.lock.place) {
            self.selected ^= 1;
            Lock::write(body, self.selected, self.value);
            body.selected.store(self.selected, Ordering::Release);
        }
    }

    /// Ends the guard with the lock still held, the value written back.
    pub(crate) fn into_held(mut self) -> &'lock Lock<T> {
        self.write_back();
        let lock = self.lock;
        std::mem::forget(self);
        lock
    }
}

impl<T: Pod + std::fmt::Debug> std::fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.value.fmt(formatter)
    }
}

impl<T: Pod> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Pod> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changed = true;
        &mut self.value
    }
}

impl<T: Pod> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        self.write_back();
        // Refused only if somebody else released a lock that was not theirs: nothing is held then.
        let _ = self.lock.engine().release();
    }
}

/// Why a lock is not ours.
///
/// ```no_run
/// # fn take(lock: &bequeath::Lock<u64>) -> Result<(), bequeath::Error> {
/// if let Err(error) = lock.lock() {
///     if let Some(dead) = error.dead() {
///         eprintln!("{dead}");
///     }
///     let guard = error.recover()?;
/// }
/// # Ok(()) }
/// ```
pub enum LockError<'lock, T: Pod> {
    /// The holder died while it held the lock.
    Abandoned(Abandoned<'lock, T>),
    /// The deadline came, or the session is unusable.
    Failed(Error),
}

/// A lock whose holder died.
///
/// ```no_run
/// # fn take(lock: &bequeath::Lock<u64>) -> Result<(), bequeath::Error> {
/// if let Err(bequeath::LockError::Abandoned(abandoned)) = lock.lock() {
///     eprintln!("process {} held it", abandoned.dead().pid);
///     let guard = abandoned.recover()?;
/// }
/// # Ok(()) }
/// ```
pub struct Abandoned<'lock, T: Pod> {
    lock: &'lock Lock<T>,
    dead: DeadProcess,
}

impl<'lock, T: Pod> Abandoned<'lock, T> {
    /// Who died.
    ///
    /// ```no_run
    /// # fn show(abandoned: &bequeath::Abandoned<'_, u64>) {
    /// eprintln!("{}", abandoned.dead());
    /// # }
    /// ```
    #[must_use]
    pub const fn dead(&self) -> &DeadProcess {
        &self.dead
    }

    /// Takes the lock over. When another process is faster, waits for it as [`Lock::lock`] does.
    ///
    /// # Errors
    /// When the session is unusable.
    ///
    /// ```no_run
    /// # fn take(abandoned: bequeath::Abandoned<'_, u64>) -> Result<(), bequeath::Error> {
    /// let mut guard = abandoned.recover()?;
    /// *guard = 0;
    /// # Ok(()) }
    /// ```
    pub fn recover(self) -> Result<LockGuard<'lock, T>> {
        loop {
            match self.lock.engine().recover() {
                Ok(()) => return Ok(self.lock.guard()),
                Err(bequeath_sync::Error::NotAbandoned) => {}
                Err(error) => return Err(error.into()),
            }
            match self.lock.lock() {
                Ok(guard) => return Ok(guard),
                // The one who was faster died as well.
                Err(LockError::Abandoned(_)) => {}
                Err(LockError::Failed(error)) => return Err(error),
            }
        }
    }
}

impl<'lock, T: Pod> LockError<'lock, T> {
    /// Who died, if that is the reason.
    ///
    /// ```no_run
    /// # fn show(error: &bequeath::LockError<'_, u64>) {
    /// let killed = error.dead().is_some();
    /// # }
    /// ```
    #[must_use]
    pub const fn dead(&self) -> Option<&DeadProcess> {
        match self {
            Self::Abandoned(abandoned) => Some(&abandoned.dead),
            Self::Failed(_) => None,
        }
    }

    /// Takes an abandoned lock over.
    ///
    /// # Errors
    /// The error itself, when nobody died.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let lock = session.lock(0_u64)?;
    /// let guard = lock.lock().or_else(|error| error.recover())?;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn recover(self) -> Result<LockGuard<'lock, T>> {
        match self {
            Self::Abandoned(abandoned) => abandoned.recover(),
            Self::Failed(error) => Err(error),
        }
    }
}

impl<T: Pod> std::fmt::Debug for LockError<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Abandoned(abandoned) => formatter
                .debug_tuple("Abandoned")
                .field(&abandoned.dead)
                .finish(),
            Self::Failed(error) => formatter.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<T: Pod> std::fmt::Display for LockError<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Abandoned(abandoned) => {
                write!(formatter, "the holder of the lock died: {}", abandoned.dead)
            }
            Self::Failed(error) => error.fmt(formatter),
        }
    }
}

impl<T: Pod> std::error::Error for LockError<'_, T> {}

impl<T: Pod> From<LockError<'_, T>> for Error {
    fn from(error: LockError<'_, T>) -> Self {
        match error {
            LockError::Abandoned(abandoned) => Self::Abandoned(abandoned.dead),
            LockError::Failed(error) => error,
        }
    }
}
