#![allow(unsafe_code)]
//! Picklers that are used again, and where they write to.
//!
//! # Safety invariants
//! What is written is copied while a view holds the range in place.

use std::sync::Mutex;

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::intern;

use super::buffers::{copy_to_block, View};
use super::facade;
use super::open::{add_buffer, goes_outside};

/// Buffers from this size on travel out of band, in blocks of their own.
const OUT_OF_BAND: usize = 4096;
/// Output buffers larger than this are not kept for the next message.
const KEEP_CAPACITY: usize = 1 << 16;

static SPARE_OUTPUT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Keeps a used output for the next message, unless it has become large.
pub(super) fn give_back_output(mut bytes: Vec<u8>) {
    if bytes.capacity() > KEEP_CAPACITY {
        return;
    }
    if let Ok(mut spare) = SPARE_OUTPUT.try_lock() {
        if spare.len() < 8 {
            bytes.clear();
            spare.push(bytes);
        }
    }
}

/// One pickler of the facade with the place it writes to; kept for the next message.
pub(super) struct Pickler {
    pub(super) dump: Py<PyAny>,
    clear_memo: Py<PyAny>,
    sink: Py<Sink>,
}

static SPARE_PICKLERS: Mutex<Vec<Pickler>> = Mutex::new(Vec::new());

impl Pickler {
    /// A spare one, or a new one: nested and concurrent messages each have their own.
    pub(super) fn take(py: Python<'_>) -> PyResult<Self> {
        // Never held while Python runs.
        let spare = SPARE_PICKLERS.lock().ok().and_then(|mut spare| spare.pop());
        if let Some(pickler) = spare {
            if let Some(output) = SPARE_OUTPUT.lock().ok().and_then(|mut spare| spare.pop()) {
                pickler.sink.get().replace(output);
            }
            return Ok(pickler);
        }
        let sink = Bound::new(py, Sink(Mutex::new(Vec::with_capacity(1024))))?;
        let pickler = facade(py)?.call_method1(
            intern!(py, "TransferPickler"),
            (&sink, sink.getattr(intern!(py, "collect"))?),
        )?;
        Ok(Self {
            dump: pickler.getattr(intern!(py, "dump"))?.unbind(),
            clear_memo: pickler.getattr(intern!(py, "clear_memo"))?.unbind(),
            sink: sink.unbind(),
        })
    }

    /// The bytes written; the pickler goes back to the spares. (After an error it is dropped instead: its memo is half filled.)
    pub(super) fn finish(self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.clear_memo.call0(py)?;
        let bytes = self.sink.get().replace(Vec::new());
        if let Ok(mut spare) = SPARE_PICKLERS.lock() {
            if spare.len() < 16 {
                spare.push(self);
            }
        }
        Ok(bytes)
    }
}

/// Where a pickler writes: its file object and buffer callback.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Sink(Mutex<Vec<u8>>);

impl Sink {
    fn replace(&self, with: Vec<u8>) -> Vec<u8> {
        self.0
            .lock()
            .map(|mut bytes| std::mem::replace(&mut *bytes, with))
            .unwrap_or_default()
    }

    /// MemoryError where a vector that grows by itself would end the program.
    fn append(&self, bytes: &[u8]) -> PyResult<()> {
        if let Ok(mut output) = self.0.lock() {
            output.try_reserve(bytes.len()).map_err(|_| {
                let needed = output.len() + bytes.len();
                PyMemoryError::new_err(format!("no memory for a pickle of {needed} bytes"))
            })?;
            output.extend_from_slice(bytes);
        }
        Ok(())
    }
}

#[pymethods]
impl Sink {
    /// Takes bytes of the pickle.
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(bytes) = data.cast::<PyBytes>() {
            return self.append(bytes.as_bytes());
        }
        let view = View::of(data)?;
        // SAFETY: the view keeps the range exported and in place; attached to the interpreter, nobody else runs meanwhile.
        self.append(unsafe { std::slice::from_raw_parts(view.first(), view.len()) })
    }

    /// pickle's `buffer_callback`: true keeps the buffer in the pickle, false says that it travels beside it.
    #[allow(clippy::unused_self)]
    fn collect(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = buffer.py();
        let Ok(view) = View::of(buffer) else {
            return Ok(true);
        };
        if view.len() < OUT_OF_BAND || goes_outside() {
            return Ok(true);
        }
        let block = copy_to_block(py, &view)?;
        Ok(!add_buffer(block))
    }
}
