#![allow(unsafe_code)]
//! Objects that are being read get their state.
//!
//! # Safety invariants
//! Each call of the API is given objects that are alive, of the type that it wants, on an attached thread.

use std::vec::Drain;

use bequeath_pickle::Builder;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::classes::{self, Takes};
use super::failure::Failure;
use super::library;
use super::look::{self, DictItems};
use super::objects::Objects;
use super::tables::unpickling_error;
use super::version;
use crate::intern;

extern "C" {
    /// Exported by every CPython from 3.10 to 3.15 at least; a borrowed reference or null, without an error.
    fn _PyType_Lookup(
        class: *mut ffi::PyTypeObject,
        name: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
}

impl<'py> Objects<'py> {
    /// Gives an object a state of these names and values, by turns.
    pub(super) fn set_attributes(
        &mut self,
        object: &Bound<'py, PyAny>,
        mut items: Drain<'_, Bound<'py, PyAny>>,
    ) -> Result<(), Failure> {
        self.may_change(object)?;
        let class = object.get_type();
        match classes::takes(&class)? {
            Takes::AsItIs if are_names(items.as_slice()) => {}
            Takes::Uuid(slots) if fill_uuid(object, slots, items.as_slice())? => {
                self.steps += 2;
                return Ok(());
            }
            Takes::AsItIs | Takes::Uuid(_) | Takes::Asked => {
                let state = self.full_dict(items)?;
                return self.build(object, state);
            }
        }
        // As if a dict was filled, and put into the object then.
        self.steps += 2;
        let mut own = None;
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            let key = interned(key);
            if set_own_attribute(object, &class, &key, &value)? {
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

    /// The same for the second half of a state, which are slots.
    pub(super) fn set_both(
        &mut self,
        object: &Bound<'py, PyAny>,
        state: Bound<'py, PyAny>,
        mut items: Drain<'_, Bound<'py, PyAny>>,
    ) -> Result<(), Failure> {
        self.may_change(object)?;
        let as_it_is = matches!(classes::takes(&object.get_type())?, Takes::AsItIs);
        if !state.is_none() || !as_it_is || !are_names(items.as_slice()) {
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

    /// Gives an object a state as `__setstate__` or else pickle itself takes it.
    pub(super) fn set_state(
        &mut self,
        object: &Bound<'py, PyAny>,
        state: Bound<'py, PyAny>,
    ) -> Result<(), Failure> {
        self.steps += 1;
        let py = self.py;
        self.may_change(object)?;
        let as_it_is = matches!(classes::takes(&object.get_type())?, Takes::AsItIs);
        if let (true, Ok(state)) = (as_it_is, state.cast_exact::<PyDict>()) {
            if let Some(own) = look::instance_dict(object.as_borrowed()) {
                return update_attributes(&own, state).map_err(Failure);
            }
        }
        if !as_it_is {
            if let Some(set_state) = self.method(object, intern!(py, "__setstate__"))? {
                self.may_be_a_state(&state)?;
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
                    return Err(sets(&name).into());
                }
                set_slot(object, &name, &value)?;
            }
        }
        Ok(())
    }

    /// What a restricted reader hands to a `__setstate__`: many set whatever attributes they are given, those of
    /// exceptions for one.
    fn may_be_a_state(&self, state: &Bound<'py, PyAny>) -> Result<(), Failure> {
        if self.allow.is_none() {
            return Ok(());
        }
        if let Ok(items) = state.cast::<PyDict>() {
            for name in [intern!(self.py, "__class__"), intern!(self.py, "__dict__")] {
                if items.contains(name)? {
                    return Err(sets(name.as_any()).into());
                }
            }
        }
        match state.cast::<PyTuple>() {
            Ok(parts) => parts.iter().try_for_each(|part| self.may_be_a_state(&part)),
            Err(_) => Ok(()),
        }
    }
}

/// Whether a state's names are plain text. What else stands as a name has code of its own, which runs once when the
/// state's dict is filled and once more when the object takes it.
fn are_names(items: &[Bound<'_, PyAny>]) -> bool {
    let mut names = items.iter().step_by(2);
    names.all(|name| name.is_exact_instance_of::<PyString>())
}

/// Refuses a name that the state of an object sets.
fn sets(name: &Bound<'_, PyAny>) -> PyErr {
    let text = format!("the pickle sets {name} of an object, which this reader does not allow");
    unpickling_error(name.py(), text)
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

/// Puts a state into an instance's dict. Names are interned, which makes looking them up fast.
fn update_attributes(own: &Bound<'_, PyAny>, state: &Bound<'_, PyDict>) -> PyResult<()> {
    let mut items = DictItems::of(state.as_any().as_borrowed());
    while let Some((key, value)) = items.next() {
        let mut key = key.to_owned().into_ptr();
        // SAFETY: alive.
        if unsafe { ffi::PyUnicode_CheckExact(key) } != 0 {
            // SAFETY: a str that is owned here; the same or its interned equal is owned afterwards.
            unsafe { ffi::PyUnicode_InternInPlace(&raw mut key) };
        }
        // SAFETY: owned, see above.
        let key = unsafe { Bound::from_owned_ptr(own.py(), key) };
        let value = value.to_owned();
        // SAFETY: a dict, a key and a value that are alive.
        if unsafe { ffi::PyDict_SetItem(own.as_ptr(), key.as_ptr(), value.as_ptr()) } != 0 {
            return Err(PyErr::fetch(own.py()));
        }
    }
    Ok(())
}

/// Fills the slots of a UUID that was just made as its `__setstate__` does, where the state is no more than a number.
fn fill_uuid(
    object: &Bound<'_, PyAny>,
    slots: [usize; 2],
    state: &[Bound<'_, PyAny>],
) -> PyResult<bool> {
    let py = object.py();
    let [name, number] = state else {
        return Ok(false);
    };
    let names = [intern!(py, "int"), intern!(py, "is_safe")];
    let is_number = name
        .cast_exact::<PyString>()
        .is_ok_and(|name| name == "int");
    let is_empty = slots
        .iter()
        .all(|slot| version::slot(object.as_borrowed(), *slot).is_none());
    let Some(unknown) = library::unknown_safety(py)? else {
        return Ok(false);
    };
    if !is_number || !is_empty || !look::is_int(number.as_borrowed()) {
        return Ok(false);
    }
    for (name, value) in names.into_iter().zip([number, &unknown]) {
        // Past the class's own `__setattr__`, which refuses.
        // SAFETY: three objects that are alive.
        let set =
            unsafe { ffi::PyObject_GenericSetAttr(object.as_ptr(), name.as_ptr(), value.as_ptr()) };
        if set != 0 {
            return Err(PyErr::fetch(py));
        }
    }
    Ok(true)
}

/// Puts an attribute into an instance as putting it into its dict would, but without the need for a dict; says no
/// where it would make a difference. The class is one that takes its state as it is.
fn set_own_attribute(
    object: &Bound<'_, PyAny>,
    class: &Bound<'_, PyType>,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    if !version::has_managed_dict(class) || !look::is_str(name.as_borrowed()) {
        return Ok(false);
    }
    // SAFETY: a type and a str.
    let of_class = unsafe { _PyType_Lookup(class.as_type_ptr(), name.as_ptr()) };
    if !of_class.is_null() {
        // SAFETY: borrowed from the class.
        let of_class = unsafe { ffi::Py_TYPE(of_class) };
        // SAFETY: a type.
        let sets = unsafe { (*of_class).tp_descr_set };
        if sets.is_some() {
            return Ok(false);
        }
    }
    // SAFETY: three objects that are alive; what the class says of setting attributes is passed by, as by a dict.
    let set =
        unsafe { ffi::PyObject_GenericSetAttr(object.as_ptr(), name.as_ptr(), value.as_ptr()) };
    if set != 0 {
        return Err(PyErr::fetch(object.py()));
    }
    Ok(true)
}
