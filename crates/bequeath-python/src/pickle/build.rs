#![allow(unsafe_code)]
//! Opcodes become objects: what the format's stack machine asks for, made with CPython's API.
//!
//! # Safety invariants
//! Each call of the API is given objects that are alive, of the type that it wants, on an attached thread; what it
//! returns is a new reference or null with an error set.

use std::vec::Drain;

use bequeath_pickle::{Builder, Source};
use pyo3::exceptions::{PyStopIteration, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::intern;
use pyo3::types::{PyByteArray, PyBytes, PyFrozenSet, PyList, PySet, PyString, PyTuple};

use super::failure::{Failure, Made};
use super::look::{self, index};
use super::objects::Objects;
use super::tables::unpickling_error;
use super::version;

/// From this many items on they are put into a list at once.
const MANY: usize = 16;

impl<'py> Builder for Objects<'py> {
    type Value = Bound<'py, PyAny>;
    type Error = Failure;

    const ADDS_NOTHING: bool = version::ASKS_FOR_NOTHING;

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
        let text = self.decode(text, c"replace")?;
        Ok(py
            .get_type::<pyo3::types::PyInt>()
            .call1((text, version::BASE_OF_TEXT))?)
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
        let text = self.decode(text, c"replace")?;
        Ok(py.get_type::<pyo3::types::PyFloat>().call1((text,))?)
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

    fn bytes_from<S: Source>(&mut self, source: &mut S, len: usize, mutable: bool) -> Made<'py>
    where
        Failure: From<S::Error>,
    {
        let copied = source.is_for_copying(len);
        let fill = |source: &mut S, into: &mut [u8]| {
            source.copy(into).map_err(|error| Failure::from(error).0)
        };
        match (copied, mutable) {
            (false, false) => self.bytes(source.take(len)?),
            (false, true) => self.bytearray(source.take(len)?),
            (true, false) => {
                Ok(PyBytes::new_with(self.py, len, |into| fill(source, into))?.into_any())
            }
            (true, true) => {
                Ok(PyByteArray::new_with(self.py, len, |into| fill(source, into))?.into_any())
            }
        }
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
        let list = self.new_list(items)?.into_any();
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
    fn is_fresh_list(&self, value: &Self::Value) -> bool {
        // A restricted reader has a list of what it made.
        self.allow.is_none() && look::is_fresh_list(value.as_borrowed())
    }

    fn is_fresh_dict(&self, value: &Self::Value) -> bool {
        self.allow.is_none() && look::is_fresh_dict(value.as_borrowed())
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
        items: Drain<'_, Self::Value>,
    ) -> Result<(), Failure> {
        self.set_attributes(object, items)
    }

    fn build_of_both(
        &mut self,
        object: &Self::Value,
        state: Self::Value,
        items: Drain<'_, Self::Value>,
    ) -> Result<(), Failure> {
        self.set_both(object, state, items)
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
        // SAFETY: attached.
        let dict = unsafe { ffi::PyDict_New() };
        // SAFETY: a new reference or an error.
        let dict = unsafe { Bound::from_owned_ptr_or_err(self.py, dict) }?;
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
        if let Ok(list) = list.cast_exact::<PyList>() {
            if items.len() < MANY {
                for item in items {
                    list.append(item)?;
                }
                return Ok(());
            }
            let end = list.len();
            let items = self.list(items)?;
            return Ok(list.set_slice(end, end, &items)?);
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
        self.registered(code)
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
        self.old_instance(&class, arguments)
    }

    fn build(&mut self, object: &Self::Value, state: Self::Value) -> Result<(), Failure> {
        self.set_state(object, state)
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
