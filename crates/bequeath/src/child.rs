//! A started worker, as its starter sees it.

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use bequeath_os::poll::{self, Events};
use bequeath_os::socket::RecvFlags;
use bequeath_os::Deadline;
use bequeath_process::ExitStatus;
use bequeath_shm::Session;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::line::{Arrived, Line};
use crate::worker::Outcome;
use crate::{dead, transfer};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A worker that this process started, and the result of type `R` that it will give.
///
/// Dropping it neither ends nor awaits the worker, as with [`std::process::Child`]; a worker that
/// shall end with this process is started with [`daemon`](crate::Worker::daemon).
///
/// # After fork
/// Belongs to the process that started it; a forked child may look, but not wait.
///
/// # If a peer dies
/// When the worker dies, [`wait`](Child::wait) tells how, and [`result`](Child::result) is
/// [`Error::Died`] with the name of the signal.
///
/// ```
/// # fn main() -> Result<(), bequeath::Error> {
/// bequeath::init();
/// let session = bequeath::Session::new()?;
/// let child = session.spawn(|_: ()| loop { std::thread::park() }, ())?;
/// child.kill()?;
/// let error = child.result().map(|(): ()| ()).unwrap_err();
/// assert!(error.to_string().ends_with("died: killed by SIGKILL"));
/// # Ok(()) }
/// ```
pub struct Child<R> {
    process: Arc<bequeath_process::Child>,
    name: String,
    line: Line,
    session: Session,
    given_back: AtomicBool,
    result: PhantomData<fn() -> R>,
}

impl<R> std::fmt::Debug for Child<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Child({}, pid {})", self.name, self.pid())
    }
}

impl<R> Child<R> {
    pub(crate) fn new(
        process: bequeath_process::Child,
        name: String,
        line: Line,
        session: Session,
    ) -> Self {
        let process = Arc::new(process);
        dead::remember(&process, &name);
        Self {
            process,
            name,
            line,
            session,
            given_back: AtomicBool::new(false),
            result: PhantomData,
        }
    }

    pub(crate) const fn line(&self) -> &Line {
        &self.line
    }

    /// Its number; another process may have it once this one was waited for.
    ///
    /// ```no_run
    /// # fn show<R>(child: &bequeath::Child<R>) {
    /// println!("started {}", child.pid());
    /// # }
    /// ```
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its name.
    ///
    /// ```no_run
    /// # fn show<R>(child: &bequeath::Child<R>) {
    /// println!("started {}", child.name());
    /// # }
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until it has ended, and tells how.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    ///
    /// ```no_run
    /// # fn end<R>(child: &bequeath::Child<R>) -> Result<(), bequeath::Error> {
    /// if !child.wait()?.is_success() {
    ///     eprintln!("{} {}", child.name(), child.wait()?);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn wait(&self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.wait_until(Deadline::NEVER)? {
                return Ok(status);
            }
        }
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    /// As [`wait`](Child::wait).
    ///
    /// ```no_run
    /// # fn look<R>(child: &bequeath::Child<R>) -> Result<(), bequeath::Error> {
    /// let running = child.try_wait()?.is_none();
    /// # Ok(()) }
    /// ```
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.wait_until(Deadline::PAST)
    }

    /// As [`wait`](Child::wait), but `None` when it still runs after `timeout`.
    ///
    /// # Errors
    /// As [`wait`](Child::wait).
    ///
    /// ```no_run
    /// # fn end<R>(child: &bequeath::Child<R>) -> Result<(), bequeath::Error> {
    /// if child.wait_timeout(std::time::Duration::from_secs(5))?.is_none() {
    ///     child.kill()?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<ExitStatus>> {
        self.wait_until(Deadline::after(timeout))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<Option<ExitStatus>> {
        loop {
            match self.process.wait(deadline) {
                Err(error) if error.is_interrupted() => continue,
                waited => return Ok(waited?.inspect(|status| self.give_back(*status))),
            }
        }
    }

    /// What the worker still held is free again, once.
    fn give_back(&self, status: ExitStatus) {
        if !self.given_back.swap(true, Ordering::Relaxed) {
            self.session.note_death(self.pid(), status.code());
            self.session.reap_pid(self.pid());
        }
    }

    /// Ends it at once (SIGKILL). One that has ended already stays as it is.
    ///
    /// # Errors
    /// When the kernel refuses.
    ///
    /// ```no_run
    /// # fn end<R>(child: &bequeath::Child<R>) -> Result<(), bequeath::Error> {
    /// child.kill()?;
    /// # Ok(()) }
    /// ```
    pub fn kill(&self) -> Result<()> {
        self.send_signal(SIGKILL)
    }

    /// Asks it to end (SIGTERM).
    ///
    /// # Errors
    /// When the kernel refuses.
    ///
    /// ```no_run
    /// # fn end<R>(child: &bequeath::Child<R>) -> Result<(), bequeath::Error> {
    /// child.terminate()?;
    /// # Ok(()) }
    /// ```
    pub fn terminate(&self) -> Result<()> {
        self.send_signal(SIGTERM)
    }

    /// Sends any signal, by number; one that has ended already stays as it is.
    ///
    /// # Errors
    /// For a number that is no signal.
    ///
    /// ```no_run
    /// # fn stop<R>(child: &bequeath::Child<R>) -> Result<(), bequeath::Error> {
    /// const SIGSTOP: i32 = 19;
    /// child.send_signal(SIGSTOP)?;
    /// # Ok(()) }
    /// ```
    pub fn send_signal(&self, signal: i32) -> Result<()> {
        Ok(self.process.send_signal(signal).map(drop)?)
    }

    /// The worker is gone, or about to go, without a word.
    pub(crate) fn died(&self) -> Result<Error> {
        let status = self.wait()?;
        Ok(Error::Died {
            name: self.name.clone(),
            pid: self.pid(),
            status,
        })
    }
}

impl<R: DeserializeOwned> Child<R> {
    /// Waits for the worker's result and its end.
    ///
    /// # Errors
    /// [`Error::Panicked`] with the text of the panic, [`Error::Died`] with the signal,
    /// [`Error::Failed`] when it could not take its arguments or hand back its result.
    ///
    /// ```
    /// # fn main() -> Result<(), bequeath::Error> {
    /// bequeath::init();
    /// let session = bequeath::Session::new()?;
    /// let child = session.spawn(|n: u32| -> Option<u32> { n.checked_sub(5) }, 3)?;
    /// assert_eq!(child.result()?, None);
    /// # Ok(()) }
    /// ```
    pub fn result(self) -> Result<R> {
        let outcome = self.outcome()?;
        self.wait()?;
        let Some(arrived) = outcome else {
            return Err(self.died()?);
        };
        let (name, pid) = (self.name.clone(), self.pid());
        match &arrived.head {
            Outcome::Panicked(message) => Err(Error::Panicked {
                name,
                pid,
                message: message.clone(),
            }),
            Outcome::Failed(message) => Err(Error::Failed {
                name,
                pid,
                message: message.clone(),
            }),
            Outcome::Returned => transfer::import(arrived.open(&self.session)?),
        }
    }

    /// What it said, or `None` when it ended without a word. Its end is watched too: something that
    /// it forked may keep its side of the line open for ever.
    fn outcome(&self) -> Result<Option<Arrived<Outcome>>> {
        let watched = [
            (self.line.as_fd(), Events::IN),
            (self.process.as_fd(), Events::IN),
        ];
        loop {
            match poll::wait(&watched, Deadline::NEVER) {
                Err(error) if error.is_interrupted() => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => return self.line.recv(RecvFlags::DONTWAIT),
            }
        }
    }
}

impl<R> AsFd for Child<R> {
    /// A descriptor that becomes readable when the worker is dead, for `poll` and the like.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}
