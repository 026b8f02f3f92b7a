//! `multiprocessing.RLock`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::holdable;
use super::owner_name::{class_name, Seen};
use super::shared::{reduced, Shared};
use super::view::SemLockView;
use crate::error::EngineError;

/// A lock that its holding thread may take again.
///
/// After its holder was killed, `acquire` raises `AbandonedLock` without taking it, until `recover()`
/// takes it or `release()` frees it. With `on_abandoned="recover"` `acquire` takes it over, with one
/// RuntimeWarning, and `abandoned` is true until it is released.
#[pyclass(frozen, subclass, dict, weakref, module = "bequeath.synchronize")]
pub struct RLock {
    pub(super) shared: Shared<bequeath_sync::RecursiveLock>,
}

impl RLock {
    /// A ready one, for a condition that was given none.
    pub(super) fn ready(py: Python<'_>) -> PyResult<Self> {
        let lock = Self {
            shared: Shared::empty(),
        };
        lock.shared.create(py, None, |_| ())?;
        Ok(lock)
    }

    /// `acquire()` for those who guard an access of their own.
    #[inline]
    pub(crate) fn take(&self, py: Python<'_>) -> PyResult<bool> {
        holdable::enter(py, &**self.shared.get()?)
    }

    /// `release()` after [`take`](Self::take).
    #[inline]
    pub(crate) fn give(&self) -> PyResult<()> {
        holdable::release(&**self.shared.get()?)
    }

    /// Whether this thread holds it.
    #[inline]
    pub(crate) fn is_mine(&self) -> PyResult<bool> {
        Ok(self.shared.get()?.is_mine())
    }
}

#[pymethods]
impl RLock {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(*, ctx=None, on_abandoned='raise')")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            shared: Shared::empty(),
        }
    }

    #[pyo3(signature = (*, ctx=None, on_abandoned="raise"))]
    fn __init__(
        &self,
        py: Python<'_>,
        ctx: Option<&Bound<'_, PyAny>>,
        on_abandoned: &str,
    ) -> PyResult<()> {
        self.shared.create(py, ctx, |_| ())?;
        holdable::set_on_abandoned(&**self.shared.get()?, on_abandoned)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        holdable::enter(py, &**self.shared.get()?)
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

    /// Take the lock, or count one more; false when another holds it and `block` is false or the timeout passed.
    #[pyo3(signature = (block=None, timeout=None), text_signature = "($self, block=True, timeout=None)")]
    pub(crate) fn acquire(
        &self,
        py: Python<'_>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        holdable::acquire(py, &**self.shared.get()?, block, timeout)
    }

    /// Count one less; at the last the lock is free.
    fn release(&self) -> PyResult<()> {
        holdable::release(&**self.shared.get()?)
    }

    /// Whether somebody holds it.
    fn locked(&self) -> PyResult<bool> {
        Ok(self.shared.get()?.owner().is_some())
    }

    /// Take a lock whose holder was killed; what it protects may be half written.
    fn recover(&self) -> PyResult<()> {
        Ok(self.shared.get()?.recover().map_err(EngineError::from)?)
    }

    /// Whether what it protects may be half written: its holder was killed, or took it from one that was.
    #[getter]
    fn abandoned(&self) -> PyResult<bool> {
        Ok(self.shared.get()?.is_doubtful())
    }

    #[getter]
    fn _semlock(&self) -> PyResult<SemLockView> {
        Ok(SemLockView::of_rlock(self.shared.get()?))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let class = class_name(slf.as_any())?;
        let Ok(lock) = slf.get().shared.get() else {
            return Ok(format!("<{class}(unknown, unknown)>"));
        };
        let owner = Seen::of(lock.owner(), lock.abandoned_by(), lock.is_mine());
        let count = match &owner {
            Seen::Free => "0".to_owned(),
            Seen::Me => lock.depth().to_string(),
            _ => "nonzero".to_owned(),
        };
        Ok(format!("<{class}({}, {count})>", owner.name(slf.py())?))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        reduced(slf.as_any(), &slf.get().shared, Vec::new())
    }
}
