//! What all of multiprocessing's queues have: the engine's queue, and what libraries touch of the old insides.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bequeath_channel::Queue as EngineQueue;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::error::EngineError;
use crate::intern;
use crate::once::Once;
use crate::origin::Origin;
use crate::queue_ends::{QueueReader, QueueWriter};
use crate::shared_queue::SharedQueue;
use crate::transfer;

/// The part that all three classes have.
pub struct Insides {
    shared: OnceLock<Arc<SharedQueue>>,
    reader: Once<Py<QueueReader>>,
    writer: Once<Py<QueueWriter>>,
    pub read_lock: Once<Py<PyAny>>,
    pub write_lock: Once<Py<PyAny>>,
    origin: Origin,
}

impl Default for Insides {
    fn default() -> Self {
        Self {
            shared: OnceLock::new(),
            reader: Once::new(),
            writer: Once::new(),
            read_lock: Once::new(),
            write_lock: Once::new(),
            origin: Origin::unknown(),
        }
    }
}

impl Insides {
    pub fn create(
        &self,
        py: Python<'_>,
        ctx: Option<&Bound<'_, PyAny>>,
        capacity: Option<u64>,
    ) -> PyResult<()> {
        self.origin.note(ctx);
        let session = transfer::current_session(py)?;
        let queue = EngineQueue::create(&session, capacity).map_err(EngineError::from)?;
        self.set(queue, std::process::id())
    }

    fn set(&self, queue: EngineQueue, creator: u32) -> PyResult<()> {
        Python::attach(transfer::make_ready)?;
        let shared = Arc::new(SharedQueue::new(queue, creator));
        self.shared
            .set(shared)
            .map_err(|_| PyRuntimeError::new_err("the queue is initialised already"))
    }

    pub fn shared(&self) -> PyResult<&Arc<SharedQueue>> {
        self.shared
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("__init__() of the queue was not called"))
    }

    pub fn reader<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, QueueReader>> {
        let reader = self
            .reader
            .get_or_try_init(py, || Py::new(py, QueueReader(Arc::clone(self.shared()?))));
        Ok(reader?.bind(py).clone())
    }

    pub fn writer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, QueueWriter>> {
        let writer = self
            .writer
            .get_or_try_init(py, || Py::new(py, QueueWriter(Arc::clone(self.shared()?))));
        Ok(writer?.bind(py).clone())
    }

    /// The engine needs no lock; who takes one around the reader or writer gets one that excludes this process's threads.
    pub fn lock<'py>(
        &self,
        py: Python<'py>,
        which: &Once<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let lock = which.get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("threading")?.getattr("Lock")?.call0()?.unbind())
        })?;
        Ok(lock.bind(py).clone())
    }

    pub fn set_definitions_once(&self, once: bool) -> PyResult<()> {
        self.shared()?
            .definitions_once
            .store(once, Ordering::Relaxed);
        Ok(())
    }

    pub fn state(&self, object: &Bound<'_, PyAny>) -> PyResult<(usize, u32)> {
        let shared = self.shared()?;
        let token = transfer::export(object, &shared.queue.handle())?;
        self.origin.check(object.py())?;
        Ok((token, shared.creator.load(Ordering::Relaxed)))
    }

    pub fn restore(&self, token: usize, creator: u32) -> PyResult<()> {
        let handle = transfer::import(token)?;
        let queue = EngineQueue::from_handle(&handle).map_err(EngineError::from)?;
        self.set(queue, creator)
    }
}

/// A subclass that replaces multiprocessing's insides gets those to work on.
///
/// # Errors
/// What making them raises.
pub fn adopt_subclass(cls: &Bound<'_, PyType>, simple: bool) -> PyResult<()> {
    let py = cls.py();
    if cls.getattr(intern!(py, "__module__"))?.extract::<&str>()? == "bequeath.queues" {
        return Ok(()); // the engine's own JoinableQueue
    }
    py.import(intern!(py, "bequeath._pipe_queue"))?
        .call_method1(intern!(py, "adopt"), (cls, simple))
        .map(|_| ())
}
