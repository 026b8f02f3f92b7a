//! Classes by value: first the class with nothing in it, then its attributes, which may refer to it.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};

use super::super::reduction::Reduction;
use super::super::tables::pickling_error;
use super::super::version;
use super::definitions::{self, Id};
use super::home;
use super::in_main::{own_definition, plant};
use super::namespace::is_same_program;
use super::tables::{Callables, Tables};
use super::{enums, To};
use crate::intern;

/// A definition's name in the main module, and the main module's file where the receiver may run another.
pub(super) type Own<'py> = (Bound<'py, PyString>, Option<Bound<'py, PyAny>>);

/// The reduction of a class; `own` is its name in the main module, if it has one there.
pub(super) fn reduce<'py>(
    class: &Bound<'py, PyType>,
    to: To,
    own: Option<Bound<'py, PyString>>,
) -> PyResult<Reduction<'py>> {
    let py = class.py();
    let id = definitions::id_of(class.as_any())?;
    let own = match (own, to) {
        (None, _) => None,
        (Some(name), To::Session) => Some((name, None)),
        // Without a file nobody can tell whether the receiver's main module is the same.
        (Some(name), To::Anyone) => home::main_file(py)?.map(|file| (name, Some(file))),
    };
    let attributes = version::attributes_of(class)?;
    let meta = class.get_type();
    let namespace = PyDict::new(py);
    let take = |name: &Bound<'py, PyString>| -> PyResult<()> {
        if let Some(value) = attributes.get_item(name)? {
            attributes.del_item(name)?;
            namespace.set_item(name, value)?;
        }
        Ok(())
    };
    take(intern!(py, "__module__"))?;
    // `typing` looks at it while a class is made.
    take(intern!(py, "__orig_bases__"))?;
    namespace.set_item(
        intern!(py, "__qualname__"),
        class.getattr(intern!(py, "__qualname__"))?,
    )?;
    slots(class, &attributes, &namespace)?;
    // Since 3.15 all classes have the same two, which say that they are `object`'s.
    let object = py.get_type::<PyAny>();
    for name in [intern!(py, "__dict__"), intern!(py, "__weakref__")] {
        if let Some(value) = attributes.get_item(name)? {
            if is_own_descriptor(&value, class)? || is_own_descriptor(&value, &object)? {
                attributes.del_item(name)?;
            }
        }
    }
    if attributes
        .get_item(intern!(py, "__doc__"))?
        .is_some_and(|doc| doc.is_none())
    {
        attributes.del_item(intern!(py, "__doc__"))?;
    }
    if attributes.contains(intern!(py, "__annotate_func__"))? {
        // What the function worked out; it will again.
        remove(&attributes, intern!(py, "__annotations_cache__"))?;
    }
    let registered = registered_subclasses(class, &attributes)?;
    let members = if enums::is_enum(class)? {
        Some(enums::take_apart(class, &attributes)?)
    } else {
        None
    };
    let keywords = keywords(class, &meta)?;
    let bases = class.getattr(intern!(py, "__bases__"))?;
    let callables = Callables::get(py)?;
    let mut arguments = vec![
        id.into_any(),
        own.into_pyobject(py)?.into_any(),
        meta.into_any(),
        class.getattr(intern!(py, "__name__"))?,
        bases,
        namespace.into_any(),
        keywords.into_pyobject(py)?.into_any(),
    ];
    let mut make = callables.class.bind(py);
    let mut contents = None;
    if let Some(members) = members {
        arguments.extend([members.made_of, members.kind]);
        contents = Some(members.contents);
        make = callables.enumeration.bind(py);
    }
    let arguments = PyTuple::new(py, arguments)?;
    let state = (attributes, registered, contents).into_pyobject(py)?;
    let set = callables.set_class.bind(py).clone();
    let made = Reduction::call_and_set(make.clone(), arguments, state.into_any(), Some(set));
    Ok(made)
}

fn remove(dict: &Bound<'_, PyDict>, name: &Bound<'_, PyString>) -> PyResult<()> {
    if dict.contains(name)? {
        dict.del_item(name)?;
    }
    Ok(())
}

fn is_own_descriptor(value: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = value.py();
    let tables = Tables::get(py)?;
    let kind = value.get_type();
    let descriptor = kind.is(tables.member.bind(py)) || kind.is(tables.getset.bind(py));
    Ok(descriptor && value.getattr(intern!(py, "__objclass__"))?.is(class))
}

/// Slots are made with the class; their descriptors are not sent.
fn slots<'py>(
    class: &Bound<'py, PyType>,
    attributes: &Bound<'py, PyDict>,
    namespace: &Bound<'py, PyDict>,
) -> PyResult<()> {
    let py = class.py();
    let Some(declared) = attributes.get_item(intern!(py, "__slots__"))? else {
        return Ok(());
    };
    attributes.del_item(intern!(py, "__slots__"))?;
    let mut found = Vec::new();
    for (name, value) in attributes.copy()? {
        if is_own_descriptor(&value, class)? {
            attributes.del_item(&name)?;
            found.push(name);
        }
    }
    // What was an iterator is used up.
    let usable = declared.is_instance_of::<PyString>()
        || declared.is_instance_of::<PyTuple>()
        || declared.is_instance_of::<PyList>()
        || declared.is_instance_of::<PyDict>();
    let declared = if usable {
        declared
    } else {
        PyTuple::new(py, found)?.into_any()
    };
    namespace.set_item(intern!(py, "__slots__"), declared)
}

/// Classes that an abstract one was told to regard as subclasses.
fn registered_subclasses<'py>(
    class: &Bound<'py, PyType>,
    attributes: &Bound<'py, PyDict>,
) -> PyResult<Option<Bound<'py, PyList>>> {
    let py = class.py();
    let name = intern!(py, "_abc_impl");
    if !attributes.contains(name)? {
        return Ok(None);
    }
    attributes.del_item(name)?;
    let dump = py.import("_abc")?.getattr("_get_dump")?.call1((class,))?;
    let classes = PyList::empty(py);
    for weak in dump.get_item(0)?.try_iter()? {
        let registered = weak?.call0()?;
        if !registered.is_none() {
            classes.append(registered)?;
        }
    }
    Ok((!classes.is_empty()).then_some(classes))
}

/// Keyword arguments of the class statement, which Python keeps nowhere: those that somebody insists on are looked
/// for where they are usually put, in an attribute of the class.
fn keywords<'py>(
    class: &Bound<'py, PyType>,
    meta: &Bound<'py, PyType>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let py = class.py();
    let plain = py.get_type::<PyType>();
    let bases = class.mro();
    // The class itself and `object` ask for nothing.
    if meta.is(&plain) && bases.len() == 2 {
        return Ok(None);
    }
    let mut needed = Vec::new();
    for base in bases.iter().skip(1) {
        if let Ok(hook) = own_attribute(&base, intern!(py, "__init_subclass__")) {
            required(&hook, 1, &mut needed)?;
        }
    }
    if !meta.is(&plain) {
        for base in meta.mro() {
            for (name, given) in [("__new__", 4), ("__init__", 4), ("__prepare__", 3)] {
                if let Ok(hook) = own_attribute(&base, &PyString::new(py, name)) {
                    required(&hook, given, &mut needed)?;
                }
            }
        }
    }
    let found = PyDict::new(py);
    if enums::has_boundary(class)? {
        found.set_item("boundary", class.getattr("_boundary_")?)?;
    }
    let attributes = class.getattr(intern!(py, "__dict__"))?;
    for name in needed {
        let candidates = [name.clone(), format!("_{name}"), format!("__{name}__")];
        let mut value = None;
        for candidate in candidates {
            if attributes.contains(&candidate)? {
                value = Some(attributes.get_item(&candidate)?);
                break;
            }
        }
        let Some(value) = value else {
            let shown = class.repr()?;
            return Err(pickling_error(
                py,
                format!(
                    "Can't pickle {shown} by value: its bases or metaclass need the keyword argument '{name}' of its \
                     class statement, which is kept nowhere. Keep it in an attribute of the class of that name, or \
                     define the class where the receiver can import it"
                ),
            ));
        };
        found.set_item(name, value)?;
    }
    Ok((!found.is_empty()).then_some(found))
}

fn own_attribute<'py>(
    class: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    class
        .getattr(intern!(class.py(), "__dict__"))?
        .get_item(name)
}

/// The names of parameters that have no default, behind those that are given by position.
fn required(hook: &Bound<'_, PyAny>, given: usize, names: &mut Vec<String>) -> PyResult<()> {
    let py = hook.py();
    let hook = match hook.getattr_opt(intern!(py, "__func__"))? {
        Some(function) => function,
        None => hook.clone(),
    };
    let Some(code) = hook.getattr_opt(intern!(py, "__code__"))? else {
        return Ok(());
    };
    let variables: Vec<String> = code.getattr(intern!(py, "co_varnames"))?.extract()?;
    let positional: usize = code.getattr(intern!(py, "co_argcount"))?.extract()?;
    let only: usize = code.getattr(intern!(py, "co_kwonlyargcount"))?.extract()?;
    let defaults = hook.getattr(intern!(py, "__defaults__"))?;
    let with_default = if defaults.is_none() {
        0
    } else {
        defaults.len()?
    };
    let keyword_defaults = hook.getattr(intern!(py, "__kwdefaults__"))?;
    let mut need = |name: &String| {
        if !names.contains(name) {
            names.push(name.clone());
        }
    };
    let end = positional.saturating_sub(with_default);
    for name in variables.iter().take(end).skip(given) {
        need(name);
    }
    for name in variables.iter().skip(positional).take(only) {
        if keyword_defaults.is_none() || !keyword_defaults.contains(name)? {
            need(name);
        }
    }
    Ok(())
}

/// A class that is here already: known by its id, or the main module's own.
pub(super) fn already_here<'py>(
    py: Python<'py>,
    id: &Id,
    own: Option<&Own<'py>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Some(known) = definitions::find(py, id) {
        return Ok(Some(known));
    }
    let Some((name, file)) = own else {
        return Ok(None);
    };
    if file.is_some() && !is_same_program(py, file.as_ref())? {
        return Ok(None);
    }
    let found = own_definition(&home::main_module(py)?, name, *id)?;
    Ok(found.filter(|found| found.is_instance_of::<PyType>()))
}

/// Remembers a class that was made, and lets main have it for want of its own.
pub(super) fn remember<'py>(
    made: &Bound<'py, PyAny>,
    id: Id,
    own: Option<Own<'py>>,
) -> PyResult<()> {
    let py = made.py();
    definitions::remember(made, id, true)?;
    match own {
        Some((name, file)) if file.is_none() || is_same_program(py, file.as_ref())? => {
            plant(&home::main_module(py)?, &name, made)
        }
        _ => Ok(()),
    }
}

/// Makes a class without attributes, or finds it.
#[pyfunction]
pub fn rebuild_class<'py>(
    id: Id,
    own: Option<Own<'py>>,
    meta: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    bases: &Bound<'py, PyTuple>,
    namespace: &Bound<'py, PyDict>,
    keywords: Option<Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = meta.py();
    if let Some(known) = already_here(py, &id, own.as_ref())? {
        return Ok(known);
    }
    let made = if meta.is(py.get_type::<PyType>()) {
        meta.call((name, bases, namespace), keywords.as_ref())?
    } else if is_typed_dict(meta)? {
        // Its metaclass makes such classes of class statements only.
        let new = py.get_type::<PyType>().getattr(intern!(py, "__new__"))?;
        new.call1((meta, name, bases, namespace))?
    } else {
        let body = prepared(meta, name, bases, namespace, keywords.as_ref())?;
        meta.call((name, bases, body), keywords.as_ref())?
    };
    remember(&made, id, own)?;
    Ok(made)
}

/// A class statement's body as its metaclass wants it, with these names in it.
pub(super) fn prepared<'py>(
    meta: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    bases: &Bound<'py, PyTuple>,
    namespace: &Bound<'py, PyDict>,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let prepare = meta.getattr(intern!(meta.py(), "__prepare__"))?;
    let body = prepare.call((name, bases), keywords)?;
    for (name, value) in namespace {
        body.set_item(name, value)?;
    }
    Ok(body)
}

fn is_typed_dict(meta: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = meta.py();
    meta.getattr(intern!(py, "__name__"))?.eq("_TypedDictMeta")
}

/// Gives a class that was just made its attributes; one that was here already keeps what it has.
#[pyfunction]
#[allow(clippy::type_complexity)]
pub fn set_class<'py>(
    class_: &Bound<'py, PyAny>,
    state: (
        Bound<'py, PyDict>,
        Option<Bound<'py, PyList>>,
        Option<Bound<'py, PyDict>>,
    ),
) -> PyResult<()> {
    let (class, py) = (class_, class_.py());
    if !definitions::standing(class).is_some_and(|standing| standing.fresh) {
        return Ok(());
    }
    let (attributes, registered, contents) = state;
    // Past a metaclass of the program, which may refuse: this is how the class was.
    let set = Tables::get(py)?.set_class_attribute.bind(py);
    for (name, value) in attributes {
        set.call1((class, name, value))?;
    }
    for registered in registered.iter().flatten() {
        class.call_method1(intern!(py, "register"), (registered,))?;
    }
    if let Some(contents) = contents {
        enums::fill(class, &contents)?;
    }
    definitions::complete(class);
    Ok(())
}
