//! `multiprocessing.Semaphore` and `BoundedSemaphore`.

use std::sync::atomic::{AtomicI64, Ordering};

use bequeath_os::{Deadline, Errno};
use bequeath_sync::semaphore::VALUE_MAX;
use pyo3::exceptions::{PyOSError, PyOverflowError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::holdable::{acquired, is_blocking};
use super::owner_name::class_name;
use super::shared::{reduced, Shared};
use super::view::SemLockView;
use crate::blocking;
use crate::error::EngineError;

/// A counter of units that processes take and give.
#[pyclass(frozen, subclass, dict, weakref, module = "bequeath.synchronize")]
pub struct Semaphore {
    pub(super) shared: Shared<bequeath_sync::Semaphore>,
    /// Acquired minus released by this process: what `_semlock._count()` says in the standard library.
    pub(super) count: AtomicI64,
}

impl Semaphore {
    fn empty() -> Self {
        Self {
            shared: Shared::empty(),
            count: AtomicI64::new(0),
        }
    }

    fn create(
        &self,
        py: Python<'_>,
        ctx: Option<&Bound<'_, PyAny>>,
        value: i64,
        bound: Option<i64>,
        robust: bool,
    ) -> PyResult<()> {
        let (value, bound) = (checked(value)?, bound.map_or(Ok(VALUE_MAX), checked)?);
        let mut outcome = Ok(());
        self.shared
            .create(py, ctx, |semaphore: &bequeath_sync::Semaphore| {
                outcome = semaphore.init(value, bound, robust);
            })?;
        Ok(outcome.map_err(EngineError::from)?)
    }

    #[cold]
    fn wait(&self, py: Python<'_>, deadline: Deadline) -> PyResult<bool> {
        let semaphore = &**self.shared.get()?;
        let result = blocking::wait(py, "Semaphore", |interrupt| {
            semaphore.acquire(deadline, interrupt)
        });
        self.counted(acquired(result)?)
    }

    /// `acquire()` without arguments.
    #[inline]
    pub(crate) fn take(&self, py: Python<'_>) -> PyResult<bool> {
        if self.shared.get()?.try_acquire() {
            return self.counted(true);
        }
        self.wait(py, Deadline::NEVER)
    }

    /// `acquire(block=True, timeout=None)`.
    pub(crate) fn acquire(
        &self,
        py: Python<'_>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let deadline = blocking::deadline(timeout)?;
        let blocks = is_blocking(block)? && deadline != Deadline::PAST;
        if self.shared.get()?.try_acquire() {
            return self.counted(true);
        }
        if blocks {
            self.wait(py, deadline)
        } else {
            Ok(false)
        }
    }

    /// `release()`.
    #[inline]
    pub(crate) fn give(&self) -> PyResult<()> {
        self.shared.get()?.release(1).map_err(EngineError::from)?;
        self.count_up(-1);
        Ok(())
    }

    /// Two plain steps: it is only told, and a locked one would cost as much as the semaphore itself.
    fn count_up(&self, change: i64) {
        let count = self.count.load(Ordering::Relaxed);
        self.count.store(count + change, Ordering::Relaxed);
    }

    fn counted(&self, taken: bool) -> PyResult<bool> {
        if taken {
            self.count_up(1);
        }
        Ok(taken)
    }
}

/// As `sem_open` refuses a value.
fn checked(value: i64) -> PyResult<u32> {
    if value < 0 {
        return Err(PyOSError::new_err((
            Errno::INVAL.raw_os_error(),
            "Invalid argument",
        )));
    }
    u32::try_from(value)
        .ok()
        .filter(|value| *value <= VALUE_MAX)
        .ok_or_else(|| PyOverflowError::new_err("signed integer is greater than maximum"))
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(value=1, *, ctx=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::empty()
    }

    #[pyo3(signature = (value=1, *, ctx=None))]
    fn __init__(&self, py: Python<'_>, value: i64, ctx: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.create(py, ctx, value, None, false)
    }

    /// How many units there are now.
    fn get_value(&self) -> PyResult<u32> {
        Ok(self.shared.get()?.value())
    }

    /// Whether an acquire would have to wait.
    fn locked(&self) -> PyResult<bool> {
        Ok(self.shared.get()?.value() == 0)
    }

    #[getter]
    fn _semlock(slf: &Bound<'_, Self>) -> PyResult<SemLockView> {
        slf.get().shared.get()?;
        Ok(SemLockView::of_semaphore(slf))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let class = class_name(slf.as_any())?;
        let shared = &slf.get().shared;
        let value = shared
            .get()
            .map_or_else(|_| "unknown".to_owned(), |it| it.value().to_string());
        if slf.cast::<BoundedSemaphore>().is_err() {
            return Ok(format!("<{class}(value={value})>"));
        }
        let bound = shared
            .get()
            .map_or_else(|_| "unknown".to_owned(), |it| it.bound().to_string());
        Ok(format!("<{class}(value={value}, maxvalue={bound})>"))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        reduced(slf.as_any(), &slf.get().shared, Vec::new())
    }
}

/// A semaphore that refuses to rise above where it began. Units that a killed process held come back.
#[pyclass(frozen, subclass, extends = Semaphore, module = "bequeath.synchronize")]
pub struct BoundedSemaphore;

#[pymethods]
impl BoundedSemaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(value=1, *, ctx=None)")]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Semaphore::empty()).add_subclass(Self)
    }

    #[pyo3(signature = (value=1, *, ctx=None))]
    fn __init__(slf: &Bound<'_, Self>, value: i64, ctx: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        slf.as_super()
            .get()
            .create(slf.py(), ctx, value, Some(value), true)
    }
}
