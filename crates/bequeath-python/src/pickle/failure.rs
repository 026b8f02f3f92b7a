//! What goes wrong while a pickle is read, as Python shows it.

use bequeath_pickle::Error;
use pyo3::exceptions::{PyEOFError, PyMemoryError, PyOverflowError, PyValueError};
use pyo3::prelude::*;

use super::tables::unpickling_error;

/// What goes wrong while a pickle is read.
pub(super) struct Failure(pub(super) PyErr);

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self(error)
    }
}

impl From<Error> for Failure {
    #[cold]
    fn from(error: Error) -> Self {
        Self(Python::attach(|py| match error {
            Error::Ended => PyEOFError::new_err("Ran out of input"),
            Error::Truncated => unpickling_error(py, "pickle data was truncated"),
            Error::Opcode(code) if code.is_ascii_graphic() || code == b' ' => {
                let quoted = match code {
                    b'\'' | b'\\' => format!("\\{}", char::from(code)),
                    _ => char::from(code).to_string(),
                };
                unpickling_error(py, format!("invalid load key, '{quoted}'."))
            }
            Error::Opcode(code) => {
                unpickling_error(py, format!("invalid load key, '\\x{code:02x}'."))
            }
            Error::NotRemembered(number) => {
                unpickling_error(py, format!("Memo value not found at index {number}"))
            }
            Error::NegativePut => PyValueError::new_err("negative PUT argument"),
            Error::TooLong(what) => PyOverflowError::new_err(format!(
                "{what} exceeds system's maximum size of {} bytes",
                isize::MAX
            )),
            Error::Protocol(protocol) => {
                PyValueError::new_err(format!("unsupported pickle protocol: {protocol}"))
            }
            Error::NoMemory(_) => PyMemoryError::new_err(error.to_string()),
            Error::NotANumber(_) | Error::BadEscape => PyValueError::new_err(error.to_string()),
            other => unpickling_error(py, other.to_string()),
        }))
    }
}

/// What was made of opcodes.
pub(super) type Made<'py> = Result<Bound<'py, PyAny>, Failure>;
