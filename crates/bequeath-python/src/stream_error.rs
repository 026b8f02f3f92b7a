//! A stream's errors as multiprocessing's exceptions, and signals while waiting.

use std::time::Duration;

use bequeath_channel::stream::Error;
use bequeath_os::Deadline;
use bequeath_sync::{Interrupt, Interrupted};
use pyo3::exceptions::{PyEOFError, PyMemoryError, PyOSError};
use pyo3::prelude::*;

/// Runs Python's signal handlers for a waiting thread and keeps what they raise.
#[derive(Default)]
pub struct Signals {
    raised: Option<PyErr>,
}

impl Interrupt for Signals {
    fn check(&mut self) -> Result<(), Interrupted> {
        Python::attach(|py| py.check_signals()).map_err(|error| {
            self.raised = Some(error);
            Interrupted
        })
    }
}

impl Signals {
    /// The result for Python: what a handler raised comes first.
    ///
    /// # Errors
    /// That, or the engine's error as an exception.
    pub fn resolve<T>(self, result: Result<T, Error>) -> PyResult<T> {
        result.map_err(|error| self.raised.unwrap_or_else(|| raise(&error)))
    }
}

/// Multiprocessing's exception for an error.
#[must_use]
pub fn raise(error: &Error) -> PyErr {
    match error {
        Error::Ended => PyEOFError::new_err(()),
        Error::Os(source) => os(*source),
        Error::OutOfDescriptors { source, .. } => {
            PyOSError::new_err((source.raw(), error.to_string()))
        }
        Error::Session(
            bequeath_shm::Error::Budget { .. } | bequeath_shm::Error::OutOfMemory { .. },
        ) => PyMemoryError::new_err(error.to_string()),
        Error::Session(bequeath_shm::Error::Os(source)) => os(*source),
        _ => PyOSError::new_err(error.to_string()),
    }
}

/// OSError with errno and the system's text, in the subclass that Python has for the number.
#[must_use]
pub fn os(error: bequeath_os::Error) -> PyErr {
    PyOSError::new_err((error.raw(), strerror(error.raw())))
}

fn strerror(errno: i32) -> String {
    Python::attach(|py| {
        py.import("os")?
            .call_method1("strerror", (errno,))?
            .extract()
    })
    .unwrap_or_default()
}

/// A timeout of Python's: `None` is for ever, negative is now, absurd is for ever.
#[must_use]
pub fn deadline(timeout: Option<f64>) -> Deadline {
    match timeout {
        None => Deadline::NEVER,
        Some(seconds) if seconds <= 0.0 => Deadline::PAST,
        Some(seconds) => {
            Duration::try_from_secs_f64(seconds).map_or(Deadline::NEVER, Deadline::after)
        }
    }
}
