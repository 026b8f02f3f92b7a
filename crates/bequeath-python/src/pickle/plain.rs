//! Which instances are plain: their default reduction says nothing but class and state, and making it would run no
//! code of anybody. What a class is found to be is remembered as long as the class is not changed.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString, PyType};

use super::classes::{are_default, in_classes};
use super::look::Object;
use super::tables::Tables;
use super::version;
use crate::intern;

/// Names, and where an instance has them.
type Slots = Vec<(Py<PyString>, usize)>;

/// How instances of a class are plain.
pub(super) struct Plain {
    /// The slots that belong to the state.
    slots: Slots,
    /// Instances are given their state by putting it into their dict.
    pub(super) takes_state_as_it_is: bool,
}

impl Plain {
    /// The slots that are filled: the second half of the state, where there are any.
    pub(super) fn slots<'a, 'py: 'a>(
        &'a self,
        object: Object<'a, 'py>,
    ) -> impl Iterator<Item = (&'a Bound<'py, PyString>, Object<'a, 'py>)> + 'a {
        self.slots.iter().filter_map(move |(name, offset)| {
            Some((name.bind(object.py()), version::slot(object, *offset)?))
        })
    }

    /// Whether instances have state besides their dict.
    pub(super) fn has_slots(&self) -> bool {
        !self.slots.is_empty()
    }
}

/// How the instances of a class are plain, if they are.
pub(super) fn examine(class: &Bound<'_, PyType>) -> PyResult<Option<Plain>> {
    let py = class.py();
    let default = are_default(
        class,
        &[
            intern!(py, "__reduce_ex__"),
            intern!(py, "__reduce__"),
            intern!(py, "__getstate__"),
            intern!(py, "__getattribute__"),
            intern!(py, "__getattr__"),
            intern!(py, "__getnewargs__"),
            intern!(py, "__getnewargs_ex__"),
            intern!(py, "__class__"),
        ],
    )?;
    // Each class that gives its instances a dict has a descriptor for it.
    let dict = in_classes(class, intern!(py, "__dict__"))?;
    let own_dict = match &dict {
        Some(descriptor) => descriptor.get_type().name()? == "getset_descriptor",
        None => true,
    };
    if !default || !own_dict {
        return Ok(None);
    }
    let Some(slots) = slots(class)? else {
        return Ok(None);
    };
    let takes_state_as_it_is = in_classes(class, intern!(py, "__setstate__"))?.is_none();
    Ok(version::holds_only(class, slots.len()).then_some(Plain {
        slots,
        takes_state_as_it_is,
    }))
}

/// The slots of a class that belong to the state; nothing where one of them is something else.
fn slots(class: &Bound<'_, PyType>) -> PyResult<Option<Slots>> {
    let py = class.py();
    let names = py
        .import(intern!(py, "copyreg"))?
        .call_method1(intern!(py, "_slotnames"), (class,))?;
    let mut slots = Vec::new();
    for name in names.try_iter()? {
        let name = name?.cast_into::<PyString>().map_err(PyErr::from)?;
        let Some(member) = in_classes(class, &name)? else {
            return Ok(None);
        };
        let Some(offset) = version::slot_offset(&member) else {
            return Ok(None);
        };
        // A slot of another class that somebody put here lies anywhere.
        if !class.is_subclass(&member.getattr(intern!(py, "__objclass__"))?)? {
            return Ok(None);
        }
        slots.push((name.unbind(), offset));
    }
    Ok(Some(slots))
}

/// Whether a name is one of those that pickling asks an instance for.
#[inline]
pub(super) fn is_asked_for(name: &[u8]) -> bool {
    name.starts_with(b"__")
        && matches!(
            name,
            b"__reduce_ex__"
                | b"__reduce__"
                | b"__getstate__"
                | b"__getnewargs__"
                | b"__getnewargs_ex__"
        )
}

/// Whether an attribute of the instance itself takes the place of something that pickling asks for.
pub(super) fn is_overridden(state: Object<'_, '_>) -> bool {
    let py = state.py();
    let Ok(state) = state.cast::<PyDict>() else {
        return true;
    };
    [
        intern!(py, "__reduce_ex__"),
        intern!(py, "__reduce__"),
        intern!(py, "__getstate__"),
        intern!(py, "__getnewargs__"),
        intern!(py, "__getnewargs_ex__"),
    ]
    .iter()
    .any(|name| state.contains(*name).unwrap_or(true))
}

/// Module and name of a function or class that its module has under its name, seen without running code.
#[allow(clippy::type_complexity)]
pub(super) fn visible_name<'py>(
    object: &Bound<'py, PyAny>,
) -> PyResult<Option<(Bound<'py, PyString>, Bound<'py, PyString>)>> {
    let py = object.py();
    let text = |name: &Bound<'py, PyString>| -> PyResult<Option<Bound<'py, PyString>>> {
        let found = object.getattr_opt(name)?;
        Ok(found.and_then(|found| found.cast_into_exact::<PyString>().ok()))
    };
    let Some(module) = text(intern!(py, "__module__"))? else {
        return Ok(None);
    };
    let Some(name) = text(intern!(py, "__qualname__"))? else {
        return Ok(None);
    };
    let Ok(modules) = Tables::get(py)?.modules.bind(py).cast::<PyDict>() else {
        return Ok(None);
    };
    let Some(found) = modules.get_item(&module)? else {
        return Ok(None);
    };
    let Ok(found) = found.cast_into_exact::<PyModule>() else {
        return Ok(None);
    };
    match found.dict().get_item(&name)? {
        Some(there) if there.is(object) => Ok(Some((module, name))),
        _ => Ok(None),
    }
}
