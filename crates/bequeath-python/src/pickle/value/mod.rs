//! Functions, classes and modules that a receiver cannot import: they cross as what they are.
//!
//! [`reduce`] says of any object whether it crosses by its name (nothing is returned, and the pickler writes the name), or
//! by value: then as a call of one of the `rebuild_*` functions of the engine, which the receiver makes.
//!
//! * `home` finds out where a definition lives, and whether a receiver has it; `in_main` which one a receiver uses.
//! * `function`, `code` and `namespace` take functions apart and put them together: what they are, and their globals.
//! * `class`, `enums` and `variables` do it for classes and type variables, `late` for what is worked out when it is asked for; `parts` and
//!   `rebuild` for what these are made of, `descriptors` and `views` among them.
//! * `definitions` remembers what crossed, so that a definition sent twice is one in the receiver.

mod class;
mod code;
mod definitions;
mod descriptors;
mod enums;
mod function;
mod home;
mod in_main;
mod late;
mod namespace;
mod parts;
mod rebuild;
mod snapshot;
mod tables;
mod variables;
mod views;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyType};

use super::reduction::Reduction;
use crate::intern;
use home::Home;
use tables::Tables;

pub(super) use tables::Callables;

pub use class::{rebuild_class, set_class};
pub use code::rebuild_code;
pub use enums::rebuild_enum;
pub use function::{rebuild_function, set_function, travelling_globals};
pub use home::{register_by_value, unregister_by_value};
pub use late::{rebuild_late, set_late};
pub use namespace::{rebuild_namespace, Namespace};
pub use rebuild::{
    rebuild_cached, rebuild_cell, rebuild_descriptor, rebuild_main, rebuild_module, rebuild_view,
    rebuild_weak_reference, set_cell, set_class_cell, set_module,
};
pub use variables::rebuild_type_variable;

pub(crate) use home::is_registered;
pub(crate) use in_main::name_typed_in;
pub(crate) use namespace::Walk;
pub(crate) use snapshot::Snapshot;

/// Who will read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// A process of this session: it runs the same program, and its main module again.
    Session,
    /// Whoever gets the bytes.
    Anyone,
}

/// Whether objects of exactly this type may have a reduction here, though they are no functions and no classes.
///
/// # Errors
/// When the package is broken.
pub(crate) fn is_part(kind: &Bound<'_, PyType>) -> PyResult<bool> {
    let is_namespace = kind.is(kind.py().get_type::<Namespace>());
    let part = parts::of(kind)?;
    Ok(is_namespace || part.is_some_and(|part| !matches!(part, parts::Part::Wrapper)))
}

/// A call for what needs more than pickle's own way; nothing for what does not.
///
/// # Errors
/// Whatever asking the object raises; `PicklingError` for a class that cannot be made again.
pub(crate) fn reduce<'py>(object: &Bound<'py, PyAny>, to: To) -> PyResult<Option<Reduction<'py>>> {
    let py = object.py();
    let kind = object.get_type();
    if kind.is(py.get_type::<PyFunction>()) {
        function(object, to)
    } else if let Ok(class) = object.cast::<PyType>() {
        self::class(class, &kind, to)
    } else if let Ok(namespace) = object.cast::<Namespace>() {
        namespace.get().reduce(py).map(Some)
    } else if let Some(part) = parts::of(&kind)? {
        parts::reduce(object, part, to)
    } else {
        of_subclass(object, &kind)
    }
}

/// What classes of the program derive from a part's type.
fn of_subclass<'py>(
    object: &Bound<'py, PyAny>,
    kind: &Bound<'py, PyType>,
) -> PyResult<Option<Reduction<'py>>> {
    let tables = Tables::get(object.py())?;
    // Notebooks and test runners put streams of their own in the place of the interpreter's.
    if descriptors::is_below(kind, tables.text_stream.bind(object.py())) {
        return parts::standard_stream(object, tables);
    }
    descriptors::of_subclass(object, kind)
}

fn function<'py>(object: &Bound<'py, PyAny>, to: To) -> PyResult<Option<Reduction<'py>>> {
    let own = match home::of(object, to)? {
        Home::Shared => return Ok(None),
        Home::Main(name) => Some(name),
        Home::Nowhere => None,
    };
    function::reduce(object, to, own).map(Some)
}

fn class<'py>(
    class: &Bound<'py, PyType>,
    meta: &Bound<'py, PyType>,
    to: To,
) -> PyResult<Option<Reduction<'py>>> {
    let py = class.py();
    let singletons = [
        py.None().into_bound(py),
        py.NotImplemented().into_bound(py),
        py.Ellipsis().into_bound(py),
    ];
    // Pickle knows these types itself, under no name of any module.
    if singletons.iter().any(|only| class.is(only.get_type())) {
        return Ok(None);
    }
    let registered = Tables::get(py)?.dispatch_table.bind(py);
    if registered.cast::<PyDict>()?.contains(meta)? {
        return Ok(None);
    }
    let own = match home::of(class.as_any(), to)? {
        Home::Shared => return Ok(None),
        Home::Main(name) => Some(name),
        Home::Nowhere => None,
    };
    if !is_heap_type(class)? {
        return interpreter_type(class);
    }
    class::reduce(class, to, own).map(Some)
}

/// Whether a class was made at run time.
fn is_heap_type(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let flags: u64 = class.getattr(intern!(class.py(), "__flags__"))?.extract()?;
    Ok(flags & (1 << 9) != 0)
}

/// A type of the interpreter that says it lives in a module that does not have it.
fn interpreter_type<'py>(class: &Bound<'py, PyType>) -> PyResult<Option<Reduction<'py>>> {
    let py = class.py();
    let tables = Tables::get(py)?;
    let types = py.import(intern!(py, "types"))?;
    let names = types.getattr(intern!(py, "__dict__"))?;
    for (name, value) in names.cast::<PyDict>()? {
        if value.is(class) {
            return parts::call(tables.getattr.bind(py), (&types, name));
        }
    }
    Ok(None)
}

/// Whether a function or class crosses to a process of the session by value, if need be.
///
/// # Errors
/// Whatever asking the object raises.
pub(crate) fn is_by_value(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(!matches!(home::of(object, To::Session)?, Home::Shared))
}

/// What stands for a definition that a message only names: a call that finds it.
///
/// # Errors
/// When the package is broken.
pub(crate) fn named_definition(
    py: Python<'_>,
    name: u64,
    index: usize,
) -> PyResult<Bound<'_, PyAny>> {
    let find = Callables::get(py)?.definition.bind(py);
    Ok((find, (name, index)).into_pyobject(py)?.into_any())
}

/// The globals of a function (or of a class's module), by address, if they are neither the main module's nor ones that the
/// receiver imports: functions that have the same share theirs in the receiver.
///
/// # Errors
/// Whatever asking the object raises.
pub(crate) fn globals_made_anew(object: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    let py = object.py();
    let globals = if object.is_instance_of::<PyType>() {
        let module = object.getattr_opt(intern!(py, "__module__"))?;
        let modules = Tables::get(py)?.modules.bind(py);
        let module = module.and_then(|module| modules.get_item(module).ok());
        module.and_then(|module| module.getattr(intern!(py, "__dict__")).ok())
    } else {
        object.getattr_opt(intern!(py, "__globals__"))?
    };
    match globals.as_ref().map(|globals| globals.cast::<PyDict>()) {
        Some(Ok(globals)) => namespace::made_anew(globals),
        _ => Ok(None),
    }
}

/// How a function or class crosses to a process of the session, in the words of `--narrate`.
///
/// # Errors
/// Whatever asking the object raises.
#[pyfunction]
pub fn way_of_definition(object: &Bound<'_, PyAny>) -> PyResult<&'static str> {
    Ok(match home::of(object, To::Session)? {
        Home::Shared => "by reference",
        Home::Main(_) => "by reference, else by value",
        Home::Nowhere => "by value",
    })
}
