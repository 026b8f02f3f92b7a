//! `EngineError`: the one bridge from the engine's errors to Python's exceptions, in one `match`.
//!
//! Engine errors carry facts; which exception says them is multiprocessing's choice where it has one.

use bequeath_sync::Holder;
use pyo3::exceptions::{
    PyAssertionError, PyEOFError, PyKeyboardInterrupt, PyMemoryError, PyOSError, PyOverflowError,
    PyRuntimeError, PyValueError,
};
use pyo3::prelude::*;

/// Anything that the engine refuses, and what an interrupted wait raised.
#[derive(Debug)]
pub enum EngineError {
    /// Locks and their kin.
    Sync(bequeath_sync::Error),
    /// Shared memory.
    Session(bequeath_shm::Error),
    /// Queues.
    Channel(bequeath_channel::Error),
    /// Connections.
    Stream(bequeath_channel::stream::Error),
    /// Children.
    Process(bequeath_process::Error),
    /// System calls.
    Os(bequeath_os::Error),
    /// What a signal handler raised while we waited.
    Raised(PyErr),
}

/// What functions of the bindings return before the boundary.
pub type Result<T> = core::result::Result<T, EngineError>;

impl From<EngineError> for PyErr {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Raised(error) => error,
            EngineError::Sync(error) => sync(error),
            EngineError::Session(error) => session(error),
            EngineError::Channel(error) => channel(error),
            EngineError::Stream(error) => stream(error),
            EngineError::Process(error) => match error {
                bequeath_process::Error::Os(error) => os(error),
                bequeath_process::Error::Fork { errno } => {
                    PyOSError::new_err((errno, error.to_string()))
                }
                bequeath_process::Error::ZeroByte { .. } => {
                    PyValueError::new_err(error.to_string())
                }
                _ => PyRuntimeError::new_err(error.to_string()),
            },
            EngineError::Os(error) => os(error),
        }
    }
}

fn sync(error: bequeath_sync::Error) -> PyErr {
    use bequeath_sync::Error as E;
    match error {
        // multiprocessing's words, which programs match.
        E::NotHeld => PyValueError::new_err("semaphore or lock released too many times"),
        E::NotOwner => {
            PyAssertionError::new_err("attempt to release recursive lock not owned by thread")
        }
        E::Abandoned(holder) => abandoned(holder),
        E::Broken => raised_by("threading", "BrokenBarrierError"),
        E::TimedOut => raised_by("bequeath.exceptions", "TimeoutError"),
        E::Corrupted => PyRuntimeError::new_err(error.to_string()),
        E::OutOfRange { .. } | E::NotAbandoned => PyValueError::new_err(error.to_string()),
        E::TooDeep => PyOverflowError::new_err(error.to_string()),
        // Only a wait whose caller gave no reason ends up here.
        _ => PyKeyboardInterrupt::new_err(()),
    }
}

fn session(error: bequeath_shm::Error) -> PyErr {
    use bequeath_shm::Error as E;
    match error {
        E::Os(error) => os(error),
        E::Budget { .. } | E::OutOfMemory { .. } | E::ArenaFull { .. } | E::TooLarge { .. } => {
            PyMemoryError::new_err(error.to_string())
        }
        E::FileSizeLimit { .. } => {
            PyOSError::new_err((bequeath_os::Errno::FBIG.raw_os_error(), error.to_string()))
        }
        E::DescriptorLost { .. } => {
            PyOSError::new_err((bequeath_os::Errno::BADF.raw_os_error(), error.to_string()))
        }
        _ => PyRuntimeError::new_err(error.to_string()),
    }
}

fn channel(error: bequeath_channel::Error) -> PyErr {
    use bequeath_channel::Error as E;
    match error {
        E::Full => raised_by("queue", "Full"),
        E::Empty => raised_by("queue", "Empty"),
        E::TimedOut => raised_by("bequeath.exceptions", "TimeoutError"),
        E::Interrupted => PyKeyboardInterrupt::new_err(()),
        E::Closed | E::TooManyDone | E::TooManyDescriptors { .. } => {
            PyValueError::new_err(error.to_string())
        }
        E::Budget { .. } => PyMemoryError::new_err(error.to_string()),
        E::NoRoomForDescriptors { .. } => {
            PyOSError::new_err((bequeath_os::Errno::MFILE.raw_os_error(), error.to_string()))
        }
        E::Session(error) => session(error),
        E::Os(error) => os(error),
        _ => PyRuntimeError::new_err(error.to_string()),
    }
}

fn stream(error: bequeath_channel::stream::Error) -> PyErr {
    use bequeath_channel::stream::Error as E;
    match error {
        E::Ended => PyEOFError::new_err(()),
        E::Interrupted => PyKeyboardInterrupt::new_err(()),
        E::OutOfDescriptors { source, .. } => PyOSError::new_err((source.raw(), error.to_string())),
        E::TooManyDescriptors { .. } => PyValueError::new_err(error.to_string()),
        E::Session(error) => session(error),
        E::Os(error) => os(error),
        // multiprocessing's for whatever is wrong with a connection.
        _ => PyOSError::new_err(error.to_string()),
    }
}

/// The subclass that the errno asks for (`FileNotFoundError`, `BrokenPipeError`), with the call's name.
fn os(error: bequeath_os::Error) -> PyErr {
    let text = std::io::Error::from(error).to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    PyOSError::new_err((error.raw(), format!("{words} ({})", error.call)))
}

/// `AbandonedLock` with what can be found out about the dead.
fn abandoned(holder: Holder) -> PyErr {
    Python::attach(|py| {
        let make = || {
            let module = py.import("bequeath.synchronize")?;
            module.call_method1("_abandoned", (holder.process.pid(),))
        };
        make().map_or_else(|error| error, PyErr::from_value)
    })
}

/// An exception class without arguments that a Python module defines.
fn raised_by(module: &str, class: &str) -> PyErr {
    Python::attach(|py| {
        let make = || py.import(module)?.getattr(class)?.call0();
        make().map_or_else(|error| error, PyErr::from_value)
    })
}

macro_rules! bridges {
    ($($variant:ident: $error:ty),* $(,)?) => {
        $(impl From<$error> for EngineError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

bridges! {
    Sync: bequeath_sync::Error,
    Session: bequeath_shm::Error,
    Channel: bequeath_channel::Error,
    Stream: bequeath_channel::stream::Error,
    Process: bequeath_process::Error,
    Os: bequeath_os::Error,
    Raised: PyErr,
}
