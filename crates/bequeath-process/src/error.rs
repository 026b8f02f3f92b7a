//! What can go wrong when a child is started or watched.

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a call.
    #[error(transparent)]
    Os(#[from] bequeath_os::Error),
    /// A string with a zero byte cannot be an argument, a path or a variable.
    #[error("{what} contains a zero byte")]
    ZeroByte {
        /// Which of them.
        what: &'static str,
    },
    /// The template ended; children that it made live on.
    #[error("the template is gone")]
    TemplateGone,
    /// This template cannot give the child the caller's state; a real exec can.
    #[error("the template cannot serve: {reason}")]
    Refused {
        /// What differs.
        reason: String,
    },
    /// The template could not fork.
    #[error("the template could not fork")]
    Fork {
        /// The errno that `fork` gave there.
        errno: i32,
    },
    /// Bytes that no template sends.
    #[error("malformed message: {what}")]
    Malformed {
        /// What was expected.
        what: &'static str,
    },
    /// More descriptors than one message carries.
    #[error("{count} descriptors are more than the {limit} that can be handed to a child")]
    TooManyDescriptors {
        /// How many were given.
        count: usize,
        /// How many go.
        limit: usize,
    },
}

/// What most functions of this crate return.
pub type Result<T> = core::result::Result<T, Error>;

impl Error {
    /// The errno to tell others; EAGAIN for what the kernel did not refuse.
    #[must_use]
    pub(crate) const fn errno(&self) -> i32 {
        match self {
            Self::Os(error) => error.raw(),
            Self::Fork { errno } => *errno,
            _ => bequeath_os::Errno::AGAIN.raw_os_error(),
        }
    }

    /// A signal arrived: run the handlers and try again.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Os(error) if error.is_interrupted())
    }
}
