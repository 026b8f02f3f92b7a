//! `Barrier`: processes that go on together.

use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_shm::{AnyHandle, Handle};
use bequeath_sync::Never;

use crate::error::Result;
use crate::session::Session;
use crate::transfer::transferable;

/// A place where a number of processes wait for one another.
///
/// # After fork
/// See [`Session`].
///
/// # If a peer dies
/// When one that had arrived is killed, the barrier breaks for all who wait.
///
/// ```
/// # fn main() -> Result<(), bequeath::Error> {
/// bequeath::init();
/// let session = bequeath::Session::new()?;
/// let start = session.barrier(2)?;
/// let child = session.spawn(|start: bequeath::Barrier| start.wait().is_ok(), start.clone())?;
/// start.wait()?;
/// assert!(child.result()?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Barrier(Handle<bequeath_sync::Barrier>);

transferable!(Barrier);

impl Barrier {
    #[track_caller]
    pub(crate) fn create(session: &Session, parties: u64) -> Result<Self> {
        let mut made = Ok(());
        let handle = session
            .engine()
            .create_object(|body: &bequeath_sync::Barrier| {
                made = body.init(parties);
            })?;
        made?;
        Ok(Self(handle))
    }

    /// The barrier that a received handle refers to.
    ///
    /// # Errors
    /// For an object of another kind.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let barrier = session.barrier(3)?;
    /// assert_eq!(bequeath::Barrier::from_handle(&barrier.to_handle())?.parties(), 3);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn from_handle(handle: &AnyHandle) -> Result<Self> {
        Ok(Self(handle.downcast()?))
    }

    /// A handle to pass on inside a [`Message`](crate::Message).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let handle = session.barrier(1)?.to_handle();
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn to_handle(&self) -> AnyHandle {
        self.0.erase()
    }

    /// Waits until as many have come as the barrier takes; says in which order this one came, from 0.
    ///
    /// # Errors
    /// [`Error::BrokenBarrier`](crate::Error::BrokenBarrier).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert_eq!(session.barrier(1)?.wait()?, 0);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn wait(&self) -> Result<u64> {
        Ok(self.0.wait(Deadline::NEVER, &mut Never)?)
    }

    /// As [`wait`](Barrier::wait), but breaks the barrier when the others do not come in time.
    ///
    /// # Errors
    /// As [`wait`](Barrier::wait).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let barrier = session.barrier(2)?;
    /// assert!(barrier.wait_timeout(std::time::Duration::from_millis(1)).is_err());
    /// assert!(barrier.is_broken());
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<u64> {
        Ok(self.0.wait(Deadline::after(timeout), &mut Never)?)
    }

    /// Breaks it for all who wait and all who come, until [`reset`](Barrier::reset).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let barrier = session.barrier(2)?;
    /// barrier.abort();
    /// assert!(barrier.wait().is_err());
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Makes it whole and empty.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let barrier = session.barrier(1)?;
    /// barrier.abort();
    /// barrier.reset();
    /// barrier.wait()?;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn reset(&self) {
        self.0.reset();
    }

    /// How many it takes.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert_eq!(session.barrier(2)?.parties(), 2);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn parties(&self) -> u64 {
        self.0.parties()
    }

    /// Whether it is broken.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert!(!session.barrier(2)?.is_broken());
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.0.is_broken()
    }
}

impl std::fmt::Debug for Barrier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Barrier({} of {} waiting)",
            self.0.waiting(),
            self.parties()
        )
    }
}
