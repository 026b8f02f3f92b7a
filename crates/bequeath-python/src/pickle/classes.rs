//! What a class's instances are to a pickler: which of them can be written without running code of anybody, and how.
//!
//! Looking at a class for the first time may run code; what it is found to be is remembered as long as the class is
//! not changed. A pure walk only reads what is remembered, and is started again after a class was looked at.

use std::cell::RefCell;
use std::rc::Rc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyString, PyTuple, PyType};

use super::identities::ByAddress;
use super::library;
use super::look::Object;
use super::moments::Moment;
use super::plain::{self, Plain};
use super::tables::Tables;
use super::version;
use crate::intern;

/// How instances of a class are written.
pub(super) enum Kind {
    /// By asking them: code runs.
    Ask,
    /// By asking them, too, but only CPython's or numpy's C code runs, which keeps nothing.
    AskQuietly,
    /// Class and state.
    Plain(Plain),
    /// A named tuple without attributes of its own.
    Tuple,
    /// A member of an enumeration, by its value.
    Member,
    /// They are classes, and looking at their names runs no code.
    Class,
    /// Functions, Python's and C's.
    Function,
    BuiltinFunction,
    Moment(Moment),
    Decimal,
    Complex,
    DefaultDict,
    Deque,
    Range,
    OrderedDict,
    Counter,
    /// Two slots that are its constructor's arguments.
    Fraction([usize; 2]),
    /// The slots of its number, and of what says whether it is safe.
    Uuid([usize; 2]),
    /// The slot of the list of a path's parts.
    Path(usize),
}

struct Known {
    /// Keeps the class's address from being used again.
    _class: Py<PyType>,
    version: u32,
    /// Nothing where it is only known not to be plain: what else it is takes a finished instance to see.
    kind: Option<Rc<Kind>>,
}

type Classes = ByAddress<Known>;

thread_local! {
    static KNOWN: RefCell<Classes> = RefCell::default();
}

/// More classes than a program pickles; then all is looked up again.
const MOST: usize = 1024;

/// What a class is known to be.
pub(super) fn known(class: &Bound<'_, PyType>) -> Option<Rc<Kind>> {
    remembered(class).flatten()
}

fn remembered(class: &Bound<'_, PyType>) -> Option<Option<Rc<Kind>>> {
    let version = version::type_version(class);
    if version == 0 {
        return None;
    }
    KNOWN.with_borrow(|known| {
        let known = known.get(&(class.as_ptr() as usize));
        let known = known.filter(|known| known.version == version);
        known.map(|known| known.kind.clone())
    })
}

fn remember(class: &Bound<'_, PyType>, kind: Option<Rc<Kind>>) {
    let version = version::type_version(class);
    if version == 0 {
        return;
    }
    let known = Known {
        _class: class.clone().unbind(),
        version,
        kind,
    };
    // What falls out is dropped when the table is free again: that may run code.
    let old = KNOWN.with_borrow_mut(|all| {
        let old = (all.len() >= MOST).then(|| std::mem::take(all));
        (old, all.insert(class.as_ptr() as usize, known))
    });
    drop(old);
}

/// What a class is, known or found out with one of its instances.
pub(super) fn of(class: &Bound<'_, PyType>, instance: Object<'_, '_>) -> PyResult<Rc<Kind>> {
    if let Some(kind) = known(class) {
        return Ok(kind);
    }
    let instance = instance.to_owned();
    let kind = Rc::new(examine(class, &instance)?);
    remember(class, Some(kind.clone()));
    Ok(kind)
}

/// How instances that are being read get their state.
pub(super) enum Takes {
    /// It is put into their dict.
    AsItIs,
    /// A UUID's own `__setstate__` would fill these two slots.
    Uuid([usize; 2]),
    /// They are asked.
    Asked,
}

/// How instances of a class that are being read get their state.
pub(super) fn takes(class: &Bound<'_, PyType>) -> PyResult<Takes> {
    let kind = match remembered(class) {
        Some(kind) => kind,
        None => {
            class.getattr(intern!(class.py(), "__reduce_ex__"))?;
            let quiet = is_quiet(&class.get_type())?;
            let plain = if quiet { plain::examine(class)? } else { None };
            let kind = match plain {
                Some(plain) => Some(Rc::new(Kind::Plain(plain))),
                None if quiet => library::kind_of_uuid(class)?.map(Rc::new),
                None => None,
            };
            remember(class, kind.clone());
            kind
        }
    };
    Ok(match kind.as_deref() {
        Some(Kind::Plain(plain)) if plain.takes_state_as_it_is => Takes::AsItIs,
        Some(Kind::Uuid(slots)) => Takes::Uuid(*slots),
        _ => Takes::Asked,
    })
}

fn examine(class: &Bound<'_, PyType>, instance: &Bound<'_, PyAny>) -> PyResult<Kind> {
    let py = class.py();
    let metaclass = class.get_type();
    if !is_quiet(&metaclass)? {
        return Ok(Kind::Ask);
    }
    // Looked up in earnest once, which is what gives the class its version.
    class.getattr(intern!(py, "__reduce_ex__"))?;
    if class.is_subclass_of::<PyType>()? {
        return Ok(if is_quiet(class)? {
            Kind::Class
        } else {
            Kind::Ask
        });
    }
    if class.is(py.get_type::<PyFunction>()) {
        return Ok(Kind::Function);
    }
    if class.is(py.get_type::<pyo3::types::PyCFunction>()) {
        return Ok(Kind::BuiltinFunction);
    }
    if let Some(kind) = library::kind(class, instance)? {
        return Ok(kind);
    }
    if let Some(plain) = plain::examine(class)? {
        return Ok(Kind::Plain(plain));
    }
    if is_named_tuple(class)? {
        return Ok(Kind::Tuple);
    }
    if is_member(class, instance)? {
        return Ok(Kind::Member);
    }
    Ok(Kind::Ask)
}

/// Whether neither hashing classes of this metaclass, nor comparing them, nor asking for their names runs code.
fn is_quiet(metaclass: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = metaclass.py();
    let default = py.get_type::<PyType>();
    if metaclass.is(&default) {
        return Ok(true);
    }
    for name in [
        intern!(py, "__hash__"),
        intern!(py, "__eq__"),
        intern!(py, "__getattribute__"),
    ] {
        match (in_classes(metaclass, name)?, in_classes(&default, name)?) {
            (Some(own), Some(default)) if own.is(&default) => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Whether each of these attributes is what `object` has, or as missing as there.
pub(super) fn are_default(
    class: &Bound<'_, PyType>,
    names: &[&Bound<'_, PyString>],
) -> PyResult<bool> {
    are_those_of(class, &class.py().get_type::<PyAny>(), names)
}

/// Whether each of these attributes is what a base has, or as missing as there.
fn are_those_of<'py>(
    class: &Bound<'py, PyType>,
    base: &Bound<'py, PyType>,
    names: &[&Bound<'py, PyString>],
) -> PyResult<bool> {
    for name in names {
        let same = match (in_classes(class, name)?, in_classes(base, name)?) {
            (None, None) => true,
            (Some(own), Some(default)) => own.is(&default),
            _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A tuple of a class that `collections.namedtuple` made, or a subclass without attributes.
fn is_named_tuple(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    if !class.is_subclass_of::<PyTuple>()? {
        return Ok(false);
    }
    let default = are_those_of(
        class,
        &py.get_type::<PyTuple>(),
        &[
            intern!(py, "__reduce_ex__"),
            intern!(py, "__reduce__"),
            intern!(py, "__getstate__"),
            intern!(py, "__getattribute__"),
            intern!(py, "__getattr__"),
            intern!(py, "__getnewargs_ex__"),
            intern!(py, "__class__"),
            intern!(py, "__dict__"),
        ],
    )?;
    if !default {
        return Ok(false);
    }
    let name = intern!(py, "__getnewargs__");
    let (Some(own), Some(of_tuple)) = (
        in_classes(class, name)?,
        in_classes(&py.get_type::<PyTuple>(), name)?,
    ) else {
        return Ok(false);
    };
    if own.is(&of_tuple) {
        return Ok(true);
    }
    if !own.is_exact_instance_of::<PyFunction>() {
        return Ok(false);
    }
    // All that are made by `namedtuple` share its code.
    let reference = py.import("collections")?.getattr("namedtuple")?;
    let reference = reference.call1(("Reference", PyTuple::empty(py)))?;
    let code = reference.getattr(name)?.getattr(intern!(py, "__code__"))?;
    Ok(own.getattr(intern!(py, "__code__"))?.is(&code))
}

/// A member of an enumeration that reduces as `enum` itself says: to class and value.
fn is_member(class: &Bound<'_, PyType>, member: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = class.py();
    if !is_method_of(class, intern!(py, "__reduce_ex__"), "enum")?
        || !are_default(
            class,
            &[
                intern!(py, "__getattribute__"),
                intern!(py, "__getattr__"),
                intern!(py, "__class__"),
            ],
        )?
    {
        return Ok(false);
    }
    let Some(own) = super::look::instance_dict(member.as_borrowed()) else {
        return Ok(false);
    };
    let value = own.get_item(intern!(py, "_value_"));
    let reduced = member.call_method1(intern!(py, "__reduce_ex__"), (4,))?;
    let (Ok(value), Ok(reduced)) = (value, reduced.cast_into_exact::<PyTuple>()) else {
        return Ok(false);
    };
    let expected = PyTuple::new(py, [value])?;
    let (callable, arguments) = match reduced.extract::<(Bound<'_, PyAny>, Bound<'_, PyTuple>)>() {
        Ok(pair) => pair,
        Err(_) => return Ok(false),
    };
    Ok(callable.is(class)
        && arguments.len() == 1
        && arguments.get_item(0)?.is(&expected.get_item(0)?))
}

/// Whether a method is the one that a module of the standard library defines.
pub(super) fn is_method_of(
    class: &Bound<'_, PyType>,
    name: &Bound<'_, PyString>,
    module: &str,
) -> PyResult<bool> {
    let py = class.py();
    let Some(found) = in_classes(class, name)? else {
        return Ok(false);
    };
    if !found.is_exact_instance_of::<PyFunction>() {
        return Ok(false);
    }
    let Ok(modules) = Tables::get(py)?.modules.bind(py).cast::<PyDict>() else {
        return Ok(false);
    };
    let Some(module) = modules.get_item(module)? else {
        return Ok(false);
    };
    let globals = found.getattr(intern!(py, "__globals__"))?;
    Ok(globals.is(&module.getattr(intern!(py, "__dict__"))?))
}

/// An attribute where a class or one of its bases defines it, without the code of descriptors.
pub(super) fn in_classes<'py>(
    class: &Bound<'py, PyType>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    for base in class.mro() {
        let own = base.getattr(intern!(class.py(), "__dict__"))?;
        if own.contains(name)? {
            return own.get_item(name).map(Some);
        }
    }
    Ok(None)
}
