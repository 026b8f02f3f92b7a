//! `multiprocessing.Event`.

use bequeath_os::Deadline;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::holdable::acquired;
use super::shared::{reduced, Shared};
use crate::blocking;

/// A flag that any number of processes wait for.
#[pyclass(frozen, subclass, dict, weakref, module = "bequeath.synchronize")]
pub struct Event {
    pub(super) shared: Shared<bequeath_sync::Event>,
}

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(*, ctx=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            shared: Shared::empty(),
        }
    }

    #[pyo3(signature = (*, ctx=None))]
    fn __init__(&self, py: Python<'_>, ctx: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.shared.create(py, ctx, |_| ())
    }

    /// Whether it is set.
    fn is_set(&self) -> PyResult<bool> {
        Ok(self.shared.get()?.is_set())
    }

    /// Set it and wake everybody who waits.
    fn set(&self) -> PyResult<()> {
        self.shared.get()?.set();
        Ok(())
    }

    /// Clear it.
    fn clear(&self) -> PyResult<()> {
        self.shared.get()?.clear();
        Ok(())
    }

    /// Wait until it is set; false when the timeout passed first.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let deadline = blocking::deadline(timeout)?;
        let event = &**self.shared.get()?;
        if event.is_set() {
            return Ok(true);
        }
        if deadline == Deadline::PAST {
            return Ok(false);
        }
        acquired(blocking::wait(py, "Event", |interrupt| {
            event.wait(deadline, interrupt)
        }))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let name = slf.get_type().qualname()?;
        let state = if slf.get().is_set()? { "set" } else { "unset" };
        Ok(format!("<{name} at {:#x} {state}>", slf.as_ptr() as usize))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        reduced(slf.as_any(), &slf.get().shared, Vec::new())
    }
}
