#![allow(unsafe_code)]
//! What lies in buffers, and pickles that large ones are joined into.
//!
//! # Safety invariants
//! Views are of objects that are alive. What a view shows is copied before any other code runs.

use std::ffi::c_char;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::look::{index, Object};

extern "C" {
    /// Exported by every CPython from 3.8 on; PyO3 does not declare it. A view that the PickleBuffer keeps, or null and
    /// an error.
    fn PyPickleBuffer_GetBuffer(object: *mut ffi::PyObject) -> *const ffi::Py_buffer;
}

/// A `PickleBuffer` whose bytes belong at a place in what is written.
pub(super) struct Large {
    pub(super) at: usize,
    pub(super) buffer: Py<PyAny>,
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

/// The bytes of any object that has them in one piece, whatever their items are.
///
/// # Errors
/// TypeError for what is no buffer, BufferError where it is not in one piece, MemoryError.
pub(super) fn copied<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = object.py();
    let mut view = ffi::Py_buffer::new();
    // SAFETY: alive; the view is released below.
    let got = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut view, ffi::PyBUF_SIMPLE) };
    if got != 0 {
        return Err(PyErr::fetch(py));
    }
    // SAFETY: the view has so many bytes.
    let made = unsafe { ffi::PyBytes_FromStringAndSize(view.buf.cast(), view.len) };
    // SAFETY: a new reference or an error.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, made) };
    // SAFETY: got above, once.
    unsafe { ffi::PyBuffer_Release(&raw mut view) };
    Ok(made?.cast_into::<PyBytes>()?)
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
