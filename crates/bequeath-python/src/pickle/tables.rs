//! The registries of `copyreg` and `_compat_pickle`, and what reducing to a call names; looked up once.

use crate::once::Once;
use pyo3::prelude::*;

use crate::intern;

pub(super) struct Tables {
    pub(super) dispatch_table: Py<PyAny>,
    pub(super) extension_registry: Py<PyAny>,
    pub(super) inverted_registry: Py<PyAny>,
    pub(super) extension_cache: Py<PyAny>,
    pub(super) name_mapping_2_to_3: Py<PyAny>,
    pub(super) import_mapping_2_to_3: Py<PyAny>,
    pub(super) name_mapping_3_to_2: Py<PyAny>,
    pub(super) import_mapping_3_to_2: Py<PyAny>,
    pub(super) codecs_encode: Py<PyAny>,
    pub(super) getattr: Py<PyAny>,
    pub(super) new_object: Py<PyAny>,
    pub(super) pickle_complex: Option<Py<PyAny>>,
    pub(super) partial: Py<PyAny>,
    pub(super) modules: Py<PyAny>,
    pub(super) pickling_error: Py<PyAny>,
    pub(super) unpickling_error: Py<PyAny>,
}

static TABLES: Once<Tables> = Once::new();

impl Tables {
    pub(super) fn get(py: Python<'_>) -> PyResult<&Self> {
        TABLES.get_or_try_init(py, || Self::look_up(py))
    }

    fn look_up(py: Python<'_>) -> PyResult<Self> {
        let from = |module: &str, name: &str| -> PyResult<Py<PyAny>> {
            Ok(py.import(module)?.getattr(name)?.unbind())
        };
        Ok(Self {
            dispatch_table: from("copyreg", "dispatch_table")?,
            extension_registry: from("copyreg", "_extension_registry")?,
            inverted_registry: from("copyreg", "_inverted_registry")?,
            extension_cache: from("copyreg", "_extension_cache")?,
            name_mapping_2_to_3: from("_compat_pickle", "NAME_MAPPING")?,
            import_mapping_2_to_3: from("_compat_pickle", "IMPORT_MAPPING")?,
            name_mapping_3_to_2: from("_compat_pickle", "REVERSE_NAME_MAPPING")?,
            import_mapping_3_to_2: from("_compat_pickle", "REVERSE_IMPORT_MAPPING")?,
            codecs_encode: from("codecs", "encode")?,
            getattr: from("builtins", "getattr")?,
            new_object: from("copyreg", "__newobj__")?,
            pickle_complex: from("copyreg", "pickle_complex").ok(),
            partial: from("functools", "partial")?,
            modules: from("sys", "modules")?,
            pickling_error: from("_pickle", "PicklingError")?,
            unpickling_error: from("_pickle", "UnpicklingError")?,
        })
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
