#![allow(unsafe_code)]
//! Opcodes become objects: what the format's stack machine asks for, made with CPython's API.
//!
//! # Safety invariants
//! Each call of the API is given objects that are alive, of the type that it wants, on an attached thread; what it
//! returns is a new reference or null with an error set.

use std::borrow::Cow;
use std::vec::Drain;

use bequeath_pickle::{Builder, Error, Source};
use pyo3::exceptions::{PyEOFError, PyOverflowError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::intern;
use pyo3::types::{
    PyByteArray, PyBytes, PyDict, PyFrozenSet, PyList, PySet, PyString, PyTuple, PyType,
};

use super::allow::Allow;
use super::classes;
use super::find::{current_name, find_class};
use super::look::{self, index};
use super::tables::{unpickling_error, Tables};
use super::version;

/// What goes wrong while a pickle is read.
pub(super) struct Failure(pub(super) PyErr);

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self(error)
    }
}

impl From<Error> for Failure {
    #[cold]
    fn from(error: Error) -> Self {
        Self(Python::attach(|py| match error {
            Error::Ended => PyEOFError::new_err("Ran out of input"),
            Error::Truncated => unpickling_error(py, "pickle data was truncated"),
            Error::Opcode(code) if code.is_ascii_graphic() || code == b' ' => {
                let quoted = match code {
                    b'\'' | b'\\' => format!("\\{}", char::from(code)),
                    _ => char::from(code).to_string(),
                };
                unpickling_error(py, format!("invalid load key, '{quoted}'."))
            }
            Error::Opcode(code) => {
                unpickling_error(py, format!("invalid load key, '\\x{code:02x}'."))
            }
            Error::NotRemembered(number) => {
                unpickling_error(py, format!("Memo value not found at index {number}"))
            }
            Error::NegativePut => PyValueError::new_err("negative PUT argument"),
            Error::TooLong(what) => PyOverflowError::new_err(format!(
                "{what} exceeds system's maximum size of {} bytes",
                isize::MAX
            )),
            Error::Protocol(protocol) => {
                PyValueError::new_err(format!("unsupported pickle protocol: {protocol}"))
            }
            Error::NotANumber(_) | Error::BadEscape => PyValueError::new_err(error.to_string()),
            other => unpickling_error(py, other.to_string()),
        }))
    }
}

type Made<'py> = Result<Bound<'py, PyAny>, Failure>;

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

/// From this many items on they are put into a list at once.
const MANY: usize = 16;

impl<'py> Objects<'py> {
    fn named(&mut self, module: &Bound<'py, PyString>, name: &Bound<'py, PyString>) -> Made<'py> {
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
    fn may_call(&self, thing: &Bound<'py, PyAny>) -> Result<(), Failure> {
        match &self.allow {
            None => Ok(()),
            Some(allow) => Ok(allow.may_call(thing)?),
        }
    }

    /// What a restricted reader may fill.
    #[inline]
    fn may_change(&self, thing: &Bound<'py, PyAny>) -> Result<(), Failure> {
        match &self.allow {
            None => Ok(()),
            Some(allow) => Ok(allow.may_change(thing)?),
        }
    }

    #[inline]
    fn made(&mut self, thing: Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        if let Some(allow) = &mut self.allow {
            allow.has_made(&thing);
        }
        thing
    }

    /// A method as the object's class has it; a restricted reader does not ask the object itself.
    fn method(
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
    fn extend_object(
        &self,
        list: &Bound<'py, PyAny>,
        items: Drain<'_, Bound<'py, PyAny>>,
    ) -> Result<(), Failure> {
        let py = self.py;
        let items = PyList::new(py, items)?;
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

    /// As [`Self::method`], where there must be one.
    fn needed(
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

    fn tuple_of(arguments: Bound<'py, PyAny>, what: &str) -> Result<Bound<'py, PyTuple>, Failure> {
        arguments.cast_into::<PyTuple>().map_err(|error| {
            let other = error.into_inner();
            let py = other.py();
            Failure(unpickling_error(py, format!("{what} must be a tuple")))
        })
    }

    /// `class.__new__` as the class itself has it, not as its attribute says.
    fn make(
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

    fn decode(&self, bytes: &[u8], errors: &'static std::ffi::CStr) -> Made<'py> {
        let (first, len) = (bytes.as_ptr().cast(), index(bytes.len()));
        // SAFETY: that many bytes.
        let text = unsafe { ffi::PyUnicode_DecodeUTF8(first, len, errors.as_ptr()) };
        // SAFETY: a new reference or an error.
        Ok(unsafe { Bound::from_owned_ptr_or_err(self.py, text) }?)
    }

    fn line(&self, bytes: &[u8]) -> Result<Bound<'py, PyString>, Failure> {
        let text = self.decode(bytes, c"strict")?;
        Ok(text.cast_into::<PyString>().map_err(PyErr::from)?)
    }
}

impl<'py> Builder for Objects<'py> {
    type Value = Bound<'py, PyAny>;
    type Error = Failure;

    fn protocol(&mut self, protocol: u8) {
        self.protocol = protocol;
    }

    #[inline]
    fn same(&mut self, value: &Self::Value) -> Self::Value {
        value.clone()
    }

    #[inline]
    fn none(&mut self) -> Self::Value {
        self.py.None().into_bound(self.py)
    }

    #[inline]
    fn boolean(&mut self, value: bool) -> Self::Value {
        pyo3::types::PyBool::new(self.py, value)
            .to_owned()
            .into_any()
    }

    #[inline]
    fn int(&mut self, value: i64) -> Made<'py> {
        // SAFETY: attached.
        let made = unsafe { ffi::PyLong_FromLongLong(value) };
        // SAFETY: a new reference or an error.
        Ok(unsafe { Bound::from_owned_ptr_or_err(self.py, made) }?)
    }

    fn long(&mut self, bytes: &[u8]) -> Made<'py> {
        if bytes.len() <= 8 {
            let filler = if bytes.last().is_some_and(|last| last & 0x80 != 0) {
                0xff
            } else {
                0
            };
            let mut all = [filler; 8];
            all[..bytes.len()].copy_from_slice(bytes);
            return self.int(i64::from_le_bytes(all));
        }
        Ok(version::long_int(self.py, bytes)?)
    }

    fn long_text(&mut self, text: &[u8]) -> Made<'py> {
        let py = self.py;
        let text = String::from_utf8_lossy(text);
        Ok(py
            .get_type::<pyo3::types::PyInt>()
            .call1((text.as_ref(), 0))?)
    }

    #[inline]
    fn float(&mut self, value: f64) -> Made<'py> {
        // SAFETY: attached.
        let made = unsafe { ffi::PyFloat_FromDouble(value) };
        // SAFETY: a new reference or an error.
        Ok(unsafe { Bound::from_owned_ptr_or_err(self.py, made) }?)
    }

    fn float_text(&mut self, text: &[u8]) -> Made<'py> {
        let py = self.py;
        let text = String::from_utf8_lossy(text);
        Ok(py
            .get_type::<pyo3::types::PyFloat>()
            .call1((text.as_ref(),))?)
    }

    #[inline]
    fn text(&mut self, utf8: &[u8]) -> Made<'py> {
        self.decode(utf8, c"surrogatepass")
    }

    fn text_escaped(&mut self, escaped: &[u8]) -> Made<'py> {
        let (first, len) = (escaped.as_ptr().cast(), index(escaped.len()));
        // SAFETY: that many bytes.
        let text = unsafe { ffi::PyUnicode_DecodeRawUnicodeEscape(first, len, std::ptr::null()) };
        // SAFETY: a new reference or an error.
        Ok(unsafe { Bound::from_owned_ptr_or_err(self.py, text) }?)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Made<'py> {
        let (first, len) = (bytes.as_ptr().cast(), index(bytes.len()));
        // SAFETY: that many bytes.
        let made = unsafe { ffi::PyBytes_FromStringAndSize(first, len) };
        // SAFETY: a new reference or an error.
        Ok(unsafe { Bound::from_owned_ptr_or_err(self.py, made) }?)
    }

    fn bytearray(&mut self, bytes: &[u8]) -> Made<'py> {
        let (first, len) = (bytes.as_ptr().cast(), index(bytes.len()));
        // SAFETY: that many bytes.
        let made = unsafe { ffi::PyByteArray_FromStringAndSize(first, len) };
        // SAFETY: a new reference or an error.
        Ok(unsafe { Bound::from_owned_ptr_or_err(self.py, made) }?)
    }

    fn bytes_from<S: Source>(&mut self, source: &mut S, len: usize) -> Made<'py>
    where
        Failure: From<S::Error>,
    {
        if !source.is_for_copying(len) {
            return self.bytes(source.take(len)?);
        }
        let fill = |into: &mut [u8]| source.copy(into).map_err(|error| Failure::from(error).0);
        Ok(PyBytes::new_with(self.py, len, fill)?.into_any())
    }

    fn bytearray_from<S: Source>(&mut self, source: &mut S, len: usize) -> Made<'py>
    where
        Failure: From<S::Error>,
    {
        if !source.is_for_copying(len) {
            return self.bytearray(source.take(len)?);
        }
        let fill = |into: &mut [u8]| source.copy(into).map_err(|error| Failure::from(error).0);
        Ok(PyByteArray::new_with(self.py, len, fill)?.into_any())
    }

    fn old_string(&mut self, bytes: &[u8]) -> Made<'py> {
        let object = self.bytes(bytes)?;
        if self.encoding == "bytes" {
            return Ok(object);
        }
        let decoded =
            object.call_method1(intern!(self.py, "decode"), (&*self.encoding, &*self.errors))?;
        Ok(decoded)
    }

    #[inline]
    fn list(&mut self, items: Drain<'_, Self::Value>) -> Made<'py> {
        // SAFETY: attached.
        let list = unsafe { ffi::PyList_New(index(items.len())) };
        // SAFETY: a new reference or an error.
        let list = unsafe { Bound::from_owned_ptr_or_err(self.py, list) }?;
        for (at, item) in items.enumerate() {
            // SAFETY: a list that nobody else has, whose place at this index is empty.
            unsafe { ffi::PyList_SET_ITEM(list.as_ptr(), index(at), item.into_ptr()) };
        }
        Ok(self.made(list))
    }

    #[inline]
    fn tuple(&mut self, items: Drain<'_, Self::Value>) -> Made<'py> {
        // SAFETY: attached.
        let tuple = unsafe { ffi::PyTuple_New(index(items.len())) };
        // SAFETY: a new reference or an error.
        let tuple = unsafe { Bound::from_owned_ptr_or_err(self.py, tuple) }?;
        for (at, item) in items.enumerate() {
            // SAFETY: a tuple that nobody else has, whose place at this index is empty.
            unsafe { ffi::PyTuple_SET_ITEM(tuple.as_ptr(), index(at), item.into_ptr()) };
        }
        Ok(tuple)
    }

    #[inline]
    fn is_fresh(&self, value: &Self::Value) -> bool {
        // A restricted reader has a list of what it made.
        self.allow.is_none() && look::is_fresh(value.as_borrowed())
    }

    fn full_list(&mut self, items: Drain<'_, Self::Value>) -> Made<'py> {
        self.steps += 1;
        self.list(items)
    }

    fn full_dict(&mut self, items: Drain<'_, Self::Value>) -> Made<'py> {
        let dict = version::dict_for(self.py, items.len() / 2)?;
        self.set_items(&dict, items)?;
        Ok(dict)
    }

    fn build_of(
        &mut self,
        object: &Self::Value,
        mut items: Drain<'_, Self::Value>,
    ) -> Result<(), Failure> {
        self.may_change(object)?;
        let class = object.get_type();
        if !classes::takes_state_as_it_is(&class)? {
            let state = self.full_dict(items)?;
            return self.build(object, state);
        }
        // As if a dict was filled, and put into the object then.
        self.steps += 2;
        let mut own = None;
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            let key = interned(key);
            if version::set_own_attribute(object, &class, &key, &value)? {
                continue;
            }
            let own = match &own {
                Some(own) => own,
                None => &*own.insert(object.getattr(intern!(self.py, "__dict__"))?),
            };
            match own.cast_exact::<PyDict>() {
                Ok(own) => own.set_item(key, value)?,
                Err(_) => own.set_item(key, value)?,
            }
        }
        Ok(())
    }

    fn build_of_both(
        &mut self,
        object: &Self::Value,
        state: Self::Value,
        mut items: Drain<'_, Self::Value>,
    ) -> Result<(), Failure> {
        self.may_change(object)?;
        if !state.is_none() || !classes::takes_state_as_it_is(&object.get_type())? {
            let slots = self.full_dict(items)?;
            let pair = self.tuple(vec![state, slots].drain(..))?;
            return self.build(object, pair);
        }
        self.steps += 2;
        while let (Some(name), Some(value)) = (items.next(), items.next()) {
            set_slot(object, &name, &value)?;
        }
        Ok(())
    }

    fn frozenset(&mut self, items: Drain<'_, Self::Value>) -> Made<'py> {
        self.steps += 1;
        Ok(PyFrozenSet::new(self.py, items)?.into_any())
    }

    fn set(&mut self) -> Made<'py> {
        let set = PySet::empty(self.py)?.into_any();
        Ok(self.made(set))
    }

    #[inline]
    fn dict(&mut self) -> Made<'py> {
        let dict = PyDict::new(self.py).into_any();
        Ok(self.made(dict))
    }

    fn append(&mut self, list: &Self::Value, item: Self::Value) -> Result<(), Failure> {
        self.steps += 1;
        self.may_change(list)?;
        if let Ok(list) = list.cast_exact::<PyList>() {
            return Ok(list.append(item)?);
        }
        self.extend_object(list, vec![item].drain(..))
    }

    fn extend(&mut self, list: &Self::Value, items: Drain<'_, Self::Value>) -> Result<(), Failure> {
        self.steps += 1;
        self.may_change(list)?;
        let py = self.py;
        if let Ok(list) = list.cast_exact::<PyList>() {
            if items.len() < MANY {
                for item in items {
                    list.append(item)?;
                }
                return Ok(());
            }
            let end = list.len();
            return Ok(list.set_slice(end, end, PyList::new(py, items)?.as_any())?);
        }
        self.extend_object(list, items)
    }

    fn set_items(
        &mut self,
        dict: &Self::Value,
        mut items: Drain<'_, Self::Value>,
    ) -> Result<(), Failure> {
        self.steps += 1;
        self.may_change(dict)?;
        let exact = look::is_dict(dict.as_borrowed());
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            if !exact {
                dict.set_item(key, value)?;
                continue;
            }
            // SAFETY: a dict, a key and a value that are alive.
            let set = unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr()) };
            if set != 0 {
                return Err(PyErr::fetch(self.py).into());
            }
        }
        Ok(())
    }

    fn add_items(
        &mut self,
        set: &Self::Value,
        items: Drain<'_, Self::Value>,
    ) -> Result<(), Failure> {
        self.steps += 1;
        self.may_change(set)?;
        if let Ok(set) = set.cast::<PySet>() {
            for item in items {
                set.add(item)?;
            }
            return Ok(());
        }
        let add = self.needed(set, intern!(self.py, "add"))?;
        for item in items {
            add.call1((item,))?;
        }
        Ok(())
    }

    fn global(&mut self, module: &[u8], name: &[u8]) -> Made<'py> {
        self.steps += 1;
        let (module, name) = (self.line(module)?, self.line(name)?);
        self.named(&module, &name)
    }

    fn stack_global(&mut self, module: Self::Value, name: Self::Value) -> Made<'py> {
        self.steps += 1;
        let text = |value: Self::Value| value.cast_into_exact::<PyString>().ok();
        let (Some(module), Some(name)) = (text(module), text(name)) else {
            return Err(unpickling_error(self.py, "STACK_GLOBAL requires str").into());
        };
        self.named(&module, &name)
    }

    fn extension(&mut self, code: u32) -> Made<'py> {
        self.steps += 1;
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

    fn reduce(&mut self, callable: Self::Value, arguments: Self::Value) -> Made<'py> {
        self.steps += 1;
        let Ok(arguments) = arguments.cast_into::<PyTuple>() else {
            return Err(PyTypeError::new_err("argument list must be a tuple").into());
        };
        self.may_call(&callable)?;
        let made = callable.call1(arguments)?;
        Ok(self.made(made))
    }

    fn new_object(&mut self, class: Self::Value, arguments: Self::Value) -> Made<'py> {
        self.steps += 1;
        self.make("NEWOBJ", &class, &arguments, None)
    }

    fn new_object_with_keywords(
        &mut self,
        class: Self::Value,
        arguments: Self::Value,
        keywords: Self::Value,
    ) -> Made<'py> {
        self.steps += 1;
        self.make("NEWOBJ_EX", &class, &arguments, Some(&keywords))
    }

    fn instance(&mut self, class: Self::Value, arguments: Self::Value) -> Made<'py> {
        self.steps += 1;
        let py = self.py;
        let arguments = Self::tuple_of(arguments, "the arguments of an instance")?;
        self.may_call(&class)?;
        if arguments.is_empty() && class.is_instance_of::<PyType>() {
            let asks = class.getattr_opt(intern!(py, "__getinitargs__"))?;
            if asks.is_none() {
                let made = class.call_method1(intern!(py, "__new__"), (&class,))?;
                return Ok(self.made(made));
            }
        }
        let made = class.call1(arguments)?;
        Ok(self.made(made))
    }

    fn build(&mut self, object: &Self::Value, state: Self::Value) -> Result<(), Failure> {
        self.steps += 1;
        let py = self.py;
        self.may_change(object)?;
        let as_it_is = classes::takes_state_as_it_is(&object.get_type())?;
        if let (true, Ok(state)) = (as_it_is, state.cast_exact::<PyDict>()) {
            if let Some(own) = look::instance_dict(object.as_borrowed()) {
                return look::update_attributes(&own, state).map_err(Failure);
            }
        }
        if !as_it_is {
            if let Some(set_state) = self.method(object, intern!(py, "__setstate__"))? {
                set_state.call1((state,))?;
                return Ok(());
            }
        }
        let mut state = state;
        let mut slots = None;
        if let Ok(both) = state.cast::<PyTuple>() {
            if both.len() == 2 {
                let (first, second) = (both.get_item(0)?, both.get_item(1)?);
                (state, slots) = (first, Some(second));
            }
        }
        if !state.is_none() {
            let Ok(state) = state.cast::<PyDict>() else {
                return Err(unpickling_error(py, "state is not a dictionary").into());
            };
            let own = object.getattr(intern!(py, "__dict__"))?;
            let exact = own.cast_exact::<PyDict>().ok();
            for (key, value) in state {
                // Attribute names are normally interned, which makes looking them up fast.
                let key = interned(key);
                match exact {
                    Some(own) => own.set_item(key, value)?,
                    None => own.set_item(key, value)?,
                }
            }
        }
        if let Some(slots) = slots.filter(|slots| !slots.is_none()) {
            let Ok(slots) = slots.cast::<PyDict>() else {
                return Err(unpickling_error(py, "slot state is not a dictionary").into());
            };
            for (name, value) in slots {
                if self.allow.is_some() && is_special(&name) {
                    let text = format!("the pickle sets {name} of an object");
                    return Err(unpickling_error(py, text).into());
                }
                set_slot(object, &name, &value)?;
            }
        }
        Ok(())
    }

    fn persistent(&mut self, id: Self::Value) -> Made<'py> {
        self.steps += 1;
        let Some(load) = &self.persistent_load else {
            let text = "A load persistent id instruction was encountered, but no persistent_load function was specified.";
            return Err(unpickling_error(self.py, text).into());
        };
        Ok(load.call1((id,))?)
    }

    fn next_buffer(&mut self) -> Made<'py> {
        self.steps += 1;
        let py = self.py;
        let Some(buffers) = &self.buffers else {
            let text =
                "pickle stream refers to out-of-band data but no *buffers* argument was given";
            return Err(unpickling_error(py, text).into());
        };
        match buffers.call_method0(intern!(py, "__next__")) {
            Ok(buffer) => Ok(buffer),
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                Err(unpickling_error(py, "not enough out-of-band buffers").into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn readonly(&mut self, buffer: Self::Value) -> Made<'py> {
        self.steps += 1;
        let py = self.py;
        let view = pyo3::types::PyMemoryView::from(&buffer)?;
        if view.getattr(intern!(py, "readonly"))?.is_truthy()? {
            return Ok(buffer);
        }
        Ok(view.call_method0(intern!(py, "toreadonly"))?)
    }
}

/// Whether a name belongs to the language: `__class__`, `__dict__`.
fn is_special(name: &Bound<'_, PyAny>) -> bool {
    match name.extract::<&str>() {
        Ok(name) => name.starts_with("__") && name.ends_with("__"),
        Err(_) => true,
    }
}

/// Sets an attribute as setattr does; any object may be tried as a name.
fn set_slot(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    // SAFETY: three objects that are alive.
    let set = unsafe { ffi::PyObject_SetAttr(object.as_ptr(), name.as_ptr(), value.as_ptr()) };
    if set < 0 {
        return Err(PyErr::fetch(object.py()));
    }
    Ok(())
}

fn interned(key: Bound<'_, PyAny>) -> Bound<'_, PyAny> {
    if key.cast_exact::<PyString>().is_err() {
        return key;
    }
    let py = key.py();
    let mut raw = key.into_ptr();
    // SAFETY: a str that is owned here; the same or its interned equal is owned afterwards.
    unsafe { ffi::PyUnicode_InternInPlace(&raw mut raw) };
    // SAFETY: see above.
    unsafe { Bound::from_owned_ptr(py, raw) }
}
