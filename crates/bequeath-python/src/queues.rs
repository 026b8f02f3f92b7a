//! `Queue` and `JoinableQueue`: multiprocessing's queues on the engine's; `SimpleQueue` is beside.
//!
//! There is no feeder thread: `put` pickles in the caller and returns when the message is in shared memory, so errors appear where
//! they arise, and a process may exit right after a `put`. What libraries touch of the old insides (`_reader`, `_wlock`, `join_thread`, …) is
//! here under its name and does what its caller expects of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use bequeath_os::Deadline;
use bequeath_sync::ProcessId;
use pyo3::exceptions::{PyAssertionError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::blocking;
use crate::error::EngineError;
use crate::intern;
use crate::queue_ends::{QueueReader, QueueWriter};
use crate::queue_insides::{adopt_subclass, Insides};
use crate::shared_queue::SharedQueue;

/// What `maxsize <= 0` reads as, as in multiprocessing (`SEM_VALUE_MAX`).
const UNBOUNDED: i64 = 0x7fff_ffff;

/// When a call with these arguments stops waiting.
fn until(
    block: Option<&Bound<'_, PyAny>>,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<Deadline> {
    match block {
        Some(block) if !block.is_truthy()? => Ok(Deadline::PAST),
        _ => blocking::deadline(timeout),
    }
}

/// A queue of objects for many senders and receivers, in this and other processes.
///
/// After a fork, parent and child use the same queue. When a sender is killed its message is there wholly or not at all; a message
/// that a killed receiver had taken is gone with it, all others are received by the survivors.
#[pyclass(frozen, subclass, dict, weakref, module = "bequeath.queues")]
#[derive(Default)]
pub struct Queue {
    insides: Insides,
    ignore_epipe: AtomicBool,
    /// The process that has put something last, or zero: a forked child has not.
    fed_by: AtomicU64,
}

impl Queue {
    fn open<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a Arc<SharedQueue>> {
        let shared = slf.get().insides.shared()?;
        if shared.closed.load(Ordering::Relaxed) {
            return Err(PyValueError::new_err(format!(
                "Queue {} is closed",
                slf.repr()?
            )));
        }
        Ok(shared)
    }

    /// A subclass may want pickling errors for itself, as concurrent.futures does.
    fn hand_error_over(
        slf: &Bound<'_, Self>,
        object: &Bound<'_, PyAny>,
        error: PyErr,
    ) -> PyResult<()> {
        let py = slf.py();
        let name = intern!(py, "_on_queue_feeder_error");
        let ours = py.get_type::<Self>().getattr(name)?;
        let theirs = slf.get_type().getattr(name)?;
        if theirs.is(&ours) {
            return Err(error);
        }
        let value = error.value(py);
        if value.is_instance_of::<pyo3::exceptions::PyMemoryError>() {
            return Err(error);
        }
        slf.getattr(name)?.call1((value, object))?;
        Ok(())
    }
}

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(maxsize=0, *, ctx=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    #[pyo3(signature = (maxsize = 0, *, ctx = None))]
    fn __init__(
        slf: &Bound<'_, Self>,
        maxsize: i64,
        ctx: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let capacity = u64::try_from(maxsize).ok().filter(|&capacity| capacity > 0);
        slf.get().insides.create(slf.py(), ctx, capacity)
    }

    /// A subclass that replaces multiprocessing's insides gets those to work on.
    #[classmethod]
    fn __init_subclass__(cls: &Bound<'_, PyType>) -> PyResult<()> {
        adopt_subclass(cls, false)
    }

    /// Put an object into the queue. If it is full, wait for room (at most `timeout` seconds), or raise `queue.Full`.
    #[pyo3(signature = (obj, block = None, timeout = None), text_signature = "($self, obj, block=True, timeout=None)")]
    fn put(
        slf: &Bound<'_, Self>,
        obj: &Bound<'_, PyAny>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let shared = Self::open(slf)?;
        let until = until(block, timeout)?;
        let py = slf.py();
        let mut pickled = match shared.dumps(obj) {
            Ok(pickled) => pickled,
            Err(error) => return Self::hand_error_over(slf, obj, error),
        };
        shared.send(py, pickled.outgoing(py), || until)?;
        slf.get()
            .fed_by
            .store(ProcessId::current().to_bits(), Ordering::Relaxed);
        Ok(())
    }

    /// Remove and return the oldest object. If there is none, wait for one (at most `timeout` seconds), or raise `queue.Empty`.
    #[pyo3(signature = (block = None, timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn get(
        slf: &Bound<'_, Self>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let shared = Self::open(slf)?;
        let until = until(block, timeout)?;
        if shared.reader_closed.load(Ordering::Relaxed) {
            return Err(PyOSError::new_err("handle is closed"));
        }
        shared.get(slf.py(), || until)
    }

    /// Put an object, or raise `queue.Full` at once.
    fn put_nowait(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        // Through the attribute: a subclass may have its own.
        slf.call_method1(intern!(slf.py(), "put"), (obj, false))
            .map(|_| ())
    }

    /// Remove and return an object, or raise `queue.Empty` at once.
    fn get_nowait(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(slf
            .call_method1(intern!(slf.py(), "get"), (false,))?
            .unbind())
    }

    /// The number of objects in the queue, exactly.
    fn qsize(&self) -> PyResult<u64> {
        Ok(self
            .insides
            .shared()?
            .queue
            .len()
            .map_err(EngineError::from)?)
    }

    /// Whether the queue is empty, exactly.
    fn empty(&self) -> PyResult<bool> {
        // In multiprocessing `close` ends the feeder thread, which closes both ends; a process
        // that has put nothing has no such thread, and goes on seeing the queue.
        let closed = self.insides.shared()?.closed.load(Ordering::Relaxed);
        if closed && self.fed_by.load(Ordering::Relaxed) == ProcessId::current().to_bits() {
            return Err(PyOSError::new_err("handle is closed"));
        }
        Ok(self.qsize()? == 0)
    }

    /// Whether a `put` would have to wait, exactly.
    fn full(&self) -> PyResult<bool> {
        Ok(self
            .insides
            .shared()?
            .queue
            .is_full()
            .map_err(EngineError::from)?)
    }

    /// This process will neither put nor get any more. What was put stays for others.
    fn close(&self) -> PyResult<()> {
        self.insides.shared()?.closed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// There is no thread to join: what was put is in the queue already.
    fn join_thread(slf: &Bound<'_, Self>) -> PyResult<()> {
        if !slf.get().insides.shared()?.closed.load(Ordering::Relaxed) {
            return Err(PyAssertionError::new_err(format!(
                "Queue {} not closed",
                slf.repr()?
            )));
        }
        Ok(())
    }

    /// There is no thread, so nothing to cancel and nothing to lose.
    #[allow(clippy::unused_self)]
    fn cancel_join_thread(&self) {}

    /// Called with an exception and an object that could not be pickled, where a subclass overrides it; without that, `put` raises.
    #[staticmethod]
    fn _on_queue_feeder_error(e: &Bound<'_, PyAny>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = obj;
        let py = e.py();
        py.import("traceback")?.call_method1(
            "print_exception",
            (e.get_type(), e, e.getattr("__traceback__")?),
        )?;
        Ok(())
    }

    /// For concurrent.futures: the workers are gone.
    fn _terminate_broken(slf: &Bound<'_, Self>) -> PyResult<()> {
        let shared = slf.get().insides.shared()?;
        shared.reader_closed.store(true, Ordering::Relaxed);
        slf.call_method0(intern!(slf.py(), "close"))?;
        slf.call_method0(intern!(slf.py(), "join_thread"))?;
        Ok(())
    }

    /// There is no thread to start.
    #[allow(clippy::unused_self)]
    fn _start_thread(&self) {}

    #[getter]
    fn _thread(&self) -> Option<bool> {
        None
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

    #[getter]
    fn _recv_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.insides.reader(py)?.getattr(intern!(py, "recv_bytes"))
    }

    #[getter]
    fn _send_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.insides.writer(py)?.getattr(intern!(py, "send_bytes"))
    }

    #[getter]
    fn _closed(&self) -> bool {
        self.insides
            .shared()
            .is_ok_and(|shared| shared.closed.load(Ordering::Relaxed))
    }

    #[getter]
    fn _maxsize(&self) -> PyResult<i64> {
        let capacity = self.insides.shared()?.queue.capacity();
        Ok(capacity
            .and_then(|capacity| i64::try_from(capacity).ok())
            .unwrap_or(UNBOUNDED))
    }

    #[getter]
    fn _opid(&self) -> PyResult<u32> {
        Ok(self.insides.shared()?.creator.load(Ordering::Relaxed))
    }

    #[getter]
    fn _ignore_epipe(&self) -> bool {
        self.ignore_epipe.load(Ordering::Relaxed)
    }

    #[setter(_ignore_epipe)]
    fn set_ignore_epipe(&self, ignore: &Bound<'_, PyAny>) -> PyResult<()> {
        self.ignore_epipe
            .store(ignore.is_truthy()?, Ordering::Relaxed);
        Ok(())
    }

    /// For pools, whose workers get many messages: what goes by value is sent once to each, as long as it does not change.
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

    fn __getstate__(slf: &Bound<'_, Self>) -> PyResult<(bool, usize, u32)> {
        let queue = slf.get();
        let (token, creator) = queue.insides.state(slf.as_any())?;
        Ok((queue.ignore_epipe.load(Ordering::Relaxed), token, creator))
    }

    fn __setstate__(&self, state: (bool, usize, u32)) -> PyResult<()> {
        let (ignore, token, creator) = state;
        self.ignore_epipe.store(ignore, Ordering::Relaxed);
        self.insides.restore(token, creator)
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

/// A queue that counts the objects put and not yet reported done.
#[pyclass(frozen, subclass, extends = Queue, module = "bequeath.queues")]
pub struct JoinableQueue;

#[pymethods]
impl JoinableQueue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(maxsize=0, *, ctx=None)")]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Queue::default()).add_subclass(Self)
    }

    /// Report that the work for one object that was got is done.
    fn task_done(slf: &Bound<'_, Self>) -> PyResult<()> {
        let shared = slf.as_super().get().insides.shared()?;
        Ok(shared.queue.task_done().map_err(EngineError::from)?)
    }

    /// Wait until every object that was put has been reported done.
    fn join(slf: &Bound<'_, Self>) -> PyResult<()> {
        Ok(slf.as_super().get().insides.shared()?.join(slf.py())?)
    }
}
