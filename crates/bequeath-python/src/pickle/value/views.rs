//! What shows something else: proxies and views of mappings, weak references, and views of bytes.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyType};

use super::parts::{self, call, Part, Reduced, View};
use super::tables::{Callables, Tables};
use crate::intern;

pub(super) fn mapping_proxy<'py>(object: &Bound<'py, PyAny>, tables: &Tables) -> Reduced<'py> {
    let py = object.py();
    // The mapping itself, so that it is still shared with whoever else has it.
    let mapping = referent(object, tables)?;
    if let Some(class) = owner(&mapping, tables)? {
        return call(tables.vars.bind(py), (class,));
    }
    call(object.get_type().as_any(), (mapping,))
}

/// The class whose attributes a dict holds: since 3.13 a cell `__classdict__` may hold it itself.
pub(super) fn class_of_dict<'py>(dict: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = dict.py();
    let Ok(dict) = dict.cast_exact::<PyDict>() else {
        return Ok(None);
    };
    if !dict.contains(intern!(py, "__module__"))? {
        return Ok(None);
    }
    owner(dict.as_any(), Tables::get(py)?)
}

pub(super) fn referent<'py>(
    object: &Bound<'py, PyAny>,
    tables: &Tables,
) -> PyResult<Bound<'py, PyAny>> {
    tables
        .referents
        .bind(object.py())
        .call1((object,))?
        .get_item(0)
}

/// The class that has this very dict of attributes.
fn owner<'py>(mapping: &Bound<'py, PyAny>, tables: &Tables) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = mapping.py();
    let Ok(dict) = mapping.cast::<PyDict>() else {
        return Ok(None);
    };
    let is_owner = |class: &Bound<'py, PyAny>| -> PyResult<bool> {
        Ok(class.is_instance_of::<PyType>() && {
            let proxy = class.getattr(intern!(py, "__dict__"))?;
            referent(&proxy, tables)?.is(mapping)
        })
    };
    for value in dict.values() {
        if let Some(Part::Descriptor | Part::Wrapper) = parts::of(&value.get_type())? {
            let class = value.getattr(intern!(py, "__objclass__"))?;
            if is_owner(&class)? {
                return Ok(Some(class));
            }
        }
    }
    if !dict.contains(intern!(py, "__module__"))? {
        return Ok(None);
    }
    // A class without a descriptor of its own: whoever refers to it.
    let garbage = py.import("gc")?;
    let holders = garbage.call_method1("get_referrers", (mapping,))?;
    for holder in holders.try_iter()? {
        let holder = holder?;
        if is_owner(&holder)? {
            return Ok(Some(holder));
        }
    }
    Ok(None)
}

/// A view of a dict.
pub(super) fn of_dict<'py>(
    object: &Bound<'py, PyAny>,
    view: View,
    tables: &Tables,
    callables: &Callables,
) -> Reduced<'py> {
    // `mapping` came with 3.10; it is a proxy of the dict.
    let dict = referent(&object.getattr("mapping")?, tables)?;
    let name = match view {
        View::Keys => "keys",
        View::Values => "values",
        View::Items => "items",
    };
    call(callables.view.bind(object.py()), (name, dict))
}

pub(super) fn weak_reference<'py>(
    object: &Bound<'py, PyAny>,
    callables: &Callables,
) -> Reduced<'py> {
    if !object.getattr("__callback__")?.is_none() {
        return Err(PyTypeError::new_err(
            "a weak reference with a callback cannot cross: the callback belongs to this process",
        ));
    }
    let target = object.call0()?;
    call(callables.weak.bind(object.py()), (target,))
}

pub(super) fn weak_set<'py>(object: &Bound<'py, PyAny>, kind: &Bound<'py, PyAny>) -> Reduced<'py> {
    let items = PyList::empty(object.py());
    for item in object.try_iter()? {
        items.append(item?)?;
    }
    call(kind, (items,))
}

/// A view of a copy of the bytes, with the same items where a view of bytes can have them.
pub(super) fn memory_view<'py>(object: &Bound<'py, PyAny>) -> Reduced<'py> {
    let py = object.py();
    let kind = object.get_type().into_any();
    let bytes = object.call_method0(intern!(py, "tobytes"))?;
    let format = object.getattr(intern!(py, "format"))?;
    let shape = object.getattr(intern!(py, "shape"))?;
    let plain = format.extract::<&str>()? == "B" && shape.len()? == 1;
    if !plain {
        let view = kind.call1((&bytes,))?;
        let cast = view.getattr(intern!(py, "cast"))?;
        if cast.call1((&format, &shape)).is_ok() {
            return call(&cast, (format, shape));
        }
    }
    call(&kind, (bytes,))
}
