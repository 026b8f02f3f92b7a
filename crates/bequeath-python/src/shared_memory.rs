#![allow(unsafe_code)]
//! Bytes of the session's memory as a Python object with the buffer protocol: what `sharedctypes`
//! and `heap` stand on.
//!
//! # Safety invariants
//! - The handle keeps the bytes mapped and counted; every buffer that is handed out holds a reference
//!   to this object, so a ctypes object, memoryview or array on them keeps them too.
//! - The bytes are shared: only raw copies and C code of the interpreter touch them, never a slice.

use std::ffi::c_int;

use bequeath_shm::{Handle, Memory};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::error::EngineError;
use crate::intern;
use crate::transfer;

/// Zeroed bytes that processes share, kept as long as anybody in any process refers to them.
#[pyclass(frozen, weakref, module = "bequeath._engine")]
pub struct SharedBytes(Handle<Memory>);

#[pymethods]
impl SharedBytes {
    #[new]
    fn new(py: Python<'_>, size: usize) -> PyResult<Self> {
        if isize::try_from(size).is_err() {
            return Err(PyValueError::new_err("size out of range"));
        }
        let session = transfer::current_session(py)?;
        Ok(Self(
            Memory::create(&session, size).map_err(EngineError::from)?,
        ))
    }

    fn __len__(&self) -> usize {
        self.0.extra().1
    }

    /// A writable view of all bytes.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no place for the view"));
        }
        let (first, len) = slf.get().0.extra();
        // SAFETY: `view` is the interpreter's to fill in; the bytes stay as long as `slf`, of which the
        // view takes a reference; writable.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), first.cast(), len as isize, 0, flags)
        };
        if filled != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        Ok(())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        let token = transfer::export(slf.as_any(), &slf.get().0.erase())?;
        let rebuild = py
            .import(intern!(py, "bequeath._engine"))?
            .getattr(intern!(py, "rebuild_shared_bytes"))?;
        (rebuild, (token,)).into_pyobject(py)
    }
}

/// The bytes that a number of the message being received stands for.
#[pyfunction]
pub fn rebuild_shared_bytes(token: usize) -> PyResult<SharedBytes> {
    Ok(SharedBytes(
        transfer::import(token)?
            .downcast()
            .map_err(EngineError::from)?,
    ))
}

/// Raises what pickling `object` here and now would raise if it is one that only travels.
#[pyfunction]
pub fn check_transfer(object: &Bound<'_, PyAny>) -> PyResult<()> {
    transfer::check(object)
}
