//! What to run in a fresh process, and which descriptors go along.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use bequeath_os::clone::{execute, Program};

use crate::child::Child;
use crate::error::{Error, Result};

/// A program to run as a child of this process.
///
/// Nothing is inherited by accident: descriptors 0, 1 and 2 and those listed here stay open, all
/// others are closed.
///
/// ```no_run
/// use bequeath_process::Command;
/// let child = Command::new("/proc/self/exe")?.argument("worker")?.start()?;
/// # Ok::<(), bequeath_process::Error>(())
/// ```
#[derive(Debug)]
pub struct Command<'fd> {
    path: CString,
    arguments: Vec<CString>,
    environment: Option<Vec<CString>>,
    stdio: Option<[BorrowedFd<'fd>; 3]>,
    keep: Vec<BorrowedFd<'fd>>,
}

impl<'fd> Command<'fd> {
    /// A program by its path, which is also its argument 0; PATH is not searched.
    ///
    /// # Errors
    /// When the path contains a zero byte.
    pub fn new(path: impl AsRef<OsStr>) -> Result<Self> {
        let path = string(path.as_ref().as_bytes(), "a path")?;
        Ok(Self {
            arguments: vec![path.clone()],
            path,
            environment: None,
            stdio: None,
            keep: Vec::new(),
        })
    }

    /// One more argument.
    ///
    /// # Errors
    /// When it contains a zero byte.
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Result<Self> {
        self.arguments
            .push(string(argument.as_ref().as_bytes(), "an argument")?);
        Ok(self)
    }

    /// All arguments, argument 0 included.
    ///
    /// # Errors
    /// When one contains a zero byte.
    pub fn arguments<I>(mut self, arguments: I) -> Result<Self>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        self.arguments.clear();
        for argument in arguments {
            self = self.argument(argument)?;
        }
        Ok(self)
    }

    /// One variable more (or another value) than this process's environment has.
    ///
    /// # Errors
    /// When name or value contain a zero byte.
    pub fn variable(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Result<Self> {
        let name = name.as_ref().as_bytes();
        let mut entry = [name, b"="].concat();
        let environment = self.environment.get_or_insert_with(|| {
            let entries = std::env::vars_os();
            entries
                .filter_map(|(name, value)| {
                    CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
                })
                .collect()
        });
        environment.retain(|other| !other.as_bytes().starts_with(&entry));
        entry.extend_from_slice(value.as_ref().as_bytes());
        environment.push(string(&entry, "a variable")?);
        Ok(self)
    }

    /// A descriptor that the program finds under the same number.
    #[must_use]
    pub fn keep(mut self, fd: BorrowedFd<'fd>) -> Self {
        self.keep.push(fd);
        self
    }

    /// What the program has as standard input, output and error instead of this process's own.
    #[must_use]
    pub const fn stdio(mut self, streams: [BorrowedFd<'fd>; 3]) -> Self {
        self.stdio = Some(streams);
        self
    }

    /// Starts it; returns when the program runs.
    ///
    /// # Errors
    /// What the kernel refused (ENOENT, EACCES, EAGAIN, ENOMEM, E2BIG); no process is left then.
    pub fn start(&self) -> Result<Child> {
        let keep: Vec<RawFd> = self.keep.iter().map(AsRawFd::as_raw_fd).collect();
        let program = Program {
            path: &self.path,
            arguments: &self.arguments,
            environment: self.environment.as_deref(),
            stdio: self.stdio.map(|streams| streams.map(|fd| fd.as_raw_fd())),
            keep: &keep,
        };
        let (pid, pidfd) = execute(&program)?;
        Ok(Child::own(pid, pidfd))
    }
}

fn string(bytes: &[u8], what: &'static str) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::ZeroByte { what })
}
