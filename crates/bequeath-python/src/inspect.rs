//! What sessions and the machine look like, for `bequeath.inspect()` and the commands: as JSON, for Python
//! to read, and as text.

use std::sync::Mutex;

use bequeath_inspect::doctor::{self, Finding};
use bequeath_inspect::{Error, Onlooker};
use pyo3::exceptions::{PyPermissionError, PyProcessLookupError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

fn raise(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::NoProcess(_) => PyProcessLookupError::new_err(text),
        Error::NotOurs { .. } => PyPermissionError::new_err(text),
        _ => PyRuntimeError::new_err(text),
    }
}

/// What this process saw when it looked before, for `--watch` and for programs that watch themselves.
static ONLOOKER: Mutex<Option<Onlooker>> = Mutex::new(None);

/// The sessions of a process, seen from outside: as JSON, as text, and who waits for whom as text.
#[pyfunction]
pub fn inspect_process(py: Python<'_>, pid: u32) -> PyResult<(String, String, String)> {
    py.detach(|| {
        // (Taken by another thread, perhaps in the parent at a fork: this look is by a stranger.)
        let report = match ONLOOKER.try_lock() {
            Ok(mut onlooker) => onlooker.get_or_insert_default().inspect(pid),
            Err(_) => bequeath_inspect::inspect(pid),
        };
        let report = report.map_err(raise)?;
        Ok((report.to_json(), report.to_string(), report.waits()))
    })
}

/// What this machine offers and holds back: as JSON, as text, and whether nothing is a problem. What was
/// found out about templates is put in: (method or module, what it leaves behind or why it failed, which).
#[pyfunction]
pub fn diagnose(
    py: Python<'_>,
    templates: Vec<(String, String, String)>,
) -> PyResult<(String, String, bool)> {
    let finding = |(name, why, which): &(String, String, String)| match which.as_str() {
        "kept out" => Ok(Finding::kept_out(name, why)),
        "failed" => Ok(Finding::no_start(name, why)),
        "tried" => Ok(Finding::templates(why)),
        _ => Err(PyValueError::new_err("no such finding")),
    };
    let more = templates.iter().map(finding).collect::<PyResult<_>>()?;
    let diagnosis = py.detach(|| doctor::diagnose(more));
    Ok((
        diagnosis.to_json(),
        diagnosis.to_string(),
        diagnosis.healthy,
    ))
}
