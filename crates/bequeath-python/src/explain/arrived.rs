//! What arrives and cannot be rebuilt: the error stays what it is, and says in notes at which part it arose.

use pyo3::exceptions::{
    PyAttributeError, PyEOFError, PyException, PyImportError, PyMemoryError, PyTypeError,
};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};

use crate::intern;

use super::sketch::{part_at, Stopped};

/// Adds to an error what it is about; `steps` is how many steps of reading were taken.
pub(crate) fn arrived(py: Python<'_>, pickle: &[u8], steps: u64, error: PyErr) -> PyErr {
    let is_about_the_object = error.is_instance_of::<PyException>(py)
        && !error.is_instance_of::<PyMemoryError>(py)
        && !error.is_instance_of::<PyEOFError>(py);
    if !is_about_the_object || crate::transfer::is_strict(py).unwrap_or(true) {
        return error;
    }
    if let Some(stopped) = part_at(pickle, steps) {
        // An exception that takes no attributes goes without.
        let _ = add_notes(&error, py, &stopped);
    }
    error
}

fn add_notes(error: &PyErr, py: Python<'_>, stopped: &Stopped) -> PyResult<()> {
    let value = error.value(py);
    let notes = match value.getattr_opt(intern!(py, "__notes__"))? {
        Some(notes) => notes.cast_into::<PyList>()?,
        None => PyList::empty(py),
    };
    let path = if stopped.path.is_empty() {
        "the object itself"
    } else {
        &stopped.path
    };
    notes.append(format!("path: {path}"))?;
    notes.append(format!("could not be rebuilt here: {}", stopped.what))?;
    notes.append(format!("remedy: {}", remedy(error, py, stopped)))?;
    // Shown by Python since 3.11; there for who looks before that.
    value.setattr(intern!(py, "__notes__"), notes)
}

fn remedy(error: &PyErr, py: Python<'_>, stopped: &Stopped) -> String {
    let what = &stopped.what;
    if error.is_instance_of::<PyImportError>(py) {
        return format!(
            "make the module of {what} importable where the object arrives (its `sys.path`, its environment)"
        );
    }
    let found = class(py, what);
    if error.is_instance_of::<PyAttributeError>(py) && found.is_none() {
        return format!(
            "define {what} at the top of its module, outside of the guard, in the version that the receiver has"
        );
    }
    let is_exception = found
        .as_ref()
        .is_some_and(|class| class.is_subclass_of::<PyException>().unwrap_or(false));
    if is_exception && error.is_instance_of::<PyTypeError>(py) {
        return format!(
            "{what} is made anew from its `args`: hand all arguments of its constructor to `super().__init__()`, \
             or give it a `__reduce__`"
        );
    }
    format!("mend what makes {what} anew: its constructor, its `__setstate__`, or what its `__reduce__` names")
}

/// The class of this name, if its module is loaded and has it: nothing is imported to find words.
fn class<'py>(py: Python<'py>, full: &str) -> Option<Bound<'py, PyType>> {
    let (module, name) = full.rsplit_once('.')?;
    let modules = py.import("sys").ok()?.getattr("modules").ok()?;
    let module = modules.get_item(module).ok()?;
    module.getattr(name).ok()?.cast_into::<PyType>().ok()
}
