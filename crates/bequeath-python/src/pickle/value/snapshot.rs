//! What a definition is made of, as far as that cannot change unseen: so a form that was made of it is known to be right
//! without making it again.

use std::collections::HashSet;

use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyCFunction, PyCode, PyComplex, PyDict, PyFloat, PyFunction, PyInt, PyModule,
    PyString, PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference,
};

use super::super::version::HAS_TYPE_PARAMETERS;
use super::home::{self, Home};
use super::parts::{self, Part};
use super::{function, To};
use crate::intern;

/// What definitions were made of at some moment.
pub(crate) struct Snapshot(Vec<Seen>);

enum Seen {
    /// Something that never changes; held, so that its address stays its own.
    Constant(Py<PyAny>),
    /// A function or class: it may go, and what is in it follows.
    Definition(Py<PyWeakrefReference>),
    /// How many parts follow.
    Count(usize),
}

impl Snapshot {
    /// Of these definitions; nothing if one holds what may change unseen: a list, an instance.
    ///
    /// # Errors
    /// Whatever asking the objects raises.
    pub(crate) fn of(definitions: &[Bound<'_, PyAny>]) -> PyResult<Option<Self>> {
        let mut found = Vec::new();
        let whole = Look::all(definitions, &mut |part| {
            found.push(match part {
                Met::Constant(object) => Seen::Constant(object.clone().unbind()),
                Met::Definition(object) => {
                    Seen::Definition(PyWeakrefReference::new(object)?.unbind())
                }
                Met::Count(count) => Seen::Count(count),
            });
            Ok(true)
        })?;
        Ok(whole.then_some(Self(found)))
    }

    /// Whether these definitions are still what they were.
    ///
    /// # Errors
    /// Whatever asking the objects raises.
    pub(crate) fn is_of(&self, definitions: &[Bound<'_, PyAny>]) -> PyResult<bool> {
        let mut expected = self.0.iter();
        let same = Look::all(definitions, &mut |part| {
            Ok(match (expected.next(), part) {
                (Some(Seen::Constant(then)), Met::Constant(now)) => now.is(then),
                (Some(Seen::Definition(then)), Met::Definition(now)) => then
                    .bind(now.py())
                    .upgrade()
                    .is_some_and(|then| now.is(&then)),
                (Some(Seen::Count(then)), Met::Count(now)) => *then == now,
                _ => false,
            })
        })?;
        Ok(same && expected.next().is_none())
    }
}

enum Met<'a, 'py> {
    Constant(&'a Bound<'py, PyAny>),
    Definition(&'a Bound<'py, PyAny>),
    Count(usize),
}

/// Goes through definitions; shows each part, and ends when one is refused or may change.
struct Look<'a> {
    show: &'a mut dyn FnMut(Met<'_, '_>) -> PyResult<bool>,
    inside: HashSet<usize>,
}

impl Look<'_> {
    fn all(
        definitions: &[Bound<'_, PyAny>],
        show: &mut dyn FnMut(Met<'_, '_>) -> PyResult<bool>,
    ) -> PyResult<bool> {
        let mut look = Look {
            show,
            inside: HashSet::new(),
        };
        look.each(definitions.iter().cloned())
    }

    fn each<'py>(&mut self, parts: impl Iterator<Item = Bound<'py, PyAny>>) -> PyResult<bool> {
        for part in parts {
            if !self.part(&part)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn part(&mut self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        if is_constant(object) {
            return (self.show)(Met::Constant(object));
        }
        let is_function = object.is_exact_instance_of::<PyFunction>();
        if is_function || object.is_instance_of::<PyType>() {
            if !(self.show)(Met::Definition(object))? {
                return Ok(false);
            }
            if !self.inside.insert(object.as_ptr() as usize) {
                return Ok(true);
            }
            return match home::of(object, To::Session)? {
                Home::Shared => Ok(true),
                _ if is_function => self.function(object),
                _ => self.class(object),
            };
        }
        if let Ok(tuple) = object.cast_exact::<PyTuple>() {
            return Ok((self.show)(Met::Count(tuple.len()))? && self.each(tuple.iter())?);
        }
        let py = object.py();
        match parts::of(&object.get_type())? {
            Some(Part::Property) => {
                let functions =
                    ["fget", "fset", "fdel", "__doc__"].map(|name| object.getattr(name));
                let functions = functions.into_iter().collect::<PyResult<Vec<_>>>()?;
                self.each(functions.into_iter())
            }
            Some(Part::Wrapped) => self.part(&object.getattr(intern!(py, "__func__"))?),
            Some(Part::Descriptor) => (self.show)(Met::Count(0)),
            _ => Ok(false),
        }
    }

    fn function(&mut self, function: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = function.py();
        for name in [
            intern!(py, "__code__"),
            intern!(py, "__name__"),
            intern!(py, "__qualname__"),
            intern!(py, "__module__"),
            intern!(py, "__doc__"),
            intern!(py, "__defaults__"),
        ] {
            if !self.part(&function.getattr(name)?)? {
                return Ok(false);
            }
        }
        if let Ok(cells) = function
            .getattr(intern!(py, "__closure__"))?
            .cast::<PyTuple>()
        {
            for cell in cells {
                let whole = match cell.getattr(intern!(py, "cell_contents")) {
                    Ok(contents) => self.part(&contents)?,
                    Err(_) => (self.show)(Met::Count(0))?,
                };
                if !whole {
                    return Ok(false);
                }
            }
        }
        for name in [intern!(py, "__kwdefaults__"), intern!(py, "__dict__")] {
            if let Ok(dict) = function.getattr(name)?.cast_exact::<PyDict>() {
                if !self.dict(dict)? {
                    return Ok(false);
                }
            }
        }
        let whole = match function::annotate(function) {
            Some(annotate) => self.part(&annotate)?,
            None => {
                let annotations = function.getattr(intern!(py, "__annotations__"))?;
                self.dict(annotations.cast::<PyDict>()?)?
            }
        };
        if !whole {
            return Ok(false);
        }
        if HAS_TYPE_PARAMETERS && !self.part(&function.getattr(intern!(py, "__type_params__"))?)? {
            return Ok(false);
        }
        self.dict(&function::travelling_globals(function.cast()?)?)
    }

    fn class(&mut self, class: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = class.py();
        let attributes = class
            .getattr(intern!(py, "__dict__"))?
            .call_method0(intern!(py, "copy"))?;
        Ok(self.part(&class.getattr(intern!(py, "__bases__"))?)?
            && self.part(&class.get_type().into_any())?
            && self.dict(attributes.cast::<PyDict>()?)?)
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>) -> PyResult<bool> {
        if !(self.show)(Met::Count(dict.len()))? {
            return Ok(false);
        }
        for (name, value) in dict {
            if !name.is_exact_instance_of::<PyString>() {
                return Ok(false);
            }
            if !self.part(&name)? || !self.part(&value)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether nothing in it ever changes. Modules: they cross by name, or hold what is looked at where it is used.
fn is_constant(object: &Bound<'_, PyAny>) -> bool {
    let py = object.py();
    object.is_none()
        || object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyBool>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_exact_instance_of::<PyBytes>()
        || object.is_exact_instance_of::<PyCode>()
        || object.is_exact_instance_of::<PyComplex>()
        || object.is(py.Ellipsis().bind(py))
        || object.is(py.NotImplemented().bind(py))
        || (object.is_exact_instance_of::<PyCFunction>() && is_of_a_module(object))
        || is_shared_module(object)
}

/// A builtin function, as opposed to a method that is bound to something.
fn is_of_a_module(function: &Bound<'_, PyAny>) -> bool {
    let bound_to = function.getattr(intern!(function.py(), "__self__"));
    bound_to.is_ok_and(|bound_to| bound_to.is_none() || bound_to.is_instance_of::<PyModule>())
}

fn is_shared_module(object: &Bound<'_, PyAny>) -> bool {
    let name = object
        .cast_exact::<PyModule>()
        .ok()
        .and_then(|module| module.name().ok());
    name.is_some_and(|name| {
        name.to_str()
            .is_ok_and(|name| home::is_shared(object, name).unwrap_or(false))
    })
}
