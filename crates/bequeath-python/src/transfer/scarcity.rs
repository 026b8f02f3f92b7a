//! Memory that was refused in the middle of pickling. The pickler knows the buffer and not the queue; what
//! the caller is to read names both. So the refusal is kept aside for whoever asked for the pickle.

use std::cell::Cell;

use bequeath_shm::Error;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

use super::shm_error;

thread_local! {
    static LAST: Cell<Option<(usize, Error)>> = const { Cell::new(None) };
}

/// The exception for a buffer of so many bytes, whose reason is kept.
pub(super) fn noted(bytes: usize, error: Error) -> PyErr {
    let raised = PyMemoryError::new_err(error.to_string());
    if !error.is_out_of_memory() {
        return shm_error(error);
    }
    let _ = LAST.try_with(|last| last.set(Some((bytes, error))));
    raised
}

/// Forgets what an earlier pickle met.
pub(crate) fn forget() {
    let _ = LAST.try_with(Cell::take);
}

/// How many bytes were refused since, and why, if that is what `error` is about.
pub(crate) fn behind(py: Python<'_>, error: &PyErr) -> Option<(usize, Error)> {
    let last = LAST.try_with(Cell::take).ok()??;
    error.is_instance_of::<PyMemoryError>(py).then_some(last)
}
