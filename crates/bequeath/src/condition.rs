//! `Condition`: waiting with a lock released meanwhile, until another process says so.

use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_shm::{AnyHandle, Handle};
use bequeath_sync::Never;
use bytemuck::Pod;

use crate::error::Result;
use crate::lock::{LockError, LockGuard};
use crate::session::Session;
use crate::transfer::transferable;

/// Lets a holder of a [`Lock`](crate::Lock) wait until another holder notifies it.
///
/// # After fork
/// See [`Session`].
///
/// # If a peer dies
/// A killed waiter's turn goes to the next. A notifier killed with the lock held leaves it
/// abandoned, which the waiters learn when they take it back.
///
/// ```no_run
/// # fn wait(ready: &bequeath::Lock<u8>, changed: &bequeath::Condition) -> Result<(), bequeath::Error> {
/// let mut guard = ready.lock()?;
/// while *guard == 0 {
///     guard = changed.wait(guard)?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Condition(Handle<bequeath_sync::Condition>);

transferable!(Condition);

impl Condition {
    #[track_caller]
    pub(crate) fn create(session: &Session) -> Result<Self> {
        Ok(Self(session.engine().create_object(|_| ())?))
    }

    /// The condition that a received handle refers to.
    ///
    /// # Errors
    /// For an object of another kind.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let condition = session.condition()?;
    /// let same = bequeath::Condition::from_handle(&condition.to_handle())?;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn from_handle(handle: &AnyHandle) -> Result<Self> {
        Ok(Self(handle.downcast()?))
    }

    /// A handle to pass on inside a [`Message`](crate::Message).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let handle = session.condition()?.to_handle();
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn to_handle(&self) -> AnyHandle {
        self.0.erase()
    }

    /// Gives the lock back, waits for a notification, and takes the lock again.
    ///
    /// # Errors
    /// As [`Lock::lock`](crate::Lock::lock); the lock is not ours then.
    ///
    /// ```no_run
    /// # fn wait(ready: &bequeath::Lock<u8>, changed: &bequeath::Condition) -> Result<(), bequeath::Error> {
    /// let guard = changed.wait(ready.lock()?)?;
    /// # Ok(()) }
    /// ```
    pub fn wait<'lock, T: Pod>(
        &self,
        guard: LockGuard<'lock, T>,
    ) -> Result<LockGuard<'lock, T>, LockError<'lock, T>> {
        self.wait_until(guard, Deadline::NEVER)
            .map(|(guard, _)| guard)
    }

    /// As [`wait`](Condition::wait); the second value is false when no notification came in time.
    ///
    /// # Errors
    /// As [`wait`](Condition::wait).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let (lock, condition) = (session.lock(0_u8)?, session.condition()?);
    /// let (guard, notified) = condition.wait_timeout(lock.lock()?, std::time::Duration::ZERO)?;
    /// assert!(!notified);
    /// # drop(guard); Ok::<(), bequeath::Error>(())
    /// ```
    pub fn wait_timeout<'lock, T: Pod>(
        &self,
        guard: LockGuard<'lock, T>,
        timeout: Duration,
    ) -> Result<(LockGuard<'lock, T>, bool), LockError<'lock, T>> {
        self.wait_until(guard, Deadline::after(timeout))
    }

    fn wait_until<'lock, T: Pod>(
        &self,
        guard: LockGuard<'lock, T>,
        deadline: Deadline,
    ) -> Result<(LockGuard<'lock, T>, bool), LockError<'lock, T>> {
        let lock = guard.into_held();
        match self.0.wait(lock.engine(), deadline, &mut Never) {
            Ok(()) => Ok((lock.guard(), true)),
            Err(_) if lock.engine().is_mine() => Ok((lock.guard(), false)),
            Err(error) => Err(lock.error(error)),
        }
    }

    /// Wakes the one that waits longest. Call it with the lock held.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// session.condition()?.notify_one();
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn notify_one(&self) {
        self.0.notify(1);
    }

    /// Wakes all who wait. Call it with the lock held.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// session.condition()?.notify_all();
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn notify_all(&self) {
        self.0.notify(usize::MAX);
    }
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Condition({} waiting)", self.0.waiters())
    }
}
