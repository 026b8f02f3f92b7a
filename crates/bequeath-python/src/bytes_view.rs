#![allow(unsafe_code)]
//! The bytes of any contiguous buffer, whatever its items are.
//!
//! # Safety invariants
//! The view was filled in by the interpreter and is released once, in drop; until then its exporter
//! keeps the memory in place.

use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;

/// A contiguous buffer, exported until this is dropped.
pub struct BytesView(Box<ffi::Py_buffer>);

// SAFETY: the memory stays exported whichever thread holds the view; drop attaches.
unsafe impl Send for BytesView {}

impl BytesView {
    /// Asks `object` for its memory.
    ///
    /// # Errors
    /// TypeError for no buffer, BufferError for one that is not contiguous (or not writable).
    pub fn of(object: &Bound<'_, PyAny>, writable: bool) -> PyResult<Self> {
        // SAFETY: all-zero is a valid Py_buffer to be filled in.
        let mut view = Box::new(unsafe { std::mem::zeroed::<ffi::Py_buffer>() });
        let flags: c_int = if writable { ffi::PyBUF_WRITABLE } else { 0 };
        // SAFETY: the object is alive and the interpreter attached.
        let result = unsafe {
            ffi::PyObject_GetBuffer(
                object.as_ptr(),
                &raw mut *view,
                ffi::PyBUF_C_CONTIGUOUS | flags,
            )
        };
        if result == -1 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Self(view))
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or(0)
    }

    /// The bytes. Only for copying out: another thread of the program may write to the buffer
    /// meanwhile, and then changes what arrives, as with `os.write`.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        if self.0.buf.is_null() {
            return &[];
        }
        // SAFETY: `buf` and `len` are the exporter's, contiguous, and held by the view.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast(), self.len()) }
    }

    /// Copies `bytes` to `start`; false, and nothing copied, when they do not fit.
    pub fn write_at(&self, start: usize, bytes: &[u8]) -> bool {
        let fits = start
            .checked_add(bytes.len())
            .is_some_and(|end| end <= self.len());
        if !fits || self.0.readonly != 0 {
            return false;
        }
        if bytes.is_empty() {
            return true;
        }
        // SAFETY: `start` lies inside the buffer (checked above).
        let into = unsafe { self.0.buf.cast::<u8>().add(start) };
        // SAFETY: the whole range lies inside a writable buffer; `bytes` is elsewhere (it was just
        // received).
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), into, bytes.len()) };
        true
    }
}

impl Drop for BytesView {
    fn drop(&mut self) {
        Python::attach(|_| {
            // SAFETY: filled in by PyObject_GetBuffer, released once.
            unsafe { ffi::PyBuffer_Release(&raw mut *self.0) }
        });
    }
}
