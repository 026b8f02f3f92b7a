//! What sessions and the machine look like, for `bequeath.inspect()` and the commands: as JSON, for Python
//! to read, and as text.

use bequeath_inspect::Error;
use pyo3::exceptions::{PyPermissionError, PyProcessLookupError, PyRuntimeError};
use pyo3::prelude::*;

fn raise(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::NoProcess(_) => PyProcessLookupError::new_err(text),
        Error::NotOurs { .. } => PyPermissionError::new_err(text),
        _ => PyRuntimeError::new_err(text),
    }
}

/// The sessions of a process, seen from outside: as JSON, as text, and who waits for whom as text.
#[pyfunction]
pub fn inspect_process(py: Python<'_>, pid: u32) -> PyResult<(String, String, String)> {
    py.detach(|| {
        let report = bequeath_inspect::inspect(pid).map_err(raise)?;
        Ok((report.to_json(), report.to_string(), report.waits()))
    })
}
