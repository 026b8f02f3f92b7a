//! Starting a copy of this program that runs one function.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use bequeath_process::{Command, Tie};
use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::child::Child;
use crate::error::{Error, Result};
use crate::function::{identity, Name};
use crate::line::{pack, Line};
use crate::session::Session;
use crate::transfer;
use crate::worker::{is_initialised, Start, MARK};

/// How a worker is to be started; made by [`Session::worker`].
///
/// # After fork
/// Not for other processes.
///
/// # If a peer dies
/// See [`Child`].
///
/// ```
/// # fn main() -> Result<(), bequeath::Error> {
/// bequeath::init();
/// let session = bequeath::Session::new()?;
/// let child = session.worker().name("adder").daemon(true).spawn(|(a, b): (i32, i32)| a + b, (2, 3))?;
/// assert_eq!(child.result()?, 5);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Worker<'session> {
    session: &'session Session,
    name: Option<String>,
    daemon: bool,
}

impl<'session> Worker<'session> {
    pub(crate) const fn new(session: &'session Session) -> Self {
        Self {
            session,
            name: None,
            daemon: false,
        }
    }

    /// Its name: what `ps` shows and errors say. Without one it is the program's and a number.
    ///
    /// ```
    /// # let session = bequeath::Session::new()?;
    /// let worker = session.worker().name("reader");
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether the worker is killed when this process ends, in whatever way. Otherwise it lives on.
    ///
    /// ```
    /// # let session = bequeath::Session::new()?;
    /// let worker = session.worker().daemon(true);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub const fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    /// Starts a copy of this program that runs `function` with `arguments` and nothing else of it.
    /// The function is a plain one, or a closure that captures nothing.
    ///
    /// # Errors
    /// [`Error::NotInitialised`]; whatever in `arguments` cannot be encoded; what the kernel refuses.
    /// No process is left then.
    ///
    /// ```
    /// # fn main() -> Result<(), bequeath::Error> {
    /// bequeath::init();
    /// let session = bequeath::Session::new()?;
    /// let child = session.worker().spawn(|text: String| text.len(), "four".to_owned())?;
    /// assert_eq!(child.result()?, 4);
    /// # Ok(()) }
    /// ```
    pub fn spawn<A, R>(self, function: fn(A) -> R, arguments: A) -> Result<Child<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        if !is_initialised() {
            return Err(Error::NotInitialised);
        }
        let engine = self.session.engine();
        let start = Start {
            identity: identity().to_vec().into(),
            function: Name::of(function)?,
            name: self.name.unwrap_or_else(next_name),
            tied: self.daemon,
        };
        // Everything that can be refused is refused before there is a process.
        let packed = pack(engine, transfer::export(engine, &arguments)?)?;
        drop(arguments);
        let mut extra: Vec<OwnedFd> = vec![copy(engine.descriptor()?)?];
        extra.extend(bequeath_channel::board::descriptors()?);
        if self.daemon {
            extra.push(Tie::to_this_process()?.into_fd());
        }
        let (ours, theirs) = Line::pair()?;
        let process = command(&theirs, &start.name)?
            .keep(theirs.as_fd())
            .start()?;
        drop(theirs);
        let child = Child::new(process, start.name.clone(), ours, engine.clone());
        match child.line().send(&start, extra, packed) {
            Ok(()) => Ok(child),
            // The copy ended before it could take its arguments: how it ended says why.
            Err(Error::Os(_)) => Err(child.died()?),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }
}

/// The program itself, with a command line that says what it is.
fn command<'fd>(line: &Line, name: &str) -> Result<Command<'fd>> {
    let program = std::env::args_os()
        .next()
        .unwrap_or_else(|| OsString::from("bequeath"));
    let number = line.as_fd().as_raw_fd().to_string();
    let arguments = [
        program,
        MARK.into(),
        number.into(),
        name.replace('\0', "").into(),
    ];
    Ok(Command::new("/proc/self/exe")?.arguments(arguments)?)
}

fn copy(fd: std::os::fd::BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().map_err(transfer::copy_failed)
}

fn next_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let program = std::env::current_exe().ok();
    let program = program
        .as_ref()
        .and_then(|path| path.file_stem()?.to_str())
        .unwrap_or("worker");
    format!("{program}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
