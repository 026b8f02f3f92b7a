//! `queue._reader` and `queue._writer`: what libraries take from multiprocessing's queues besides the queue.
//!
//! The reader can be waited for (`connection.wait`, `select`, asyncio) and read from; both can be closed, for this process's queue object only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use bequeath_os::Deadline;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::blocking;
use crate::shared_queue::SharedQueue;
use crate::transfer::kind;

fn check(closed: &AtomicBool) -> PyResult<()> {
    if closed.load(Ordering::Relaxed) {
        return Err(PyOSError::new_err("handle is closed"));
    }
    Ok(())
}

/// The receiving end of a queue.
#[pyclass(frozen, module = "bequeath.queues")]
pub struct QueueReader(pub(crate) Arc<SharedQueue>);

#[pymethods]
impl QueueReader {
    /// A descriptor that is readable whenever the queue is not empty; nothing must be read from it.
    fn fileno(&self) -> PyResult<i32> {
        check(&self.0.reader_closed)?;
        Ok(self.0.fileno()?)
    }

    /// Whether a message is there within the timeout.
    #[pyo3(signature = (timeout = Some(0.0)))]
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        check(&self.0.reader_closed)?;
        let deadline = timeout.map_or(Ok(Deadline::NEVER), blocking::deadline_after)?;
        Ok(self.0.poll(py, deadline)?)
    }

    /// The next object.
    fn recv(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        check(&self.0.reader_closed)?;
        self.0.get(py, || Deadline::NEVER)
    }

    /// The next message as a pickle.
    #[pyo3(signature = (maxlength = None))]
    fn recv_bytes<'py>(
        &self,
        py: Python<'py>,
        maxlength: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = maxlength;
        check(&self.0.reader_closed)?;
        self.0.get_bytes(py, || Deadline::NEVER)
    }

    /// For `connection.wait`: the descriptor may be readable although somebody else took the message.
    fn _is_ready(&self, py: Python<'_>) -> PyResult<bool> {
        if self.0.poll(py, Deadline::PAST)? {
            return Ok(true);
        }
        self.0.queue.settle_readiness();
        Ok(false)
    }

    /// Closes the end for this queue object.
    fn close(&self) {
        self.0.reader_closed.store(true, Ordering::Relaxed);
    }

    #[getter]
    fn closed(&self) -> bool {
        self.0.reader_closed.load(Ordering::Relaxed)
    }

    #[getter]
    fn readable(&self) -> bool {
        true
    }

    #[getter]
    fn writable(&self) -> bool {
        false
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.close();
    }
}

/// The sending end of a queue.
#[pyclass(frozen, module = "bequeath.queues")]
pub struct QueueWriter(pub(crate) Arc<SharedQueue>);

#[pymethods]
impl QueueWriter {
    /// Sends an object.
    fn send(&self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        check(&self.0.writer_closed)?;
        self.0.put(obj, || Deadline::NEVER)
    }

    /// Sends a pickle.
    fn send_bytes(&self, py: Python<'_>, buf: &[u8]) -> PyResult<()> {
        check(&self.0.writer_closed)?;
        let message = bequeath_channel::Outgoing::bytes(kind::PICKLE, buf);
        Ok(self.0.send(py, message, || Deadline::NEVER)?)
    }

    /// Closes the end for this queue object.
    fn close(&self) {
        self.0.writer_closed.store(true, Ordering::Relaxed);
    }

    #[getter]
    fn closed(&self) -> bool {
        self.0.writer_closed.load(Ordering::Relaxed)
    }

    #[getter]
    fn readable(&self) -> bool {
        false
    }

    #[getter]
    fn writable(&self) -> bool {
        true
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.close();
    }
}
