#![allow(unsafe_code)]
//! What a reader makes objects with: whom it asks, and what it may use.
//!
//! # Safety invariants
//! Each call of the API is given objects that are alive, of the type that it wants, on an attached thread; what it
//! returns is a new reference or null with an error set.

use std::borrow::Cow;
use std::vec::Drain;

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};

use super::allow::Allow;
use super::failure::{Failure, Made};
use super::find::{current_name, find_class};
use super::look::index;
use super::tables::{unpickling_error, Tables};
use crate::intern;

/// What an unpickler was told to ask, and what it read on the way.
pub(super) struct Objects<'py> {
    pub(super) py: Python<'py>,
    /// Overridden lookups of globals; otherwise ours.
    pub(super) find_class: Option<Bound<'py, PyAny>>,
    pub(super) persistent_load: Option<Bound<'py, PyAny>>,
    /// An iterator of out-of-band buffers.
    pub(super) buffers: Option<Bound<'py, PyAny>>,
    pub(super) encoding: Cow<'static, str>,
    pub(super) errors: Cow<'static, str>,
    pub(super) fix_imports: bool,
    /// Which protocol the pickle said it is, as far as names are concerned.
    pub(super) protocol: u8,
    /// How many steps were taken that make, call or fill something: where reading stopped, if it does.
    pub(super) steps: u64,
    /// A restricted reader's list.
    pub(super) allow: Option<Box<Allow>>,
}

impl<'py> Objects<'py> {
    pub(super) fn named(
        &mut self,
        module: &Bound<'py, PyString>,
        name: &Bound<'py, PyString>,
    ) -> Made<'py> {
        if self.allow.is_some() {
            return self.named_if_allowed(module, name);
        }
        match &self.find_class {
            Some(find) => Ok(find.call1((module, name))?),
            None => Ok(find_class(module, name, self.fix_imports, self.protocol)?),
        }
    }

    #[cold]
    fn named_if_allowed(
        &mut self,
        module: &Bound<'py, PyString>,
        name: &Bound<'py, PyString>,
    ) -> Made<'py> {
        let py = self.py;
        let (own_module, own_name) = current_name(module, name, self.fix_imports, self.protocol)?;
        let (own_module, own_name) = (own_module.to_str()?, own_name.to_str()?);
        let Some(allow) = &mut self.allow else {
            return Ok(find_class(module, name, self.fix_imports, self.protocol)?);
        };
        let Some(find) = &self.find_class else {
            return Ok(allow.find(py, own_module, own_name)?);
        };
        // A subclass may look elsewhere for what is listed.
        allow.check(py, own_module, own_name)?;
        let found = find.call1((module, name))?;
        allow.has_named(&found);
        Ok(found)
    }

    /// What a restricted reader may call.
    #[inline]
    pub(super) fn may_call(&self, thing: &Bound<'py, PyAny>) -> Result<(), Failure> {
        match &self.allow {
            None => Ok(()),
            Some(allow) => Ok(allow.may_call(thing)?),
        }
    }

    /// What a restricted reader may fill.
    #[inline]
    pub(super) fn may_change(&self, thing: &Bound<'py, PyAny>) -> Result<(), Failure> {
        match &self.allow {
            None => Ok(()),
            Some(allow) => Ok(allow.may_change(thing)?),
        }
    }

    #[inline]
    pub(super) fn made(&mut self, thing: Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        if let Some(allow) = &mut self.allow {
            allow.has_made(&thing);
        }
        thing
    }

    /// A method as the object's class has it; a restricted reader does not ask the object itself.
    pub(super) fn method(
        &self,
        object: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.py;
        if self.allow.is_none() {
            return object.getattr_opt(name);
        }
        let class = object.get_type();
        let Some(found) = class.getattr_opt(name)? else {
            return Ok(None);
        };
        match found.getattr_opt(intern!(py, "__get__"))? {
            Some(bind) => Ok(Some(bind.call1((object, class))?)),
            None => Ok(Some(found)),
        }
    }

    /// What is no exact list is extended by its own method.
    pub(super) fn extend_object(
        &self,
        list: &Bound<'py, PyAny>,
        items: Drain<'_, Bound<'py, PyAny>>,
    ) -> Result<(), Failure> {
        let py = self.py;
        let items = self.new_list(items)?;
        if let Some(extend) = self.method(list, intern!(py, "extend"))? {
            extend.call1((items,))?;
            return Ok(());
        }
        // Even if a subclass has no extend, its append must do.
        let append = self.needed(list, intern!(py, "append"))?;
        for item in items {
            append.call1((item,))?;
        }
        Ok(())
    }

    /// A list of these; `MemoryError` where PyO3's own panics.
    #[inline]
    pub(super) fn new_list(
        &self,
        items: Drain<'_, Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        // SAFETY: attached.
        let list = unsafe { ffi::PyList_New(index(items.len())) };
        // SAFETY: a new reference or an error.
        let list = unsafe { Bound::from_owned_ptr_or_err(self.py, list) }?;
        for (at, item) in items.enumerate() {
            // SAFETY: a list that nobody else has, whose place at this index is empty.
            unsafe { ffi::PyList_SET_ITEM(list.as_ptr(), index(at), item.into_ptr()) };
        }
        Ok(list.cast_into()?)
    }

    /// As [`Self::method`], where there must be one.
    pub(super) fn needed(
        &self,
        object: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self.method(object, name)? {
            Some(method) => Ok(method),
            None if self.allow.is_some() => object.get_type().getattr(name),
            None => object.getattr(name),
        }
    }

    pub(super) fn tuple_of(
        arguments: Bound<'py, PyAny>,
        what: &str,
    ) -> Result<Bound<'py, PyTuple>, Failure> {
        arguments.cast_into::<PyTuple>().map_err(|error| {
            let other = error.into_inner();
            let py = other.py();
            Failure(unpickling_error(py, format!("{what} must be a tuple")))
        })
    }

    /// `class.__new__` as the class itself has it, not as its attribute says.
    pub(super) fn make(
        &mut self,
        opcode: &str,
        class: &Bound<'py, PyAny>,
        arguments: &Bound<'py, PyAny>,
        keywords: Option<&Bound<'py, PyAny>>,
    ) -> Made<'py> {
        let py = self.py;
        self.may_call(class)?;
        let Ok(class) = class.cast::<PyType>() else {
            let name = class.get_type().name()?;
            let text = format!("{opcode} class argument must be a type, not {name}");
            return Err(unpickling_error(py, text).into());
        };
        let kind = class.as_type_ptr();
        // SAFETY: a type that is alive.
        let Some(new) = (unsafe { (*kind).tp_new }) else {
            let text = format!(
                "{opcode} class argument '{}' doesn't have __new__",
                class.name()?
            );
            return Err(unpickling_error(py, text).into());
        };
        if !arguments.is_instance_of::<PyTuple>() {
            let name = arguments.get_type().name()?;
            let text = format!("{opcode} args argument must be a tuple, not {name}");
            return Err(unpickling_error(py, text).into());
        }
        if let Some(keywords) = keywords.filter(|keywords| !keywords.is_instance_of::<PyDict>()) {
            let name = keywords.get_type().name()?;
            let text = format!("{opcode} kwargs argument must be a dict, not {name}");
            return Err(unpickling_error(py, text).into());
        }
        let keywords = keywords.map_or(std::ptr::null_mut(), |keywords| keywords.as_ptr());
        // SAFETY: the class's own constructor with a tuple and a dict or nothing.
        let made = unsafe { new(kind, arguments.as_ptr(), keywords) };
        // SAFETY: a new reference or an error.
        let made = unsafe { Bound::from_owned_ptr_or_err(py, made) }?;
        Ok(self.made(made))
    }

    /// The global that is registered under a code.
    pub(super) fn registered(&mut self, code: u32) -> Made<'py> {
        let py = self.py;
        let tables = Tables::get(py)?;
        let cache = tables.extension_cache.bind(py);
        // Whatever others have looked up there is not what a restricted reader allows.
        let known = if self.allow.is_none() {
            cache.get_item(code).ok()
        } else {
            None
        };
        if let Some(found) = known {
            return Ok(found);
        }
        let Ok(pair) = tables.inverted_registry.bind(py).get_item(code) else {
            return Err(
                PyValueError::new_err(format!("unregistered extension code {code}")).into(),
            );
        };
        let Ok((module, name)) = pair.extract::<(Bound<'py, PyString>, Bound<'py, PyString>)>()
        else {
            let text = format!("_inverted_registry[{code}] isn't a 2-tuple of strings");
            return Err(PyValueError::new_err(text).into());
        };
        let found = self.named(&module, &name)?;
        if self.allow.is_none() {
            cache.set_item(code, &found)?;
        }
        Ok(found)
    }

    /// An instance in the manner of Python 2's classes.
    pub(super) fn old_instance(
        &mut self,
        class: &Bound<'py, PyAny>,
        arguments: Bound<'py, PyAny>,
    ) -> Made<'py> {
        let py = self.py;
        let arguments = Self::tuple_of(arguments, "the arguments of an instance")?;
        self.may_call(class)?;
        if arguments.is_empty() && class.is_instance_of::<PyType>() {
            let asks = class.getattr_opt(intern!(py, "__getinitargs__"))?;
            if asks.is_none() {
                let made = class.call_method1(intern!(py, "__new__"), (class,))?;
                return Ok(self.made(made));
            }
        }
        let made = class.call1(arguments)?;
        Ok(self.made(made))
    }

    pub(super) fn decode(&self, bytes: &[u8], errors: &'static std::ffi::CStr) -> Made<'py> {
        let (first, len) = (bytes.as_ptr().cast(), index(bytes.len()));
        // SAFETY: that many bytes.
        let text = unsafe { ffi::PyUnicode_DecodeUTF8(first, len, errors.as_ptr()) };
        // SAFETY: a new reference or an error.
        Ok(unsafe { Bound::from_owned_ptr_or_err(self.py, text) }?)
    }

    pub(super) fn line(&self, bytes: &[u8]) -> Result<Bound<'py, PyString>, Failure> {
        let text = self.decode(bytes, c"strict")?;
        Ok(text.cast_into::<PyString>().map_err(PyErr::from)?)
    }
}
