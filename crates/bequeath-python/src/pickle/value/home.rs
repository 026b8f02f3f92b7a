//! Where a function or class lives, and so whether its name will do for a receiver.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString};

use super::super::tables::which_module;
use super::tables::Tables;
use super::To;
use crate::intern;

/// Where an object is found under its own name.
pub(super) enum Home<'py> {
    /// Where the receiver finds it, too.
    Shared,
    /// In the main module, under a name that the receiver's may lack.
    Main(Bound<'py, PyString>),
    /// Nowhere that a receiver would look.
    Nowhere,
}

/// Modules whose definitions cross by value although a receiver might import them.
static REGISTERED: Mutex<Option<HashSet<String>>> = Mutex::new(None);
static ANY_REGISTERED: AtomicBool = AtomicBool::new(false);

pub(super) fn is_main(name: &str) -> bool {
    matches!(name, "__main__" | "__mp_main__")
}

/// Where `object` lives.
pub(super) fn of<'py>(object: &Bound<'py, PyAny>, to: To) -> PyResult<Home<'py>> {
    let py = object.py();
    let name = match object.getattr_opt(intern!(py, "__qualname__"))? {
        Some(name) if name.is_instance_of::<PyString>() => name,
        _ => match object.getattr_opt(intern!(py, "__name__"))? {
            Some(name) => name,
            None => return Ok(Home::Nowhere),
        },
    };
    let Ok(name) = name.cast_into::<PyString>() else {
        return Ok(Home::Nowhere);
    };
    let text = name.to_str()?;
    if text.contains('<') {
        return Ok(Home::Nowhere); // <lambda>, <locals>
    }
    let declared = object.getattr_opt(intern!(py, "__module__"))?;
    let module_name = match declared.filter(|declared| !declared.is_none()) {
        Some(declared) => declared,
        None => which_module(object, &text.split('.').collect::<Vec<_>>())?,
    };
    let Ok(module_name) = module_name.cast_into::<PyString>() else {
        return Ok(Home::Nowhere);
    };
    let Some(module) = loaded(&module_name)? else {
        return Ok(Home::Nowhere);
    };
    if !look_up(&module, &name)?.is_some_and(|found| found.is(object)) {
        return Ok(Home::Nowhere);
    }
    let module_name = module_name.to_str()?;
    if !is_main(module_name) {
        return Ok(if is_shared(&module, module_name)? {
            Home::Shared
        } else {
            Home::Nowhere
        });
    }
    if matches!(to, To::Session) && main_surely_has(&first(&name)?)? {
        return Ok(Home::Shared);
    }
    Ok(Home::Main(name))
}

/// The module that is loaded under a name.
pub(super) fn loaded<'py>(name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let modules = Tables::get(name.py())?.modules.bind(name.py());
    match modules.cast_exact::<PyDict>() {
        Ok(modules) => modules.get_item(name),
        Err(_) => Ok(modules.get_item(name).ok()),
    }
}

/// The part of a name in front of its first dot.
pub(super) fn first<'py>(name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyString>> {
    Ok(match name.to_str()?.split_once('.') {
        Some((first, _)) => PyString::new(name.py(), first),
        None => name.clone(),
    })
}

/// What is found under a name that may have dots.
pub(super) fn look_up<'py>(
    module: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let text = name.to_str()?;
    if !text.contains('.') {
        return module.getattr_opt(name);
    }
    let mut found = module.clone();
    for part in text.split('.') {
        match found.getattr_opt(part)? {
            Some(part) => found = part,
            None => return Ok(None),
        }
    }
    Ok(Some(found))
}

pub(super) fn main_surely_has(name: &Bound<'_, PyString>) -> PyResult<bool> {
    let py = name.py();
    Tables::get(py)?
        .main_surely_has
        .bind(py)
        .call1((name,))?
        .extract()
}

/// This process's main module.
pub(super) fn main_module(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let modules = Tables::get(py)?.modules.bind(py);
    match modules.get_item(intern!(py, "__main__")) {
        Ok(main) => Ok(main),
        Err(_) => modules.get_item(intern!(py, "__mp_main__")),
    }
}

/// Whether the main module comes of no file: what it has is what somebody has typed until now.
pub(super) fn is_typed_in(py: Python<'_>) -> PyResult<bool> {
    Ok(main_file(py)?.is_none())
}

/// The file of the main module, by which a receiver knows whether it runs the same program.
pub(super) fn main_file(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let file = main_module(py)?.getattr_opt(intern!(py, "__file__"))?;
    Ok(file.filter(|file| file.is_instance_of::<PyString>()))
}

/// Whether a receiver imports the module, and nobody asked for it to cross by value.
pub(super) fn is_shared(module: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    Ok(!is_registered(name) && is_importable(module)?)
}

/// A module made at run time has neither a spec nor a file.
pub(super) fn is_importable(module: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = module.py();
    for name in [intern!(py, "__spec__"), intern!(py, "__file__")] {
        if module
            .getattr_opt(name)?
            .is_some_and(|found| !found.is_none())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the module, or a package that it is in, is to cross by value.
pub(crate) fn is_registered(name: &str) -> bool {
    if !ANY_REGISTERED.load(Ordering::Relaxed) {
        return false;
    }
    let registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(registered) = &*registered else {
        return false;
    };
    let ends = name.match_indices('.').map(|(at, _)| at);
    ends.chain([name.len()])
        .any(|end| registered.contains(&name[..end]))
}

/// From now on functions and classes of this module (and, if it is a package, of those inside) cross by value.
///
/// # Errors
/// TypeError unless it is a module; ValueError unless it is imported under its name.
///
/// # After fork
/// A forked child has the registrations of its parent, and its own from then on.
#[pyfunction]
pub fn register_by_value(module: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = module.py();
    let name = name_of(module)?;
    let modules = Tables::get(py)?.modules.bind(py);
    if !modules.contains(&name)? {
        return Err(PyValueError::new_err(format!(
            "{name} was not imported correctly: it is not in sys.modules, have you used an `import` statement to get it?"
        )));
    }
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    registered.get_or_insert_default().insert(name);
    ANY_REGISTERED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Takes a registration back.
///
/// # Errors
/// TypeError unless it is a module; ValueError unless it is registered.
#[pyfunction]
pub fn unregister_by_value(module: &Bound<'_, PyAny>) -> PyResult<()> {
    let name = name_of(module)?;
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    let registered = registered.get_or_insert_default();
    if !registered.remove(&name) {
        return Err(PyValueError::new_err(format!(
            "{name} is not registered to cross by value"
        )));
    }
    ANY_REGISTERED.store(!registered.is_empty(), Ordering::Relaxed);
    Ok(())
}

fn name_of(module: &Bound<'_, PyAny>) -> PyResult<String> {
    if !module.is_instance_of::<PyModule>() {
        let kind = module.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "a module is registered, not a {kind}: import it first"
        )));
    }
    module.getattr(intern!(module.py(), "__name__"))?.extract()
}
