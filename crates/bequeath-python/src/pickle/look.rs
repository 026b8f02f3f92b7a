#![allow(unsafe_code)]
//! Looks into objects of exact builtin types without taking references: counting them would cost as much as
//! writing the value, and whether an object has a single reference is what a pickler wants to know.
//!
//! # Safety invariants
//! Each function is given an attached interpreter's object, looks at its type before its inside and at an index
//! before the item. What it returns is borrowed from the container: the caller holds the container and runs no
//! code that could change it while it uses the item, or takes a reference of its own first.

use std::ffi::c_int;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::Borrowed;

use super::version;

extern "C" {
    /// Exported by every CPython from 3.8 on; PyO3 does not declare it.
    static mut PyPickleBuffer_Type: ffi::PyTypeObject;
    /// Exported by every CPython from 3.10 to 3.15 at least.
    fn _PySet_NextEntry(
        set: *mut ffi::PyObject,
        position: *mut ffi::Py_ssize_t,
        key: *mut *mut ffi::PyObject,
        hash: *mut ffi::Py_hash_t,
    ) -> c_int;
}

/// An object that somebody else holds.
pub(super) type Object<'a, 'py> = Borrowed<'a, 'py, PyAny>;

/// The exact types that are written without asking the object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Exact {
    None,
    Bool,
    Int,
    Float,
    Str,
    Bytes,
    Dict,
    List,
    Tuple,
    Set,
    FrozenSet,
    ByteArray,
    PickleBuffer,
    Other,
}

#[inline(always)]
pub(super) fn exact(object: Object<'_, '_>) -> Exact {
    let kind = object.get_type_ptr();
    let is = |other: *mut ffi::PyTypeObject| ptr::eq(kind, other);
    if is(&raw mut ffi::PyUnicode_Type) {
        Exact::Str
    } else if is(&raw mut ffi::PyLong_Type) {
        Exact::Int
    } else if is(&raw mut ffi::PyDict_Type) {
        Exact::Dict
    } else if is(&raw mut ffi::PyFloat_Type) {
        Exact::Float
    } else if is(&raw mut ffi::PyTuple_Type) {
        Exact::Tuple
    } else if is(&raw mut ffi::PyList_Type) {
        Exact::List
    } else if object.is_none() {
        Exact::None
    } else if is(&raw mut ffi::PyBool_Type) {
        Exact::Bool
    } else if is(&raw mut ffi::PyBytes_Type) {
        Exact::Bytes
    } else if is(&raw mut ffi::PySet_Type) {
        Exact::Set
    } else if is(&raw mut ffi::PyFrozenSet_Type) {
        Exact::FrozenSet
    } else if is(&raw mut ffi::PyByteArray_Type) {
        Exact::ByteArray
    } else if is(&raw mut PyPickleBuffer_Type) {
        Exact::PickleBuffer
    } else {
        Exact::Other
    }
}

pub(super) fn is_true(object: Object<'_, '_>) -> bool {
    // SAFETY: the address of an immortal object.
    ptr::eq(object.as_ptr(), unsafe { ffi::Py_True() })
}

/// Whether the reference that led here is the only one.
#[inline]
pub(super) fn is_single(object: Object<'_, '_>) -> bool {
    // SAFETY: the object is alive.
    (unsafe { ffi::Py_REFCNT(object.as_ptr()) }) == 1
}

#[inline]
pub(super) fn is_int(object: Object<'_, '_>) -> bool {
    ptr::eq(object.get_type_ptr(), &raw mut ffi::PyLong_Type)
}

#[inline]
pub(super) fn is_dict(object: Object<'_, '_>) -> bool {
    ptr::eq(object.get_type_ptr(), &raw mut ffi::PyDict_Type)
}

#[inline]
pub(super) fn is_str(object: Object<'_, '_>) -> bool {
    ptr::eq(object.get_type_ptr(), &raw mut ffi::PyUnicode_Type)
}

/// Whether hashing and comparing it runs no code of anybody.
pub(super) fn hashes_quietly(object: Object<'_, '_>) -> bool {
    matches!(
        exact(object),
        Exact::Str | Exact::Int | Exact::Float | Exact::Bytes | Exact::Bool | Exact::None
    )
}

/// Whether it is a builtin list's own method, which runs no code of anybody.
pub(super) fn is_method_of_list(callable: &Bound<'_, PyAny>) -> bool {
    if !ptr::eq(callable.get_type_ptr(), &raw mut ffi::PyCFunction_Type) {
        return false;
    }
    // SAFETY: a builtin function or method; borrowed from it, or null.
    let owner = unsafe { ffi::PyCFunction_GetSelf(callable.as_ptr()) };
    // SAFETY: see above.
    let owner = unsafe { Borrowed::from_ptr_or_opt(callable.py(), owner) };
    owner.is_some_and(|owner| exact(owner) == Exact::List)
}

/// Whether nobody holds the object but its owner and the caller.
#[inline]
pub(super) fn is_held_twice(object: Object<'_, '_>) -> bool {
    // SAFETY: the object is alive.
    (unsafe { ffi::Py_REFCNT(object.as_ptr()) }) <= 2
}

/// The value of an exact int that fits.
#[inline]
pub(super) fn small_int(object: Object<'_, '_>) -> Option<i64> {
    if let Some(short) = version::short_int(object) {
        return Some(short);
    }
    let mut overflow: c_int = 0;
    // SAFETY: an int, which raises nothing.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(object.as_ptr(), &raw mut overflow) };
    (overflow == 0).then_some(value)
}

/// The value of an exact float.
#[inline]
pub(super) fn float(object: Object<'_, '_>) -> f64 {
    // SAFETY: a float.
    unsafe { ffi::PyFloat_AS_DOUBLE(object.as_ptr()) }
}

/// An exact str as UTF-8; nothing where surrogates stand alone in it.
#[inline]
pub(super) fn utf8<'a>(object: Object<'a, '_>) -> Option<&'a [u8]> {
    if let Some(ascii) = version::ascii(object) {
        return Some(ascii);
    }
    let mut len: ffi::Py_ssize_t = 0;
    // SAFETY: a str.
    let first = unsafe { ffi::PyUnicode_AsUTF8AndSize(object.as_ptr(), &raw mut len) };
    if first.is_null() {
        // SAFETY: attached; forgets the UnicodeEncodeError.
        unsafe { ffi::PyErr_Clear() };
        return None;
    }
    // SAFETY: the str keeps its UTF-8 form as long as it lives.
    Some(unsafe { std::slice::from_raw_parts(first.cast(), len.unsigned_abs()) })
}

/// The inside of exact bytes.
#[inline]
pub(super) fn bytes<'a>(object: Object<'a, '_>) -> &'a [u8] {
    // SAFETY: bytes.
    let first = unsafe { ffi::PyBytes_AsString(object.as_ptr()) };
    // SAFETY: bytes.
    let len = unsafe { ffi::PyBytes_Size(object.as_ptr()) };
    // SAFETY: immutable, and alive as long as the object.
    unsafe { std::slice::from_raw_parts(first.cast(), len.unsigned_abs()) }
}

/// The inside of a bytearray. The caller uses it before any other code runs.
pub(super) fn bytearray<'a>(object: Object<'a, '_>) -> &'a [u8] {
    // SAFETY: a bytearray.
    let first = unsafe { ffi::PyByteArray_AsString(object.as_ptr()) };
    // SAFETY: a bytearray.
    let len = unsafe { ffi::PyByteArray_Size(object.as_ptr()) };
    // SAFETY: it does not change while no other code runs, see above.
    unsafe { std::slice::from_raw_parts(first.cast(), len.unsigned_abs()) }
}

/// New bytes; MemoryError where there is no memory for them.
pub(crate) fn new_bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let (first, len) = (bytes.as_ptr().cast(), index(bytes.len()));
    // SAFETY: that many bytes.
    let made = unsafe { ffi::PyBytes_FromStringAndSize(first, len) };
    // SAFETY: a new reference or an error.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, made) }?;
    Ok(made.cast_into::<PyBytes>()?)
}

/// No container has more items than this counts.
#[inline]
#[allow(clippy::cast_possible_wrap)]
pub(super) fn index(at: usize) -> ffi::Py_ssize_t {
    at as ffi::Py_ssize_t
}

#[inline]
pub(super) fn list_len(list: Object<'_, '_>) -> usize {
    // SAFETY: a list.
    unsafe { ffi::PyList_GET_SIZE(list.as_ptr()) }.unsigned_abs()
}

/// The item at an index; nothing where the list has become shorter.
#[inline]
pub(super) fn list_item<'a, 'py>(list: Object<'a, 'py>, at: usize) -> Option<Object<'a, 'py>> {
    if at >= list_len(list) {
        return None;
    }
    // SAFETY: a list that has this index.
    let item = unsafe { ffi::PyList_GET_ITEM(list.as_ptr(), index(at)) };
    // SAFETY: borrowed from the list, see above.
    Some(unsafe { Borrowed::from_ptr(list.py(), item) })
}

#[inline]
pub(super) fn tuple_len(tuple: Object<'_, '_>) -> usize {
    // SAFETY: a tuple.
    unsafe { ffi::PyTuple_GET_SIZE(tuple.as_ptr()) }.unsigned_abs()
}

/// The item at an index below the length.
#[inline]
pub(super) fn tuple_item<'a, 'py>(tuple: Object<'a, 'py>, at: usize) -> Object<'a, 'py> {
    assert!(at < tuple_len(tuple));
    // SAFETY: a tuple that has this index.
    let item = unsafe { ffi::PyTuple_GET_ITEM(tuple.as_ptr(), index(at)) };
    // SAFETY: a tuple does not change.
    unsafe { Borrowed::from_ptr(tuple.py(), item) }
}

#[inline]
pub(super) fn dict_len(dict: Object<'_, '_>) -> usize {
    // SAFETY: a dict.
    unsafe { ffi::PyDict_Size(dict.as_ptr()) }.unsigned_abs()
}

/// Whether it is a list, tuple or dict with more than so many items.
#[inline]
pub(super) fn has_more_items(object: Object<'_, '_>, items: usize) -> bool {
    let len = match exact(object) {
        Exact::Tuple => tuple_len(object),
        Exact::List => list_len(object),
        Exact::Dict => dict_len(object),
        _ => 0,
    };
    len > items
}

/// The value under a key of a dict.
pub(super) fn dict_get<'py>(
    dict: Object<'_, 'py>,
    key: Object<'_, 'py>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    // SAFETY: a dict and a key that are alive; borrowed from the dict.
    let found = unsafe { ffi::PyDict_GetItemWithError(dict.as_ptr(), key.as_ptr()) };
    // SAFETY: taken before any other code runs.
    let found = unsafe { Bound::from_borrowed_ptr_or_opt(dict.py(), found) };
    // SAFETY: attached.
    if found.is_none() && !unsafe { ffi::PyErr_Occurred() }.is_null() {
        return Err(PyErr::fetch(dict.py()));
    }
    Ok(found)
}

/// The same, borrowed from the dict; the key's hash raises nothing.
pub(super) fn dict_get_borrowed<'a, 'py>(
    dict: Object<'a, 'py>,
    key: Object<'_, 'py>,
) -> Option<Object<'a, 'py>> {
    // SAFETY: a dict and a key that are alive.
    let found = unsafe { ffi::PyDict_GetItemWithError(dict.as_ptr(), key.as_ptr()) };
    // SAFETY: borrowed from the dict, see above.
    unsafe { Borrowed::from_ptr_or_opt(dict.py(), found) }
}

/// Whether only the two references of whoever asks are there.
#[inline]
fn is_held_by_asker(object: Object<'_, '_>) -> bool {
    // SAFETY: alive.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) == 2 }
}

/// Whether it is an empty list that nobody but whoever asks holds.
#[inline]
pub(super) fn is_fresh_list(object: Object<'_, '_>) -> bool {
    is_held_by_asker(object) && matches!(exact(object), Exact::List) && list_len(object) == 0
}

/// The same of a dict.
#[inline]
pub(super) fn is_fresh_dict(object: Object<'_, '_>) -> bool {
    is_held_by_asker(object) && matches!(exact(object), Exact::Dict) && dict_len(object) == 0
}

/// Goes through a dict's items.
pub(super) struct DictItems<'a, 'py> {
    dict: Object<'a, 'py>,
    position: ffi::Py_ssize_t,
}

impl<'a, 'py> DictItems<'a, 'py> {
    pub(super) fn of(dict: Object<'a, 'py>) -> Self {
        Self { dict, position: 0 }
    }

    #[inline]
    pub(super) fn next(&mut self) -> Option<(Object<'a, 'py>, Object<'a, 'py>)> {
        let (mut key, mut value) = (ptr::null_mut(), ptr::null_mut());
        let (dict, position) = (self.dict.as_ptr(), &raw mut self.position);
        // SAFETY: a dict; the position is this function's own.
        if unsafe { ffi::PyDict_Next(dict, position, &raw mut key, &raw mut value) } == 0 {
            return None;
        }
        // SAFETY: borrowed from the dict, see above.
        let key = unsafe { Borrowed::from_ptr(self.dict.py(), key) };
        // SAFETY: the same.
        let value = unsafe { Borrowed::from_ptr(self.dict.py(), value) };
        Some((key, value))
    }
}

/// Goes through a set's items.
pub(super) struct SetItems<'a, 'py> {
    set: Object<'a, 'py>,
    position: ffi::Py_ssize_t,
}

impl<'a, 'py> SetItems<'a, 'py> {
    pub(super) fn of(set: Object<'a, 'py>) -> Self {
        Self { set, position: 0 }
    }

    #[inline]
    pub(super) fn next(&mut self) -> Option<Object<'a, 'py>> {
        let (mut key, mut hash) = (ptr::null_mut(), 0);
        let (set, position) = (self.set.as_ptr(), &raw mut self.position);
        // SAFETY: a set or frozenset; the position is this function's own.
        if unsafe { _PySet_NextEntry(set, position, &raw mut key, &raw mut hash) } == 0 {
            return None;
        }
        // SAFETY: borrowed from the set, see above.
        Some(unsafe { Borrowed::from_ptr(self.set.py(), key) })
    }
}

#[inline]
pub(super) fn set_len(set: Object<'_, '_>) -> usize {
    // SAFETY: a set or frozenset.
    unsafe { ffi::PySet_Size(set.as_ptr()) }.unsigned_abs()
}

/// The instance's own dict, where it has one.
pub(super) fn instance_dict<'py>(object: Object<'_, 'py>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: alive; returns a new reference or raises.
    let dict = unsafe { ffi::PyObject_GenericGetDict(object.as_ptr(), ptr::null_mut()) };
    // SAFETY: a new reference.
    let dict = unsafe { Bound::from_owned_ptr_or_opt(object.py(), dict) };
    if dict.is_none() {
        // SAFETY: attached; forgets the AttributeError.
        unsafe { ffi::PyErr_Clear() };
    }
    dict
}

/// What lies in a cell; nothing in an empty one.
pub(super) fn cell_contents<'py>(cell: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    // SAFETY: any object; what is no cell raises.
    let contents = unsafe { ffi::PyCell_Get(cell.as_ptr()) };
    // SAFETY: a new reference or null.
    let contents = unsafe { Bound::from_owned_ptr_or_opt(cell.py(), contents) };
    if contents.is_none() && PyErr::occurred(cell.py()) {
        return Err(PyErr::fetch(cell.py()));
    }
    Ok(contents)
}
