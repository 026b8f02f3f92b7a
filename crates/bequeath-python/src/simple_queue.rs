//! `SimpleQueue`: a queue without bounds, timeouts and threads.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use bequeath_os::Deadline;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::error::EngineError;
use crate::intern;
use crate::queue_ends::{QueueReader, QueueWriter};
use crate::queue_insides::{adopt_subclass, Insides};
use crate::shared_queue::SharedQueue;

/// A queue with `put`, `get` and `empty`.
#[pyclass(frozen, subclass, dict, weakref, module = "bequeath.queues")]
#[derive(Default)]
pub struct SimpleQueue {
    insides: Insides,
}

impl SimpleQueue {
    fn open(&self, writes: bool) -> PyResult<&Arc<SharedQueue>> {
        let shared = self.insides.shared()?;
        let closed = if writes {
            &shared.writer_closed
        } else {
            &shared.reader_closed
        };
        if closed.load(Ordering::Relaxed) {
            return Err(PyOSError::new_err("handle is closed"));
        }
        Ok(shared)
    }
}

#[pymethods]
impl SimpleQueue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(*, ctx=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    #[pyo3(signature = (*, ctx = None))]
    fn __init__(slf: &Bound<'_, Self>, ctx: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        slf.get().insides.create(slf.py(), ctx, None)
    }

    /// A subclass that replaces multiprocessing's insides gets those to work on.
    #[classmethod]
    fn __init_subclass__(cls: &Bound<'_, PyType>) -> PyResult<()> {
        adopt_subclass(cls, true)
    }

    /// Put an object into the queue.
    fn put(&self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        self.open(true)?.put(obj, || Deadline::NEVER)
    }

    /// Remove and return the oldest object, waiting for one.
    fn get(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.open(false)?.get(py, || Deadline::NEVER)
    }

    /// Whether the queue is empty, exactly.
    fn empty(&self) -> PyResult<bool> {
        Ok(self
            .open(false)?
            .queue
            .is_empty()
            .map_err(EngineError::from)?)
    }

    /// This process will use the queue no more.
    fn close(&self) -> PyResult<()> {
        let shared = self.insides.shared()?;
        shared.reader_closed.store(true, Ordering::Relaxed);
        shared.writer_closed.store(true, Ordering::Relaxed);
        Ok(())
    }

    #[getter]
    fn _reader<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, QueueReader>> {
        self.insides.reader(py)
    }

    #[getter]
    fn _writer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, QueueWriter>> {
        self.insides.writer(py)
    }

    #[getter]
    fn _rlock<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.insides.lock(py, &self.insides.read_lock)
    }

    #[getter]
    fn _wlock<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.insides.lock(py, &self.insides.write_lock)
    }

    #[getter]
    fn _poll<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.insides.reader(py)?.getattr(intern!(py, "poll"))
    }

    /// As a [`Queue`]'s.
    #[getter]
    fn _definitions_once(&self) -> PyResult<bool> {
        Ok(self
            .insides
            .shared()?
            .definitions_once
            .load(Ordering::Relaxed))
    }

    #[setter(_definitions_once)]
    fn set_definitions_once(&self, once: bool) -> PyResult<()> {
        self.insides.set_definitions_once(once)
    }

    fn __getstate__(slf: &Bound<'_, Self>) -> PyResult<(usize, u32)> {
        slf.get().insides.state(slf.as_any())
    }

    fn __setstate__(&self, state: (usize, u32)) -> PyResult<()> {
        self.insides.restore(state.0, state.1)
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        cls.py()
            .import("types")?
            .getattr("GenericAlias")?
            .call1((cls, item))
    }
}
