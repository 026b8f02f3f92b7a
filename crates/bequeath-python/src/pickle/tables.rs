//! The registries of `copyreg` and `_compat_pickle`, and what reducing to a call names; looked up once.

use pyo3::prelude::*;

use crate::{intern, looked_up};

looked_up! {
    pub(super) Tables {
        dispatch_table: "copyreg"."dispatch_table",
        extension_registry: "copyreg"."_extension_registry",
        inverted_registry: "copyreg"."_inverted_registry",
        extension_cache: "copyreg"."_extension_cache",
        name_mapping_2_to_3: "_compat_pickle"."NAME_MAPPING",
        import_mapping_2_to_3: "_compat_pickle"."IMPORT_MAPPING",
        name_mapping_3_to_2: "_compat_pickle"."REVERSE_NAME_MAPPING",
        import_mapping_3_to_2: "_compat_pickle"."REVERSE_IMPORT_MAPPING",
        codecs_encode: "codecs"."encode",
        getattr: "builtins"."getattr",
        new_object: "copyreg"."__newobj__",
        pickle_complex: "copyreg"."pickle_complex",
        partial: "functools"."partial",
        modules: "sys"."modules",
        pickling_error: "_pickle"."PicklingError",
        unpickling_error: "_pickle"."UnpicklingError",
    }
}

/// A `pickle.PicklingError`.
pub(super) fn pickling_error(py: Python<'_>, message: impl Into<String>) -> PyErr {
    raised(
        py,
        Tables::get(py).map(|tables| &tables.pickling_error),
        message.into(),
    )
}

/// A `pickle.UnpicklingError`.
pub(super) fn unpickling_error(py: Python<'_>, message: impl Into<String>) -> PyErr {
    raised(
        py,
        Tables::get(py).map(|tables| &tables.unpickling_error),
        message.into(),
    )
}

fn raised(py: Python<'_>, class: PyResult<&Py<PyAny>>, message: String) -> PyErr {
    match class.and_then(|class| class.bind(py).call1((message,))) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// The parts of a dotted name; `<locals>` among them cannot be found by name.
pub(super) fn dotted<'n>(object: &str, name: &'n str) -> PyResult<Vec<&'n str>> {
    let parts: Vec<_> = name.split('.').collect();
    if parts.contains(&"<locals>") {
        return Err(pyo3::exceptions::PyAttributeError::new_err(format!(
            "Can't get local object {object}"
        )));
    }
    Ok(parts)
}

/// Follows a dotted name from a module: what it leads to, and what that is an attribute of.
pub(super) fn follow<'py>(
    from: &Bound<'py, PyAny>,
    path: &[&str],
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let (mut parent, mut object) = (from.clone(), from.clone());
    for part in path {
        parent = object;
        object = parent.getattr(*part)?;
    }
    Ok((object, parent))
}

/// The module that a class or function belongs to.
pub(super) fn which_module<'py>(
    object: &Bound<'py, PyAny>,
    path: &[&str],
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    if let Some(module) = object.getattr_opt(intern!(py, "__module__"))? {
        if !module.is_none() {
            return Ok(module);
        }
    }
    let modules = Tables::get(py)?.modules.bind(py);
    let copy = modules.call_method0(intern!(py, "copy"))?;
    for item in copy.call_method0(intern!(py, "items"))?.try_iter()? {
        let (name, module): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item?.extract()?;
        let is_main = name
            .extract::<&str>()
            .is_ok_and(|name| matches!(name, "__main__" | "__mp_main__"));
        if module.is_none() || is_main {
            continue;
        }
        // Whatever a module's own lookup raises is its own affair here.
        if follow(&module, path).is_ok_and(|(found, _)| found.is(object)) {
            return Ok(name);
        }
    }
    Ok(intern!(py, "__main__").clone().into_any())
}
