//! Parts of functions and classes, made again: what the reductions of `parts` call.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString, PyTuple, PyType};

use super::home;
use super::tables::Tables;
use super::views::referent;
use crate::intern;

/// An empty cell.
#[pyfunction]
pub fn rebuild_cell(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    Tables::get(py)?.cell.bind(py).call0()
}

/// Fills a cell.
#[pyfunction]
pub fn set_cell(cell: &Bound<'_, PyAny>, state: &Bound<'_, PyTuple>) -> PyResult<()> {
    cell.setattr(intern!(cell.py(), "cell_contents"), state.get_item(0)?)
}

/// Fills a cell with a class's dict of attributes.
#[pyfunction]
pub fn set_class_cell(cell: &Bound<'_, PyAny>, class_: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = cell.py();
    let dict = class_.getattr(intern!(py, "__dict__"))?;
    let dict = referent(&dict, Tables::get(py)?)?;
    cell.setattr(intern!(py, "cell_contents"), dict)
}

/// This process's main module.
#[pyfunction]
pub fn rebuild_main(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    home::main_module(py)
}

/// A module that nobody can import.
#[pyfunction]
pub fn rebuild_module<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyModule>> {
    let module = PyModule::new(py, name)?;
    module.setattr(intern!(py, "__builtins__"), py.import("builtins")?)?;
    Ok(module)
}

/// Fills a module.
#[pyfunction]
pub fn set_module<'py>(module: &Bound<'py, PyModule>, state: &Bound<'py, PyDict>) -> PyResult<()> {
    module.dict().update(state.as_mapping())
}

/// A function with a cache, which begins empty.
#[pyfunction]
pub fn rebuild_cached<'py>(
    function: &Bound<'py, PyAny>,
    maxsize: &Bound<'py, PyAny>,
    typed: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let cache = function.py().import("functools")?.getattr("lru_cache")?;
    cache.call1((maxsize, typed))?.call1((function,))
}

/// A property, class method or static method of a class that derives from one of these.
#[pyfunction]
pub fn rebuild_descriptor<'py>(
    base: &Bound<'py, PyType>,
    class_: &Bound<'py, PyType>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = base.py();
    let before = |first: &Bound<'py, PyAny>| {
        let all: Vec<_> = std::iter::once(first.clone())
            .chain(arguments.iter())
            .collect();
        PyTuple::new(py, all)
    };
    let new = base.getattr(intern!(py, "__new__"))?;
    // Since 3.15 class methods are not made without their function; a plain object may not be made with one.
    let made = if new.is(&py.get_type::<PyAny>().getattr(intern!(py, "__new__"))?) {
        new.call1((class_,))?
    } else {
        new.call1(before(class_.as_any())?)?
    };
    base.call_method1(intern!(py, "__init__"), before(&made)?)?;
    Ok(made)
}

/// A view of a dict.
#[pyfunction]
pub fn rebuild_view<'py>(
    view: &Bound<'py, PyString>,
    of: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    match view.to_str()? {
        "keys" | "values" | "items" => of.call_method0(view),
        _ => Err(PyTypeError::new_err("no view of a dict")),
    }
}

/// A weak reference; dead where the message held nothing.
#[pyfunction]
pub fn rebuild_weak_reference<'py>(target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = target.py();
    let weak = Tables::get(py)?.weak_reference.bind(py);
    if target.is_none() {
        let soon_gone = py.import("weakref")?.getattr("WeakSet")?.call0()?;
        return weak.call1((soon_gone,));
    }
    weak.call1((target,))
}
