#![allow(unsafe_code)]
//! What a name in a pickle leads to.
//!
//! # Safety invariants
//! Each call of the API is given objects that are alive, on an attached thread; what it returns is a new reference, or
//! null with or without an error set, as its documentation says.

use std::ffi::{c_char, c_int};

use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString};

use crate::intern;

use super::names::because_of;
use super::tables::Tables;
use super::version::HAS_NOTES;

extern "C" {
    /// Exported by every CPython from 3.8 on; PyO3 does not declare it.
    fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
}

/// The object that a module has under a name; with dots in it from protocol 4 on.
pub(super) fn find_class<'py>(
    module: &Bound<'py, PyString>,
    name: &Bound<'py, PyString>,
    fix_imports: bool,
    protocol: u8,
) -> PyResult<Bound<'py, PyAny>> {
    let py = module.py();
    let (event, format) = (c"pickle.find_class".as_ptr(), c"OO".as_ptr());
    // SAFETY: two objects, as the format says.
    if unsafe { PySys_Audit(event, format, module.as_ptr(), name.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    let (module, name) = current_name(module, name, fix_imports, protocol)?;
    let from = imported(&module)?;
    // What the module itself has needs no search through its type.
    let own = from.cast_exact::<PyModule>();
    if let (Ok(own), false) = (own, name.to_str()?.contains('.')) {
        if let Some(found) = own.dict().get_item(&name)? {
            return Ok(found);
        }
    }
    if protocol < 4 {
        return from.getattr(&name);
    }
    if HAS_NOTES {
        return resolved(&from, &module, &name);
    }
    let mut object = from.clone().into_any();
    for part in name.to_str()?.split('.') {
        if part == "<locals>" {
            let text = format!(
                "Can't get local attribute {} on {}",
                name.repr()?,
                from.repr()?
            );
            return Err(PyAttributeError::new_err(text));
        }
        object = object.getattr(part).map_err(|error| {
            if !error.is_instance_of::<PyAttributeError>(py) {
                return error;
            }
            let shown = (name.repr(), from.repr());
            match shown {
                (Ok(name), Ok(from)) => {
                    PyAttributeError::new_err(format!("Can't get attribute {name} on {from}"))
                }
                _ => error,
            }
        })?;
    }
    Ok(object)
}

/// Follows a name with dots, in the words of 3.14 where it leads nowhere.
fn resolved<'py>(
    from: &Bound<'py, PyAny>,
    module: &Bound<'py, PyString>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = from.py();
    let text = name.to_str()?;
    if !text.contains('.') {
        return from.getattr(name);
    }
    let mut object = from.clone();
    for part in text.split('.') {
        object = match object.getattr(part) {
            Ok(object) => object,
            Err(cause) if cause.is_instance_of::<PyAttributeError>(py) => {
                let (name, module) = (name.repr()?, module.repr()?);
                let text = format!("Can't resolve path {name} on module {module}");
                return Err(because_of(cause, PyAttributeError::new_err(text)));
            }
            Err(error) => return Err(error),
        };
    }
    Ok(object)
}

/// A module, imported unless it is complete already: the import system takes its time to find that out.
fn imported<'py>(name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    let py = name.py();
    // SAFETY: a str; nothing is raised where there is no such module.
    let found = unsafe { ffi::PyImport_GetModule(name.as_ptr()) };
    // SAFETY: a new reference or null.
    let found = unsafe { Bound::from_owned_ptr_or_opt(py, found) };
    let Some(module) = found else {
        if PyErr::occurred(py) {
            return Err(PyErr::fetch(py));
        }
        return py.import(name).map(Bound::into_any);
    };
    if module.is_exact_instance_of::<PyModule>() && !is_being_imported(&module)? {
        return Ok(module);
    }
    py.import(name).map(Bound::into_any)
}

/// Whether another thread has not finished with the module, or nobody can tell.
fn is_being_imported(module: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = module.py();
    let Some(spec) = module.getattr_opt(intern!(py, "__spec__"))? else {
        return Ok(false);
    };
    match spec.getattr_opt(intern!(py, "_initializing"))? {
        Some(initializing) => initializing.is_truthy(),
        None => Ok(false),
    }
}

/// What Python 3 calls what Python 2 has pickled under a name.
pub(super) fn current_name<'py>(
    module: &Bound<'py, PyString>,
    name: &Bound<'py, PyString>,
    fix_imports: bool,
    protocol: u8,
) -> PyResult<(Bound<'py, PyString>, Bound<'py, PyString>)> {
    let py = module.py();
    if protocol < 3 && fix_imports {
        let tables = Tables::get(py)?;
        let names = tables.name_mapping_2_to_3.bind(py);
        if let Ok(found) = names.get_item((module, name)) {
            return found.extract();
        }
        if let Ok(found) = tables.import_mapping_2_to_3.bind(py).get_item(module) {
            return Ok((found.extract()?, name.clone()));
        }
    }
    Ok((module.clone(), name.clone()))
}
