#![allow(unsafe_code)]
//! What pickling knows of the layout of types, which differs between versions of CPython.
//!
//! `functions` and `variables` are what it knows of functions and of type variables.
//!
//! # Safety invariants
//! Fields are read of objects that are alive and of the type that the function's name says, with the layout that
//! PyO3 declares for this interpreter, or that is declared here for the versions that have it.

use std::ffi::{c_int, CStr};
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use pyo3::Borrowed;

use super::look::Object;

mod functions;
mod variables;

pub(crate) use functions::{code_position, position_table, Position};
pub(super) use functions::{of_function, OfFunction};
pub(super) use variables::late_functions;

/// Changes whenever the class or one of its bases is changed; zero while nobody looked an attribute up.
#[inline]
pub(super) fn type_version(class: &Bound<'_, PyType>) -> u32 {
    // SAFETY: alive, see above.
    unsafe { (*class.as_type_ptr()).tp_version_tag }
}

/// Since 3.11 a type can keep its instances' dicts in front of them, outside of the size that it tells.
const MANAGED_DICT: u64 = if cfg!(Py_3_11) { 1 << 4 } else { 0 };

/// Whether a class's instances have a dict that need not be there before an attribute is set.
pub(super) fn has_managed_dict(class: &Bound<'_, PyType>) -> bool {
    // SAFETY: alive.
    let flags: u64 = unsafe { ffi::PyType_GetFlags(class.as_type_ptr()) };
    MANAGED_DICT != 0 && flags & MANAGED_DICT != 0
}

/// Whether instances hold nothing but a dict, weak references and so many slots: what their default state tells.
pub(super) fn holds_only(class: &Bound<'_, PyType>, slots: usize) -> bool {
    let pointer = size_of::<*const ()>();
    let object = size_of::<ffi::PyObject>();
    // SAFETY: alive, see above.
    let (basic, items, dict, weak) = unsafe {
        let class = &*class.as_type_ptr();
        (
            class.tp_basicsize,
            class.tp_itemsize,
            class.tp_dictoffset,
            class.tp_weaklistoffset,
        )
    };
    // SAFETY: alive.
    let flags: u64 = unsafe { ffi::PyType_GetFlags(class.as_type_ptr()) };
    let mut expected = object + pointer * slots;
    if dict != 0 && flags & MANAGED_DICT == 0 {
        expected += pointer;
    }
    if weak > 0 {
        expected += pointer;
    }
    let is_heap_type = flags & ffi::Py_TPFLAGS_HEAPTYPE != 0;
    is_heap_type && items == 0 && usize::try_from(basic).is_ok_and(|basic| basic <= expected)
}

/// Whether functions and classes have `__type_params__`.
pub(super) const HAS_TYPE_PARAMETERS: bool = cfg!(Py_3_12);

/// Whether pickle's errors have notes, and words that other versions do not have.
pub(super) const HAS_NOTES: bool = cfg!(Py_3_14);

/// Whether a pickler or unpickler refuses a second use while it is at work.
pub(super) const IS_USED_ONCE_AT_A_TIME: bool = cfg!(Py_3_14);

/// Whether a container must be able to take items even where a pickle has none for it.
pub(crate) const ASKS_FOR_NOTHING: bool = cfg!(Py_3_15);

/// Whether names of private attributes are found under what the compiler calls them.
pub(super) const HAS_MANGLED_NAMES: bool = cfg!(Py_3_15);

/// The base of numbers written as text: by themselves they say theirs before.
pub(super) const BASE_OF_TEXT: u8 = if HAS_NOTES { 10 } else { 0 };

/// By how many bits the argument of `LOAD_GLOBAL` is shifted to be the index of a name.
pub(super) const LOAD_GLOBAL_SHIFT: u8 = if cfg!(Py_3_11) { 1 } else { 0 };
/// An int as it lies in memory: how many digits and which sign, and the digits of 30 bits, lowest first.
#[cfg(not(Py_3_16))]
#[repr(C)]
struct Int {
    object: ffi::PyObject,
    tag: isize,
    digits: [u32; 1],
}

/// The value of an exact int of up to two digits.
#[cfg(not(Py_3_16))]
#[inline(always)]
pub(super) fn short_int(object: Object<'_, '_>) -> Option<i64> {
    let int = object.as_ptr().cast::<Int>();
    // SAFETY: an int, see above.
    let tag = unsafe { (*int).tag };
    let (digits, negative) = if cfg!(Py_3_12) {
        (tag >> 3, tag & 3 == 2)
    } else {
        (tag.abs(), tag < 0)
    };
    let digit = |at: usize| {
        // SAFETY: the address of the digits.
        let first = unsafe { &raw const (*int).digits }.cast::<u32>();
        // SAFETY: the caller asks for digits that are there.
        let digit = unsafe { first.add(at) };
        // SAFETY: the same.
        i64::from(unsafe { *digit })
    };
    let value = match digits {
        0 => return Some(0),
        1 => digit(0),
        2 => digit(0) | digit(1) << 30,
        _ => return None,
    };
    Some(if negative { -value } else { value })
}

/// Nothing is known of the layout.
#[cfg(Py_3_16)]
#[inline(always)]
pub(super) fn short_int(_object: Object<'_, '_>) -> Option<i64> {
    None
}

/// The characters of an exact str that are bytes of ASCII behind its header.
#[cfg(not(Py_3_14))]
#[inline(always)]
pub(super) fn ascii<'a>(object: Object<'a, '_>) -> Option<&'a [u8]> {
    const COMPACT_AND_ASCII: u32 = 0b110_0000;
    let header = object.as_ptr().cast::<ffi::PyASCIIObject>();
    // SAFETY: a str, see above.
    let state = unsafe { (*header).state };
    if state & COMPACT_AND_ASCII != COMPACT_AND_ASCII {
        return None;
    }
    // SAFETY: a str.
    let len = unsafe { (*header).length };
    // SAFETY: compact: the characters follow the header.
    let first = unsafe { header.add(1) }.cast::<u8>();
    // SAFETY: so many, which never change.
    Some(unsafe { std::slice::from_raw_parts(first, len.unsigned_abs()) })
}

/// The layout is no longer told.
#[cfg(Py_3_14)]
#[inline(always)]
pub(super) fn ascii<'a>(_object: Object<'a, '_>) -> Option<&'a [u8]> {
    None
}

/// Where instances hold the value of a slot that a class's member descriptor stands for.
pub(super) fn slot_offset(descriptor: &Bound<'_, PyAny>) -> Option<usize> {
    let is_member = ptr::eq(descriptor.get_type_ptr(), &raw mut ffi::PyMemberDescr_Type);
    if !is_member {
        return None;
    }
    let descriptor = descriptor.as_ptr().cast::<ffi::PyMemberDescrObject>();
    // SAFETY: a member descriptor. PyO3 gives the field another type for 3.10.
    let member = unsafe { (*descriptor).d_member }.cast::<ffi::PyMemberDef>();
    // SAFETY: it lives as long as its descriptor.
    let kind = unsafe { (*member).type_code };
    // SAFETY: the same.
    let offset = unsafe { (*member).offset };
    // As `__slots__` makes them: an object or nothing.
    (kind == ffi::Py_T_OBJECT_EX)
        .then(|| usize::try_from(offset).ok())
        .flatten()
}

/// What lies in a slot of an instance of the class that the offset is from.
#[inline]
pub(super) fn slot<'a, 'py>(object: Object<'a, 'py>, offset: usize) -> Option<Object<'a, 'py>> {
    // SAFETY: inside of the instance, see above.
    let place = unsafe { object.as_ptr().cast::<u8>().add(offset) };
    // SAFETY: aligned, as all slots are; an object or null.
    let value = unsafe { *place.cast::<*mut ffi::PyObject>() };
    // SAFETY: borrowed from the instance.
    unsafe { Borrowed::from_ptr_or_opt(object.py(), value) }
}

extern "C" {
    /// Exported by every CPython from 3.10 to 3.15 at least.
    fn _PyDict_NewPresized(len: ffi::Py_ssize_t) -> *mut ffi::PyObject;
    /// The same.
    fn _PyLong_FromByteArray(
        bytes: *const u8,
        len: usize,
        little_endian: c_int,
        signed: c_int,
    ) -> *mut ffi::PyObject;
}

/// An int from bytes, little-endian in two's complement.
pub(super) fn long_int<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: so many bytes.
    let made = unsafe { _PyLong_FromByteArray(bytes.as_ptr(), bytes.len(), 1, 1) };
    // SAFETY: a new reference or an error.
    unsafe { Bound::from_owned_ptr_or_err(py, made) }
}

/// An empty dict that so many items fit into.
pub(super) fn dict_for(py: Python<'_>, len: usize) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: attached.
    let dict = unsafe { _PyDict_NewPresized(super::look::index(len)) };
    // SAFETY: a new reference or an error.
    unsafe { Bound::from_owned_ptr_or_err(py, dict) }
}

/// While it is there the garbage collector does not come, which would run finalizers: up to 3.11 it comes whenever an
/// object is made.
pub(super) struct NoCollector(bool);

impl NoCollector {
    pub(super) fn begin(_py: Python<'_>) -> Self {
        // SAFETY: attached.
        Self(!cfg!(Py_3_12) && unsafe { ffi::PyGC_Disable() } != 0)
    }
}

impl Drop for NoCollector {
    fn drop(&mut self) {
        if self.0 {
            // SAFETY: attached, as in `begin`.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}

/// Whether the name of something callable may be `__newobj__` or `__newobj_ex__`, seen without making the name.
pub(super) fn may_be_new_object(callable: &Bound<'_, PyAny>) -> bool {
    let name = if ptr::eq(callable.get_type_ptr(), &raw mut ffi::PyType_Type) {
        // SAFETY: a class that is alive.
        unsafe { (*callable.as_ptr().cast::<ffi::PyTypeObject>()).tp_name }
    } else if ptr::eq(callable.get_type_ptr(), &raw mut ffi::PyCFunction_Type) {
        let function = callable.as_ptr().cast::<ffi::PyCFunctionObject>();
        // SAFETY: a builtin function that is alive.
        let definition = unsafe { (*function).m_ml };
        // SAFETY: a builtin function has a definition.
        unsafe { (*definition).ml_name }
    } else {
        return true;
    };
    // SAFETY: a text that lives as long as the class or the definition.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    // A class made by C code names its module, too.
    name.rsplit(|byte| *byte == b'.')
        .next()
        .is_none_or(|name| name.starts_with(b"__newobj"))
}

/// A copy of the attributes that a class itself has.
pub(super) fn attributes_of<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyDict>> {
    let py = class.py();
    #[cfg(Py_3_12)]
    // SAFETY: a type that is alive.
    let dict = unsafe { ffi::PyType_GetDict(class.as_type_ptr()) };
    #[cfg(Py_3_12)]
    // SAFETY: a new reference or an error.
    let dict = unsafe { Bound::from_owned_ptr_or_err(py, dict) }?;
    #[cfg(not(Py_3_12))]
    // SAFETY: alive.
    let dict = unsafe { (*class.as_type_ptr()).tp_dict };
    #[cfg(not(Py_3_12))]
    // SAFETY: the class is ready: it has a dict, and holds it.
    let dict = unsafe { Borrowed::from_ptr(py, dict) };
    dict.cast::<PyDict>()?.copy()
}
