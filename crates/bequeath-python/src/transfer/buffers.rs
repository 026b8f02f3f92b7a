#![allow(unsafe_code)]
//! Buffers: of objects on their way out, and of messages that arrived.
//!
//! # Safety invariants
//! * Adopted blocks are exposed through the buffer protocol; the exporting object owns the memory and every view
//!   holds a reference to it.
//! * Raw copies name ranges that the owning value vouches for (`Block::as_ptr` and `len`).

use std::ffi::c_int;

use bequeath_shm::{Adopted, Block};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::{current_session, scarcity};

/// Copies from this size on let other Python threads run.
const DETACH: usize = 1 << 20;

/// A block of the session with the same bytes.
pub(super) fn copy_to_block(py: Python<'_>, view: &View) -> PyResult<Block> {
    let session = current_session(py)?;
    let refused = |error| scarcity::noted(view.len(), error);
    let mut block = session.allocate(view.len()).map_err(refused)?;
    block.set_len(view.len());
    let (from, into, len) = (view.first() as usize, block.as_ptr() as usize, view.len());
    let copy = move || {
        // SAFETY: both ranges are `len` bytes long and held by the caller's `view` and `block`; they cannot overlap, since the
        // block is fresh. A racing writer of the source can at worst change which bytes are sent.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, into as *mut u8, len) }
    };
    if len >= DETACH {
        py.detach(copy);
    } else {
        copy();
    }
    Ok(block)
}

/// A contiguous view of any object with the buffer protocol.
pub(super) struct View(Box<ffi::Py_buffer>);

impl View {
    pub(super) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        // SAFETY: all-zero is a valid Py_buffer to be filled in.
        let mut view = Box::new(unsafe { std::mem::zeroed::<ffi::Py_buffer>() });
        // SAFETY: the object is alive and the interpreter attached; the view is released in drop.
        let result = unsafe {
            ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_ANY_CONTIGUOUS)
        };
        if result == -1 {
            Err(PyErr::fetch(object.py()))
        } else {
            Ok(Self(view))
        }
    }

    pub(super) fn first(&self) -> *const u8 {
        // An empty buffer may have no address.
        if self.0.buf.is_null() {
            std::ptr::NonNull::dangling().as_ptr()
        } else {
            self.0.buf.cast()
        }
    }

    pub(super) fn len(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or(0)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        Python::attach(|_| {
            // SAFETY: filled in by PyObject_GetBuffer and released once.
            unsafe { ffi::PyBuffer_Release(&raw mut *self.0) }
        });
    }
}

/// An out-of-band buffer that arrived: private writable memory of this process.
#[pyclass(frozen, module = "bequeath._engine")]
pub(super) struct AdoptedBuffer(Adopted);

impl AdoptedBuffer {
    pub(super) fn new(adopted: Adopted) -> Self {
        Self(adopted)
    }
}

#[pymethods]
impl AdoptedBuffer {
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let adopted = &slf.get().0;
        // SAFETY: the range is owned by `slf`, which the view keeps alive; `view` is the interpreter's.
        unsafe {
            fill_view(
                slf.as_any(),
                view,
                adopted.as_ptr(),
                adopted.len(),
                false,
                flags,
            )
        }
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

/// # Safety
/// `view` may be written; the range stays valid while `owner` lives.
unsafe fn fill_view(
    owner: &Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    first: *mut u8,
    len: usize,
    readonly: bool,
    flags: c_int,
) -> PyResult<()> {
    if view.is_null() {
        return Err(PyBufferError::new_err("no view to fill"));
    }
    let len = isize::try_from(len).map_err(|_| PyBufferError::new_err("too large for a view"))?;
    // SAFETY: per this function's contract.
    let result = unsafe {
        ffi::PyBuffer_FillInfo(
            view,
            owner.as_ptr(),
            first.cast(),
            len,
            c_int::from(readonly),
            flags,
        )
    };
    if result == -1 {
        Err(PyErr::fetch(owner.py()))
    } else {
        Ok(())
    }
}
