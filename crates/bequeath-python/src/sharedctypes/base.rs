//! What all synchronized wrappers are: an object and its lock.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::guard::Guard;
use super::simple::Simple;
use crate::filled_once::FilledOnce;
use crate::intern;
use crate::transfer;

/// A ctypes object in shared memory together with the lock that guards it.
#[pyclass(frozen, subclass, dict, weakref, module = "bequeath.sharedctypes")]
pub struct SynchronizedBase(FilledOnce<Parts>);

pub(super) struct Parts {
    pub(super) object: Py<PyAny>,
    guard: Guard,
    pub(super) simple: Option<Simple>,
}

impl SynchronizedBase {
    pub(super) const fn empty() -> Self {
        Self(FilledOnce::empty())
    }

    #[inline]
    pub(super) fn parts(&self) -> PyResult<&Parts> {
        self.0
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("__init__() of the base class was not called"))
    }

    #[inline]
    pub(crate) fn lock(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.parts()?.guard.object().clone_ref(py))
    }

    /// Runs `act` with the lock held, as `with self:` does.
    #[inline(always)]
    pub(super) fn locked<T>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&Parts) -> PyResult<T>,
    ) -> PyResult<T> {
        let parts = self.parts()?;
        parts.guard.held(py, || act(parts))
    }
}

#[pymethods]
impl SynchronizedBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(obj, lock=None, ctx=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::empty()
    }

    #[pyo3(signature = (obj, lock=None, ctx=None))]
    fn __init__(
        slf: &Bound<'_, Self>,
        obj: Bound<'_, PyAny>,
        lock: Option<Bound<'_, PyAny>>,
        ctx: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let lock = match lock {
            Some(lock) if lock.is_truthy()? => lock,
            _ => default_lock(py, ctx)?,
        };
        let simple = Simple::of(&obj)?;
        let parts = Parts {
            object: obj.unbind(),
            guard: Guard::new(&lock),
            simple,
        };
        slf.get().0.set(parts);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(parts) = self.0.seen_by_collector() {
            visit.call(&parts.object)?;
            visit.call(parts.guard.object())?;
        }
        Ok(())
    }

    #[getter]
    fn _obj(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.parts()?.object.clone_ref(py))
    }

    #[getter]
    fn _lock(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.lock(py)
    }

    /// The ctypes object without the lock.
    fn get_obj(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self._obj(py)
    }

    /// The lock that guards the object.
    fn get_lock(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.lock(py)
    }

    /// The lock's `acquire`.
    #[pyo3(signature = (*args, **kwargs))]
    fn acquire(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        self.parts()?
            .guard
            .object()
            .call_method(py, intern!(py, "acquire"), args, kwargs)
    }

    /// The lock's `release`.
    fn release(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.parts()?
            .guard
            .object()
            .call_method0(py, intern!(py, "release"))
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.parts()?.guard.enter(py)
    }

    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None, /))]
    fn __exit__<'py>(
        &self,
        py: Python<'py>,
        exc_type: Option<&Bound<'py, PyAny>>,
        exc_value: Option<&Bound<'py, PyAny>>,
        traceback: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.parts()?
            .guard
            .exit(py, [exc_type, exc_value, traceback])
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let class = slf.get_type().name()?;
        let object = slf.get().parts()?.object.bind(slf.py()).str()?;
        Ok(format!("<{class} wrapper for {object}>"))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        transfer::check(slf.as_any())?;
        let parts = slf.get().parts()?;
        let rebuild = py
            .import(intern!(py, "bequeath.sharedctypes"))?
            .getattr(intern!(py, "synchronized"))?;
        (rebuild, (&parts.object, parts.guard.object())).into_pyobject(py)
    }
}

fn default_lock<'py>(
    py: Python<'py>,
    ctx: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let ctx = match ctx {
        Some(ctx) if ctx.is_truthy()? => ctx,
        _ => py
            .import(intern!(py, "bequeath"))?
            .call_method0(intern!(py, "get_context"))?,
    };
    ctx.call_method0(intern!(py, "RLock"))
}
