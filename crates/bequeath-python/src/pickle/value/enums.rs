//! Enumerations by value. Their metaclass makes members while it makes the class, so they go ahead of its attributes.

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyList, PyString, PyTuple, PyType};

use super::class::{already_here, prepared, remember, Own};
use super::definitions::Id;
use super::tables::Tables;
use crate::intern;

/// What an enumeration is made of.
pub(super) struct Members<'py> {
    /// Name, value and the arguments of the member type, in order; aliases too.
    pub(super) made_of: Bound<'py, PyAny>,
    /// The type that members are besides, or `object`.
    pub(super) kind: Bound<'py, PyAny>,
    /// What members hold of their own, by name.
    pub(super) contents: Bound<'py, PyDict>,
}

pub(super) fn is_enum(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    if class.get_type().is(py.get_type::<PyType>()) {
        return Ok(false);
    }
    let modules = Tables::get(py)?.modules.bind(py);
    match modules.get_item(intern!(py, "enum")) {
        Ok(module) => class.is_instance(&module.getattr(intern!(py, "EnumMeta"))?),
        Err(_) => Ok(false),
    }
}

/// Whether the class is a flag that was told what to do with other bits (since 3.11).
pub(super) fn has_boundary(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    if !cfg!(Py_3_11) || !is_enum(class)? {
        return Ok(false);
    }
    class.is_subclass(&py.import("enum")?.getattr("Flag")?)
}

/// What the metaclass makes anew.
const MADE_ANEW: [&str; 15] = [
    "__new__",
    "_boundary_",
    "_all_bits_",
    "_flag_mask_",
    "_hashable_values_",
    "_inverted_",
    "_member_map_",
    "_member_names_",
    "_member_type_",
    "_singles_mask_",
    "_unhashable_values_",
    "_unhashable_values_map_",
    "_value2member_map_",
    "_value_repr_",
    "_sort_order_",
];

/// Takes the members, and what belongs to them, out of the attributes.
pub(super) fn take_apart<'py>(
    class: &Bound<'py, PyType>,
    attributes: &Bound<'py, PyDict>,
) -> PyResult<Members<'py>> {
    let py = class.py();
    let kind = class.getattr(intern!(py, "_member_type_"))?;
    let plain = kind.is(py.get_type::<PyAny>());
    let new_arguments = if plain {
        None
    } else {
        kind.getattr_opt(intern!(py, "__getnewargs__"))?
    };
    let made_of = PyList::empty(py);
    let contents = PyDict::new(py);
    let members = class.getattr(intern!(py, "__members__"))?;
    for item in members.call_method0(intern!(py, "items"))?.try_iter()? {
        let (name, member): (Bound<'py, PyString>, Bound<'py, PyAny>) = item?.extract()?;
        if attributes.contains(&name)? {
            attributes.del_item(&name)?;
        }
        let value = member.getattr(intern!(py, "_value_"))?;
        let arguments = match &new_arguments {
            Some(ask) => ask.call1((&member,))?,
            None => PyTuple::empty(py).into_any(),
        };
        let own = member
            .getattr(intern!(py, "__dict__"))?
            .call_method0(intern!(py, "copy"))?
            .cast_into::<PyDict>()?;
        for machinery in [
            "_value_",
            "_name_",
            "__objclass__",
            "_sort_order_",
            "_inverted_",
        ] {
            if own.contains(machinery)? {
                own.del_item(machinery)?;
            }
        }
        let is_canonical = member.getattr(intern!(py, "_name_"))?.eq(&name)?;
        if is_canonical && !own.is_empty() {
            contents.set_item(&name, own)?;
        }
        made_of.append((name, value, arguments))?;
    }
    for name in MADE_ANEW {
        if attributes.contains(name)? {
            attributes.del_item(name)?;
        }
    }
    Ok(Members {
        made_of: made_of.into_any(),
        kind,
        contents,
    })
}

/// Makes an enumeration with its members, or finds it.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn rebuild_enum<'py>(
    id: Id,
    own: Option<Own<'py>>,
    meta: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    bases: &Bound<'py, PyTuple>,
    namespace: &Bound<'py, PyDict>,
    keywords: Option<Bound<'py, PyDict>>,
    members: &Bound<'py, PyList>,
    kind: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = meta.py();
    if let Some(known) = already_here(py, &id, own.as_ref())? {
        return Ok(known);
    }
    let body = prepared(meta, name, bases, namespace, keywords.as_ref())?;
    // The metaclass is shown numbers and asks `__new__` for a member for each, which has the value ready. So neither
    // the program's own `__new__` and `__init__` run again, nor those of a type that members are besides.
    body.set_item(
        intern!(py, "__new__"),
        new_member(members.clone().unbind(), kind.clone().unbind(), py)?,
    )?;
    let nothing = PyCFunction::new_closure(py, None, None, |_, _| ())?;
    body.set_item(intern!(py, "__init__"), nothing)?;
    for (at, member) in members.iter().enumerate() {
        body.set_item(member.get_item(0)?, at)?;
    }
    let made = meta.call((name, bases, body), keywords.as_ref())?;
    let remove = Tables::get(py)?.delete_class_attribute.bind(py);
    let attributes = made.getattr(intern!(py, "__dict__"))?;
    for name in [
        intern!(py, "__init__"),
        intern!(py, "__new_member__"),
        intern!(py, "_new_member_"),
        intern!(py, "_use_args_"),
    ] {
        if attributes.contains(name)? {
            remove.call1((&made, name))?;
        }
    }
    remember(&made, id, own)?;
    Ok(made)
}

fn new_member(
    members: Py<PyList>,
    kind: Py<PyAny>,
    py: Python<'_>,
) -> PyResult<Bound<'_, PyCFunction>> {
    PyCFunction::new_closure(py, None, None, move |arguments, _| {
        let py = arguments.py();
        let class = arguments.get_item(0)?;
        let at: usize = arguments.get_item(1)?.extract()?;
        let member = members.bind(py).get_item(at)?;
        let made_of = member.get_item(2)?.cast_into::<PyTuple>()?;
        let all: Vec<_> = std::iter::once(class).chain(made_of.iter()).collect();
        let new = kind.bind(py).getattr(intern!(py, "__new__"))?;
        let made = new.call1(PyTuple::new(py, all)?)?;
        made.setattr(intern!(py, "_value_"), member.get_item(1)?)?;
        Ok::<_, PyErr>(made.unbind())
    })
}

/// Gives members what they held of their own.
pub(super) fn fill(class: &Bound<'_, PyAny>, contents: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = class.py();
    let members = class.getattr(intern!(py, "_member_map_"))?;
    for (name, own) in contents {
        let dict = members.get_item(name)?.getattr(intern!(py, "__dict__"))?;
        dict.cast::<PyDict>()?
            .update(own.cast::<PyDict>()?.as_mapping())?;
    }
    Ok(())
}
