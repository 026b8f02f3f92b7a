//! Definitions of the main module in a receiver that has a main module of its own: which of the two is used, and what becomes
//! of one that main lacks.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyString};

use super::definitions::{self, Id};
use super::{home, To};
use crate::intern;

/// What main has under a definition's name, if that is to be used: its own, or what came under this id before.
/// (What came under another id is an older definition of a main module that is typed in.)
pub(super) fn own_definition<'py>(
    main: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    id: Id,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(found) = home::look_up(main, name)? else {
        return Ok(None);
    };
    let is_another = match definitions::standing(&found) {
        Some(standing) => standing.id != id && (standing.arrived || home::is_typed_in(name.py())?),
        // Those that a forked child began with have ids ([`name_typed_in`]); its own are none that anybody sends it.
        None => home::is_typed_in(name.py())? && !name.to_str()?.contains('.'),
    };
    if is_another {
        return Ok(None);
    }
    if name.to_str()?.contains('.') {
        // A class that has just come lacks its own attributes still, and shows inherited ones.
        let called = found.getattr_opt(intern!(name.py(), "__qualname__"))?;
        if !called.is_some_and(|called| called.eq(name).unwrap_or(false)) {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

/// Gives an id to each function and class of a main module that is typed in, before a fork: in the child these are what
/// comes under the same id later, and whatever was typed anew since is not.
///
/// # Errors
/// When the package is broken.
pub(crate) fn name_typed_in(py: Python<'_>) -> PyResult<()> {
    if !home::is_typed_in(py)? {
        return Ok(());
    }
    let main = home::main_module(py)?.getattr(intern!(py, "__dict__"))?;
    for value in main.cast::<PyDict>()?.copy()?.values() {
        let is_definition = value.is_exact_instance_of::<PyFunction>()
            || value.is_instance_of::<pyo3::types::PyType>();
        if is_definition && matches!(home::of(&value, To::Session)?, home::Home::Main(_)) {
            definitions::id_of(&value)?;
        }
    }
    Ok(())
}

/// Lets main have what came for want of its own.
pub(super) fn plant(
    main: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    made: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if name.to_str()?.contains('.') {
        return Ok(());
    }
    if home::is_typed_in(main.py())? {
        // Who has typed something else meanwhile keeps it.
        let typed_here =
            home::look_up(main, name)?.is_some_and(|found| definitions::is_of_this_process(&found));
        if typed_here {
            return Ok(());
        }
    }
    main.setattr(name, made)
}
