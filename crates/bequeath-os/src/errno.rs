//! What the kernel refused: the errno and the name of the call, so that a message can say both.

pub use rustix::io::Errno;

/// A failed system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {errno}")]
pub struct Error {
    /// The call that failed, by its manual-page name.
    pub call: &'static str,
    /// What the kernel answered.
    #[source]
    pub errno: Errno,
}

/// What most functions of this crate return.
pub type Result<T> = core::result::Result<T, Error>;

impl Error {
    /// An error of `call` that the caller found by itself.
    #[must_use]
    pub const fn new(call: &'static str, errno: Errno) -> Self {
        Self { call, errno }
    }

    /// The number as C knows it.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.errno.raw_os_error()
    }

    /// A signal arrived: run the handlers and try again.
    #[must_use]
    pub fn is_interrupted(self) -> bool {
        self.errno == Errno::INTR
    }

    /// The call would have had to wait.
    #[must_use]
    pub fn would_block(self) -> bool {
        self.errno == Errno::AGAIN
    }

    /// The call does not exist here: an old kernel says ENOSYS, a sandbox EPERM or EACCES.
    #[must_use]
    pub fn is_unavailable(self) -> bool {
        matches!(self.errno, Errno::NOSYS | Errno::PERM | Errno::ACCESS)
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::from_raw_os_error(error.raw())
    }
}

/// Gives a bare errno the name of its call.
pub trait Named<T> {
    /// The same result, with the call's name in the error.
    ///
    /// # Errors
    /// Whatever error `self` was.
    fn named(self, call: &'static str) -> Result<T>;
}

impl<T> Named<T> for rustix::io::Result<T> {
    fn named(self, call: &'static str) -> Result<T> {
        self.map_err(|errno| Error { call, errno })
    }
}

/// The calling thread's errno, named: for calls that go through libc itself.
pub(crate) fn last(call: &'static str) -> Error {
    let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    Error {
        call,
        errno: Errno::from_raw_os_error(raw),
    }
}
