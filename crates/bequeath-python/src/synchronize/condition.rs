//! `multiprocessing.Condition`.

use bequeath_os::Deadline;
use bequeath_shm::Handle;
use bequeath_sync::condition::Exclusive;
use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::holdable::{self, acquired, Holdable};
use super::owner_name::class_name;
use super::shared::{reduced, Shared};
use super::{Lock, RLock};
use crate::blocking;
use crate::error::EngineError;
use crate::filled_once::FilledOnce;

/// A condition variable over a Lock or RLock.
#[pyclass(frozen, subclass, dict, weakref, module = "bequeath.synchronize")]
pub struct Condition {
    pub(super) shared: Shared<bequeath_sync::Condition>,
    lock: FilledOnce<Guarding>,
}

/// The lock, as given and as the engine needs it.
struct Guarding {
    object: Py<PyAny>,
    handle: Either,
}

enum Either {
    Lock(Handle<bequeath_sync::Lock>),
    RLock(Handle<bequeath_sync::RecursiveLock>),
}

/// Runs one expression for either kind of lock.
macro_rules! either {
    ($either:expr, $lock:ident => $do:expr) => {
        match $either {
            Either::Lock($lock) => {
                let $lock = &**$lock;
                $do
            }
            Either::RLock($lock) => {
                let $lock = &**$lock;
                $do
            }
        }
    };
}

impl Condition {
    /// Gives the condition its lock.
    pub(super) fn set_lock(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let handle = if let Ok(lock) = object.cast::<Lock>() {
            Either::Lock(lock.get().shared.get()?.clone())
        } else if let Ok(lock) = object.cast::<RLock>() {
            Either::RLock(lock.get().shared.get()?.clone())
        } else {
            let class = class_name(object)?;
            return Err(PyTypeError::new_err(format!(
                "a Condition needs a Lock or RLock, not {class}"
            )));
        };
        self.lock.set(Guarding {
            object: object.clone().unbind(),
            handle,
        });
        Ok(())
    }

    fn lock(&self) -> PyResult<&Guarding> {
        self.lock
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("__init__() of the base class was not called"))
    }

    fn is_mine(&self) -> PyResult<bool> {
        Ok(either!(&self.lock()?.handle, lock => Exclusive::is_mine(lock)))
    }

    fn wait_until(&self, py: Python<'_>, deadline: Deadline) -> PyResult<bool> {
        if !self.is_mine()? {
            return Err(PyAssertionError::new_err(
                "must acquire() condition before using wait()",
            ));
        }
        let condition = &**self.shared.get()?;
        either!(&self.lock()?.handle, lock => acquired(blocking::wait(py, "Condition", |interrupt| {
            condition.wait(lock, deadline, interrupt)
        })))
    }

    fn wake(&self, count: usize) -> PyResult<()> {
        if !self.is_mine()? {
            return Err(PyAssertionError::new_err("lock is not owned"));
        }
        self.shared.get()?.notify(count);
        Ok(())
    }
}

#[pymethods]
impl Condition {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(lock=None, *, ctx=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            shared: Shared::empty(),
            lock: FilledOnce::empty(),
        }
    }

    #[pyo3(signature = (lock=None, *, ctx=None))]
    fn __init__(
        &self,
        py: Python<'_>,
        lock: Option<&Bound<'_, PyAny>>,
        ctx: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        match lock {
            Some(lock) => self.set_lock(lock)?,
            None => self.set_lock(Bound::new(py, RLock::ready(py)?)?.as_any())?,
        }
        self.shared.create(py, ctx, |_| ())
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        either!(&self.lock()?.handle, lock => holdable::enter(py, lock))
    }

    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None, /))]
    fn __exit__(
        &self,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_value, traceback);
        self.release()
    }

    /// Take the lock.
    #[pyo3(signature = (block=None, timeout=None), text_signature = "($self, block=True, timeout=None)")]
    fn acquire(
        &self,
        py: Python<'_>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        either!(&self.lock()?.handle, lock => holdable::acquire(py, lock, block, timeout))
    }

    /// Release the lock.
    fn release(&self) -> PyResult<()> {
        either!(&self.lock()?.handle, lock => holdable::release(lock))
    }

    /// Take the lock over from a holder that was killed.
    fn recover(&self) -> PyResult<()> {
        let recovered = either!(&self.lock()?.handle, lock => Holdable::recover(lock));
        Ok(recovered.map_err(EngineError::from)?)
    }

    /// Release the lock, wait for a notification, take the lock again; false when the timeout passed first.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        self.wait_until(py, blocking::deadline(timeout)?)
    }

    /// Wait until `predicate()` is true; its last value.
    #[pyo3(signature = (predicate, timeout=None))]
    fn wait_for<'py>(
        &self,
        predicate: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let deadline = blocking::deadline(timeout)?;
        loop {
            let value = predicate.call0()?;
            if value.is_truthy()? || deadline.is_past() {
                return Ok(value);
            }
            self.wait_until(predicate.py(), deadline)?;
        }
    }

    /// Wake up to `n` who wait.
    #[pyo3(signature = (n=1))]
    fn notify(&self, n: i64) -> PyResult<()> {
        self.wake(usize::try_from(n).unwrap_or(0))
    }

    /// Wake all who wait.
    fn notify_all(&self) -> PyResult<()> {
        self.wake(usize::MAX)
    }

    #[getter]
    fn _lock(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.lock()?.object.clone_ref(py))
    }

    #[getter]
    fn _sleeping_count(&self) -> PyResult<WaiterCount> {
        Ok(WaiterCount(Some(self.shared.get()?.clone())))
    }

    #[getter]
    fn _woken_count(&self) -> WaiterCount {
        WaiterCount(None)
    }

    #[getter]
    fn _wait_semaphore(&self) -> WaiterCount {
        WaiterCount(None)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let class = class_name(slf.as_any())?;
        let waiters = slf.get().shared.get()?.waiters();
        let lock = slf.get().lock()?.object.bind(slf.py()).repr()?;
        Ok(format!("<{class}({lock}, {waiters})>"))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let lock = slf.get().lock()?.object.clone_ref(slf.py());
        reduced(slf.as_any(), &slf.get().shared, vec![lock])
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.lock
            .seen_by_collector()
            .map_or(Ok(()), |lock| visit.call(&lock.object))
    }
}

/// Stands for the semaphores in which the standard library counts who waits.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct WaiterCount(Option<Handle<bequeath_sync::Condition>>);

#[pymethods]
impl WaiterCount {
    /// How many wait.
    fn get_value(&self) -> usize {
        self.0.as_ref().map_or(0, |condition| condition.waiters())
    }
}
