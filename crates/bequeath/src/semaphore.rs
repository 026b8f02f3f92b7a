//! `Semaphore`: a count of units that processes take and give.

use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_shm::{AnyHandle, Handle};
use bequeath_sync::semaphore::VALUE_MAX;
use bequeath_sync::Never;

use crate::error::{Error, Result};
use crate::session::Session;
use crate::transfer::transferable;

/// A count of units that processes take and give.
///
/// # After fork
/// See [`Session`].
///
/// # If a peer dies
/// A bounded semaphore gives back what a killed process had taken, once a waiter finds out. One
/// without a bound does not: it may signal between processes, where the taker never gives.
///
/// ```
/// let session = bequeath::Session::new()?;
/// let places = session.semaphore(2, Some(2))?;
/// places.acquire()?;
/// assert_eq!(places.value(), 1);
/// places.release(1)?;
/// assert!(places.release(1).is_err());
/// # Ok::<(), bequeath::Error>(())
/// ```
#[derive(Clone)]
pub struct Semaphore(Handle<bequeath_sync::Semaphore>);

transferable!(Semaphore);

impl Semaphore {
    #[track_caller]
    pub(crate) fn create(session: &Session, units: u32, bound: Option<u32>) -> Result<Self> {
        let mut made = Ok(());
        let handle = session
            .engine()
            .create_object(|body: &bequeath_sync::Semaphore| {
                made = body.init(units, bound.unwrap_or(VALUE_MAX), bound.is_some());
            })?;
        made?;
        Ok(Self(handle))
    }

    /// The semaphore that a received handle refers to.
    ///
    /// # Errors
    /// For an object of another kind.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let semaphore = session.semaphore(3, None)?;
    /// let same = bequeath::Semaphore::from_handle(&semaphore.to_handle())?;
    /// assert_eq!(same.value(), 3);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn from_handle(handle: &AnyHandle) -> Result<Self> {
        Ok(Self(handle.downcast()?))
    }

    /// A handle to pass on inside a [`Message`](crate::Message).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let handle = session.semaphore(1, None)?.to_handle();
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn to_handle(&self) -> AnyHandle {
        self.0.erase()
    }

    /// Waits for a unit and takes it.
    ///
    /// # Errors
    /// When the session is unusable.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// session.semaphore(1, None)?.acquire()?;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn acquire(&self) -> Result<()> {
        self.acquire_until(Deadline::NEVER).map(drop)
    }

    /// As [`acquire`](Semaphore::acquire); false when none came in time.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let none = session.semaphore(0, None)?;
    /// assert!(!none.acquire_timeout(std::time::Duration::from_millis(1))?);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<bool> {
        self.acquire_until(Deadline::after(timeout))
    }

    fn acquire_until(&self, deadline: Deadline) -> Result<bool> {
        match self.0.acquire(deadline, &mut Never).map_err(Error::from) {
            Ok(()) => Ok(true),
            Err(Error::TimedOut) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes a unit if there is one.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert!(!session.semaphore(0, None)?.try_acquire());
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        self.0.try_acquire()
    }

    /// Gives `units`, whoever took them.
    ///
    /// # Errors
    /// Beyond the bound; nothing was given then.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let semaphore = session.semaphore(0, None)?;
    /// semaphore.release(3)?;
    /// assert_eq!(semaphore.value(), 3);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn release(&self, units: u32) -> Result<()> {
        Ok(self.0.release(units)?)
    }

    /// How many units there are now.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert_eq!(session.semaphore(4, None)?.value(), 4);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn value(&self) -> u32 {
        self.0.value()
    }
}

impl std::fmt::Debug for Semaphore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Semaphore({})", self.value())
    }
}
