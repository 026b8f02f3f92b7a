//! `Event`: a flag that processes wait for.

use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_shm::{AnyHandle, Handle};
use bequeath_sync::Never;

use crate::error::{Error, Result};
use crate::session::Session;
use crate::transfer::transferable;

/// A flag that one process sets and others wait for.
///
/// # After fork
/// See [`Session`].
///
/// # If a peer dies
/// The flag was set or it was not; waiters are not disturbed.
///
/// ```
/// # fn main() -> Result<(), bequeath::Error> {
/// bequeath::init();
/// let session = bequeath::Session::new()?;
/// let ready = session.event()?;
/// let child = session.spawn(|ready: bequeath::Event| ready.set(), ready.clone())?;
/// ready.wait()?;
/// child.result()
/// # }
/// ```
#[derive(Clone)]
pub struct Event(Handle<bequeath_sync::Event>);

transferable!(Event);

impl Event {
    #[track_caller]
    pub(crate) fn create(session: &Session) -> Result<Self> {
        Ok(Self(session.engine().create_object(|_| ())?))
    }

    /// The event that a received handle refers to.
    ///
    /// # Errors
    /// For an object of another kind.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let event = session.event()?;
    /// event.set();
    /// assert!(bequeath::Event::from_handle(&event.to_handle())?.is_set());
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn from_handle(handle: &AnyHandle) -> Result<Self> {
        Ok(Self(handle.downcast()?))
    }

    /// A handle to pass on inside a [`Message`](crate::Message).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let handle = session.event()?.to_handle();
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn to_handle(&self) -> AnyHandle {
        self.0.erase()
    }

    /// Sets it and wakes all who wait.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let event = session.event()?;
    /// event.set();
    /// assert!(event.is_set());
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn set(&self) {
        self.0.set();
    }

    /// Clears it.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let event = session.event()?;
    /// event.set();
    /// event.clear();
    /// assert!(!event.is_set());
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn clear(&self) {
        self.0.clear();
    }

    /// Whether it is set.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert!(!session.event()?.is_set());
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.is_set()
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// When the session is unusable.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let event = session.event()?;
    /// event.set();
    /// event.wait()?;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn wait(&self) -> Result<()> {
        self.wait_until(Deadline::NEVER).map(drop)
    }

    /// As [`wait`](Event::wait); false when it was not set in time.
    ///
    /// # Errors
    /// As [`wait`](Event::wait).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert!(!session.event()?.wait_timeout(std::time::Duration::from_millis(1))?);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        self.wait_until(Deadline::after(timeout))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<bool> {
        match self.0.wait(deadline, &mut Never).map_err(Error::from) {
            Ok(()) => Ok(true),
            Err(Error::TimedOut) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Event({})",
            if self.is_set() { "set" } else { "not set" }
        )
    }
}
