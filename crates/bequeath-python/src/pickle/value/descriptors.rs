//! What stands in classes around functions: properties, class methods, cached ones, partial ones, and methods bound to objects.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::super::reduction::Reduction;
use super::home::{self, Home};
use super::parts::{call, Reduced};
use super::tables::{Callables, Tables};
use super::To;
use crate::intern;

/// What a property is made of.
fn of_property<'py>(property: &Bound<'py, PyAny>) -> PyResult<[Bound<'py, PyAny>; 4]> {
    let py = property.py();
    Ok([
        property.getattr(intern!(py, "fget"))?,
        property.getattr(intern!(py, "fset"))?,
        property.getattr(intern!(py, "fdel"))?,
        property.getattr(intern!(py, "__doc__"))?,
    ])
}

pub(super) fn property<'py>(object: &Bound<'py, PyAny>, kind: &Bound<'py, PyAny>) -> Reduced<'py> {
    let arguments = PyTuple::new(object.py(), of_property(object)?)?;
    call(kind, arguments)
}

/// A property, class method or static method of a class that derives from these; nothing for other objects, and for those whose
/// class says itself how they are pickled. It is made without the class's own constructor, which may want anything.
pub(super) fn of_subclass<'py>(
    object: &Bound<'py, PyAny>,
    kind: &Bound<'py, PyType>,
) -> Reduced<'py> {
    let py = object.py();
    let tables = Tables::get(py)?;
    let property = tables.property.bind(py);
    let cached = match tables.modules.bind(py).get_item(intern!(py, "functools")) {
        Ok(functools) => functools.getattr_opt(intern!(py, "cached_property"))?,
        Err(_) => None,
    };
    let wrapper = [&tables.class_method, &tables.static_method].map(|base| base.bind(py));
    let (base, arguments, own) = if is_below(kind, property) {
        let own = object.getattr_opt(intern!(py, "__dict__"))?;
        (property, PyTuple::new(py, of_property(object)?)?, own)
    } else if let Some(base) = cached.as_ref().filter(|base| is_below(kind, base)) {
        let (function, own) = of_cached_property(object)?;
        (base, PyTuple::new(py, [function])?, Some(own.into_any()))
    } else if let Some(base) = wrapper.into_iter().find(|base| is_below(kind, base)) {
        let function = object.getattr(intern!(py, "__func__"))?;
        let own = attributes_beside(object, &function)?;
        let own = own.map(Bound::into_any);
        (base, PyTuple::new(py, [function])?, own)
    } else {
        return Ok(None);
    };
    let plain = py.get_type::<PyAny>();
    for name in [intern!(py, "__reduce_ex__"), intern!(py, "__reduce__")] {
        if !kind.getattr(name)?.is(&plain.getattr(name)?) {
            return Ok(None);
        }
    }
    let make = Callables::get(py)?.descriptor.bind(py).clone();
    let arguments = (base, kind, arguments).into_pyobject(py)?;
    Ok(Some(match own {
        Some(own) if own.is_truthy()? => Reduction::call_and_set(make, arguments, own, None),
        _ => Reduction::call(make, arguments),
    }))
}

pub(super) fn is_below(kind: &Bound<'_, PyType>, base: &Bound<'_, PyAny>) -> bool {
    kind.mro().iter().any(|class| class.is(base))
}

/// A descriptor of the interpreter's own: of a slot, or of what C code gives its instances.
pub(super) fn of_interpreter<'py>(object: &Bound<'py, PyAny>, tables: &Tables) -> Reduced<'py> {
    let py = object.py();
    let class = object.getattr(intern!(py, "__objclass__"))?;
    let name = object.getattr(intern!(py, "__name__"))?;
    if object
        .get_type()
        .is(tables.class_method_descriptor.bind(py))
    {
        // Looked up on its class it would be bound.
        let get = class
            .getattr(intern!(py, "__dict__"))?
            .getattr(intern!(py, "__getitem__"))?;
        return call(&get, (name,));
    }
    call(tables.getattr.bind(py), (class, name))
}

pub(super) fn method<'py>(object: &Bound<'py, PyAny>, tables: &Tables) -> Reduced<'py> {
    let py = object.py();
    let function = object.getattr(intern!(py, "__func__"))?;
    let instance = object.getattr(intern!(py, "__self__"))?;
    // By name where that leads back, so that the receiver's own definition is used.
    if let Some(name) = function.getattr_opt(intern!(py, "__name__"))? {
        if let Ok(name) = name.cast::<PyString>() {
            let found = instance.getattr_opt(name).ok().flatten();
            if found.is_some_and(|found| found.eq(object).unwrap_or(false)) {
                return call(tables.getattr.bind(py), (instance, name));
            }
        }
    }
    call(tables.method.bind(py), (function, instance))
}

/// A function with a cache, which begins empty.
pub(super) fn cached<'py>(
    object: &Bound<'py, PyAny>,
    to: To,
    callables: &Callables,
) -> Reduced<'py> {
    let py = object.py();
    if let Home::Shared = home::of(object, to)? {
        return Ok(None);
    }
    let settings = object.call_method0("cache_parameters")?;
    let function = object.getattr(intern!(py, "__wrapped__"))?;
    let own = attributes_beside(object, &function)?;
    let maxsize = settings.get_item("maxsize")?;
    let arguments = (function, maxsize, settings.get_item("typed")?).into_pyobject(py)?;
    let make = callables.cached.bind(py).clone();
    Ok(Some(match own {
        Some(own) => Reduction::call_and_set(make, arguments, own.into_any(), None),
        None => Reduction::call(make, arguments),
    }))
}

/// The attributes that were set on what wraps a function, beside those that it has from the function by itself.
fn attributes_beside<'py>(
    object: &Bound<'py, PyAny>,
    function: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let py = object.py();
    let Some(all) = object.getattr_opt(intern!(py, "__dict__"))? else {
        return Ok(None);
    };
    let own = PyDict::new(py);
    for (name, value) in all.cast::<PyDict>()?.copy()? {
        let made_with_it = name.eq(intern!(py, "__wrapped__"))?
            || name.eq(intern!(py, "cache_parameters"))?
            || match name.cast::<PyString>() {
                Ok(name) => function
                    .getattr_opt(name)?
                    .is_some_and(|of_function| of_function.is(&value)),
                Err(_) => false,
            };
        if !made_with_it {
            own.set_item(name, value)?;
        }
    }
    Ok((!own.is_empty()).then_some(own))
}

pub(super) fn partial_method<'py>(
    object: &Bound<'py, PyAny>,
    kind: Bound<'py, PyAny>,
) -> Reduced<'py> {
    // Not by its attributes: since 3.14 it cannot be made without its function.
    let py = object.py();
    let mut arguments = vec![kind, object.getattr("func")?];
    for argument in object.getattr("args")?.try_iter()? {
        arguments.push(argument?);
    }
    let keywords = object.getattr("keywords")?.cast_into::<PyDict>()?;
    let partial = py.import("functools")?.getattr("partial")?;
    let arguments = PyTuple::new(py, arguments)?;
    call(&partial.call(arguments, Some(&keywords))?, ())
}

pub(super) fn cached_property<'py>(
    object: &Bound<'py, PyAny>,
    kind: Bound<'py, PyAny>,
) -> Reduced<'py> {
    let (function, own) = of_cached_property(object)?;
    let arguments = PyTuple::new(object.py(), [function])?;
    let made = Reduction::call_and_set(kind, arguments, own.into_any(), None);
    Ok(Some(made))
}

/// Its function, and what else it has but the lock, which up to 3.11 it has of its own wherever it is made.
fn of_cached_property<'py>(
    object: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyDict>)> {
    let own = object.getattr(intern!(object.py(), "__dict__"))?;
    let own = own.cast::<PyDict>()?.copy()?;
    for name in ["func", "lock"] {
        if own.contains(name)? {
            own.del_item(name)?;
        }
    }
    Ok((object.getattr("func")?, own))
}
