#![allow(unsafe_code)]
//! Looks into objects of exact builtin types without taking references: counting them would cost as much as
//! writing the value, and whether an object has a single reference is what a pickler wants to know.
//!
//! # Safety invariants
//! Each function is given an attached interpreter's object, looks at its type before its inside and at an index
//! before the item. What it returns is borrowed from the container: the caller holds the container and runs no
//! code that could change it while it uses the item, or takes a reference of its own first.

use std::ffi::{c_char, c_int};
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use pyo3::Borrowed;

use super::save::Large;
use super::version;

extern "C" {
    /// Exported by every CPython from 3.8 on; PyO3 does not declare it.
    static mut PyPickleBuffer_Type: ffi::PyTypeObject;
    /// The same; a view that the PickleBuffer keeps, or null and an error.
    fn PyPickleBuffer_GetBuffer(object: *mut ffi::PyObject) -> *const ffi::Py_buffer;
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

/// Whether an exact PickleBuffer is read-only, and its bytes as they lie in memory; nothing where it is released, or
/// not in one piece.
pub(super) fn pickle_buffer<'a>(object: Object<'a, '_>) -> Option<(bool, &'a [u8])> {
    // SAFETY: a PickleBuffer.
    let view = unsafe { PyPickleBuffer_GetBuffer(object.as_ptr()) };
    if view.is_null() {
        // SAFETY: attached; forgets the ValueError.
        unsafe { ffi::PyErr_Clear() };
        return None;
    }
    const EITHER: c_char = 0x41;
    // SAFETY: a view that is not released.
    if unsafe { ffi::PyBuffer_IsContiguous(view, EITHER) } == 0 {
        return None;
    }
    // SAFETY: the same.
    let view = unsafe { &*view };
    if view.len == 0 {
        return Some((view.readonly != 0, &[]));
    }
    // SAFETY: so many bytes in one piece, which the view keeps where they are; who could write meanwhile needs the
    // interpreter, and the caller copies before any other code runs.
    let inside = unsafe { std::slice::from_raw_parts(view.buf.cast(), view.len.unsigned_abs()) };
    Some((view.readonly != 0, inside))
}

/// What was written, with large buffers in their places: bytes that are copied once.
pub(super) fn joined<'py>(
    py: Python<'py>,
    bytes: &[u8],
    beside: &[Large],
) -> PyResult<Bound<'py, PyBytes>> {
    let inside = |large: &Large| {
        let buffer = large.buffer.bind_borrowed(py);
        pickle_buffer(buffer).map_or(0, |(_, inside)| inside.len())
    };
    let len = bytes.len() + beside.iter().map(inside).sum::<usize>();
    // SAFETY: attached; room for so many bytes.
    let made = unsafe { ffi::PyBytes_FromStringAndSize(ptr::null(), index(len)) };
    // SAFETY: a new reference or an error.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, made) }?;
    // SAFETY: bytes, which nobody else has yet.
    let first = unsafe { ffi::PyBytes_AsString(made.as_ptr()) }.cast::<u8>();
    let mut filled = 0;
    let mut append = |part: &[u8]| {
        assert!(part.len() <= len - filled);
        // SAFETY: inside of the room, see the line above.
        let to = unsafe { first.add(filled) };
        // SAFETY: that many bytes are there, of another object.
        unsafe { ptr::copy_nonoverlapping(part.as_ptr(), to, part.len()) };
        filled += part.len();
    };
    let mut from = 0;
    for large in beside {
        append(&bytes[from..large.at]);
        from = large.at;
        if let Some((_, inside)) = pickle_buffer(large.buffer.bind_borrowed(py)) {
            append(inside);
        }
    }
    append(&bytes[from..]);
    assert_eq!(filled, len);
    Ok(made.cast_into::<PyBytes>()?)
}

/// Whether a list or dict is empty, and only the two references of whoever asks are there.
#[inline]
pub(super) fn is_fresh(object: Object<'_, '_>) -> bool {
    // SAFETY: alive.
    if unsafe { ffi::Py_REFCNT(object.as_ptr()) } != 2 {
        return false;
    }
    match exact(object) {
        Exact::List => list_len(object) == 0,
        Exact::Dict => dict_len(object) == 0,
        _ => false,
    }
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

/// The types of `datetime`'s C implementation.
#[derive(Clone, Copy)]
pub(super) struct Calendar {
    date: usize,
    time: usize,
    datetime: usize,
    delta: usize,
}

/// Which of them a type is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Date,
    Time,
    DateTime,
    Delta,
}

impl Calendar {
    /// Nothing where the implementation is missing.
    pub(super) fn look_up(py: Python<'_>) -> Option<Self> {
        // SAFETY: attached.
        unsafe { ffi::PyDateTime_IMPORT() };
        // SAFETY: set by the call above, or null.
        let api = unsafe { ffi::PyDateTimeAPI() };
        if api.is_null() {
            drop(PyErr::take(py));
            return None;
        }
        // SAFETY: lives as long as the interpreter.
        let api = unsafe { &*api };
        Some(Self {
            date: api.DateType as usize,
            time: api.TimeType as usize,
            datetime: api.DateTimeType as usize,
            delta: api.DeltaType as usize,
        })
    }

    pub(super) fn which(self, class: usize) -> Option<Moment> {
        [
            (self.date, Moment::Date),
            (self.time, Moment::Time),
            (self.datetime, Moment::DateTime),
            (self.delta, Moment::Delta),
        ]
        .into_iter()
        .find_map(|(address, moment)| (address == class).then_some(moment))
    }
}

pub(super) fn date_bytes(date: Object<'_, '_>) -> [u8; 4] {
    // SAFETY: an exact date.
    unsafe { (*date.as_ptr().cast::<ffi::PyDateTime_Date>()).data }
}

/// What a time is made of, with its fold in the highest bit, and its zone.
pub(super) fn time_parts<'a, 'py>(time: Object<'a, 'py>) -> ([u8; 6], Option<Object<'a, 'py>>) {
    let raw = time.as_ptr().cast::<ffi::PyDateTime_Time>();
    // SAFETY: an exact time.
    let mut data = unsafe { (*raw).data };
    // SAFETY: the same.
    let fold = unsafe { (*raw).fold };
    // SAFETY: the same.
    let zoned = unsafe { (*raw).hastzinfo };
    data[0] |= if fold == 0 { 0 } else { 0x80 };
    // SAFETY: the field is there where it says so.
    let zone = (zoned != 0).then(|| unsafe { (*raw).tzinfo });
    // SAFETY: borrowed from the time.
    (
        data,
        zone.map(|zone| unsafe { Borrowed::from_ptr(time.py(), zone) }),
    )
}

/// The same of a datetime.
pub(super) fn datetime_parts<'a, 'py>(
    datetime: Object<'a, 'py>,
) -> ([u8; 10], Option<Object<'a, 'py>>) {
    let raw = datetime.as_ptr().cast::<ffi::PyDateTime_DateTime>();
    // SAFETY: an exact datetime.
    let mut data = unsafe { (*raw).data };
    // SAFETY: the same.
    let fold = unsafe { (*raw).fold };
    // SAFETY: the same.
    let zoned = unsafe { (*raw).hastzinfo };
    data[2] |= if fold == 0 { 0 } else { 0x80 };
    // SAFETY: the field is there where it says so.
    let zone = (zoned != 0).then(|| unsafe { (*raw).tzinfo });
    // SAFETY: borrowed from the datetime.
    (
        data,
        zone.map(|zone| unsafe { Borrowed::from_ptr(datetime.py(), zone) }),
    )
}

/// Days, seconds and microseconds.
pub(super) fn delta_parts(delta: Object<'_, '_>) -> [i64; 3] {
    // SAFETY: an exact timedelta.
    let raw = unsafe { &*delta.as_ptr().cast::<ffi::PyDateTime_Delta>() };
    [raw.days, raw.seconds, raw.microseconds].map(i64::from)
}

/// Counts the depth of Python's and our own recursion; a RecursionError instead of the end of the stack.
pub(super) struct Deeper;

impl Deeper {
    pub(super) fn enter(py: Python<'_>, doing: &'static std::ffi::CStr) -> PyResult<Self> {
        // SAFETY: attached; the text is static.
        if unsafe { ffi::Py_EnterRecursiveCall(doing.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(Self)
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        // SAFETY: paired with the call in `enter`, on the same thread.
        unsafe { ffi::Py_LeaveRecursiveCall() }
    }
}

/// Where the stack was. Since 3.12 the interpreter lets extensions go deeper than a walk of ours has stack for.
pub(super) struct StackMark(usize);

/// A quarter of what the smaller of the usual stacks has.
const STACK: usize = 2 << 20;

impl StackMark {
    #[inline]
    pub(super) fn here() -> Self {
        let mark = 0_u8;
        Self((&raw const mark) as usize)
    }

    #[inline]
    pub(super) fn check(&self) -> PyResult<()> {
        if Self::here().0.abs_diff(self.0) > STACK {
            return Err(pyo3::exceptions::PyRecursionError::new_err(
                "maximum recursion depth exceeded while pickling an object",
            ));
        }
        Ok(())
    }
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

/// Puts a state into an instance's dict. Names are interned, which makes looking them up fast.
pub(super) fn update_attributes(own: &Bound<'_, PyAny>, state: &Bound<'_, PyDict>) -> PyResult<()> {
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
