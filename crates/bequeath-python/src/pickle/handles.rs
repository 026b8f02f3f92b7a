//! Handles in plain bytes: pickle refuses files, sockets and processes in words of its own; here they are refused as queues
//! and locks are, with the reason and what to do instead (`bequeath/_transfer.py`).

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;

use crate::intern;

use super::look::Object;
use super::save::{Saved, Saver};

impl<'py> Saver<'_, 'py> {
    /// The same result; what was raised for a handle that is on its way nowhere says so.
    #[inline(always)]
    pub(super) fn told_of_handles(&self, saved: Saved, object: Object<'_, 'py>) -> Saved {
        match saved {
            Err(stop) if self.hooks.policy.is_none() => {
                Err(stop.with(|error| in_place_of(object, error)))
            }
            saved => saved,
        }
    }
}

/// What is raised in the place of `error`, by which pickle has refused an object.
#[cold]
fn in_place_of(object: Object<'_, '_>, error: PyErr) -> PyErr {
    // What says so itself has the words already.
    if error.is_instance_of::<PyRuntimeError>(object.py()) {
        return error;
    }
    told(object, &error).unwrap_or(error)
}

/// The refusal, if it is a handle that pickle would refuse in other words or not at all.
pub(crate) fn refusal_of_handle(object: Object<'_, '_>) -> Option<PyErr> {
    told(object, &PyTypeError::new_err(()))
}

fn told(object: Object<'_, '_>, error: &PyErr) -> Option<PyErr> {
    let py = object.py();
    let name = intern!(py, "handle_refused");
    // Where the package can no more be asked, at the interpreter's end, the error is as it was.
    let told = py
        .import(intern!(py, "bequeath._transfer"))
        .and_then(|module| module.call_method1(name, (object, error.value(py))))
        .ok()?;
    (!told.is_none()).then(|| PyErr::from_value(told))
}
