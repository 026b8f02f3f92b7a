//! `multiprocessing.Barrier`.

use bequeath_sync::Error;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::shared::{reduced, Shared};
use crate::blocking;
use crate::error::EngineError;
use crate::filled_once::FilledOnce;

/// A place where a number of processes wait for each other, again and again.
#[pyclass(frozen, subclass, dict, weakref, module = "bequeath.synchronize")]
pub struct Barrier {
    pub(super) shared: Shared<bequeath_sync::Barrier>,
    terms: FilledOnce<Terms>,
}

/// What `__init__` was given besides the number of parties.
struct Terms {
    action: Option<Py<PyAny>>,
    timeout: Option<Py<PyAny>>,
}

impl Barrier {
    /// What `__init__` was given besides the number of parties.
    pub(super) fn set_terms(
        &self,
        action: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) {
        let given = |term: Option<&Bound<'_, PyAny>>| {
            term.filter(|term| !term.is_none())
                .map(|term| term.clone().unbind())
        };
        self.terms.set(Terms {
            action: given(action),
            timeout: given(timeout),
        });
    }

    fn action(&self) -> Option<&Py<PyAny>> {
        self.terms.get().and_then(|terms| terms.action.as_ref())
    }

    fn timeout(&self) -> Option<&Py<PyAny>> {
        self.terms.get().and_then(|terms| terms.timeout.as_ref())
    }

    /// Runs the action and lets all go; an action that raises breaks the barrier.
    fn let_go(&self, py: Python<'_>, arrival: bequeath_sync::barrier::Arrival) -> PyResult<()> {
        let barrier = self.shared.get()?;
        if let Some(action) = self.action() {
            if let Err(raised) = action.call0(py) {
                barrier.abort();
                return Err(raised);
            }
        }
        Ok(barrier.pass(arrival).map_err(EngineError::from)?)
    }
}

/// A broken barrier says who had come and how many were missing.
fn explained(py: Python<'_>, error: EngineError, barrier: &bequeath_sync::Barrier) -> EngineError {
    let (arrived, parties, names) = barrier.present();
    let told = matches!(error, EngineError::Sync(Error::Broken)) && barrier.is_broken();
    if !told || arrived >= parties {
        return error;
    }
    let pids: Vec<String> = names.iter().map(|name| name.pid().to_string()).collect();
    let text = format!(
        "{arrived} of {parties} parties had come (processes {}), {} were missing",
        pids.join(", "),
        parties - arrived
    );
    let raised = py
        .import("threading")
        .and_then(|module| module.getattr("BrokenBarrierError")?.call1((text,)));
    raised.map_or(error, |value| EngineError::Raised(PyErr::from_value(value)))
}

#[pymethods]
impl Barrier {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(parties, action=None, timeout=None, *, ctx=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            shared: Shared::empty(),
            terms: FilledOnce::empty(),
        }
    }

    #[pyo3(signature = (parties, action=None, timeout=None, *, ctx=None))]
    fn __init__(
        &self,
        py: Python<'_>,
        parties: i64,
        action: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
        ctx: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let parties = u64::try_from(parties).ok().filter(|parties| *parties > 0);
        let parties = parties.ok_or_else(|| PyValueError::new_err("parties must be > 0"))?;
        self.set_terms(action, timeout);
        let mut outcome = Ok(());
        self.shared
            .create(py, ctx, |barrier: &bequeath_sync::Barrier| {
                outcome = barrier.init(parties)
            })?;
        Ok(outcome.map_err(EngineError::from)?)
    }

    /// Wait for the others; a number from 0 to parties - 1, a different one for each.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
        let usual = self.timeout().map(|timeout| timeout.bind(py));
        let deadline = blocking::deadline(timeout.or(usual))?;
        let barrier = &**self.shared.get()?;
        let arrival = blocking::wait(py, "Barrier", |interrupt| barrier.arrive(interrupt))
            .map_err(|error| explained(py, error, barrier))?;
        if arrival.is_last {
            self.let_go(py, arrival)?;
        } else {
            let passed = blocking::wait::<(), Error>(py, "Barrier", |interrupt| {
                barrier.wait_passed(arrival, deadline, interrupt)
            });
            passed.map_err(|error| explained(py, error, barrier))?;
        }
        Ok(arrival.index)
    }

    /// Make it empty and whole; who waits gets BrokenBarrierError.
    fn reset(&self) -> PyResult<()> {
        self.shared.get()?.reset();
        Ok(())
    }

    /// Break it: who waits and who comes gets BrokenBarrierError.
    fn abort(&self) -> PyResult<()> {
        self.shared.get()?.abort();
        Ok(())
    }

    /// How many it takes.
    #[getter]
    fn parties(&self) -> PyResult<u64> {
        Ok(self.shared.get()?.parties())
    }

    /// How many wait now.
    #[getter]
    fn n_waiting(&self) -> PyResult<u64> {
        Ok(self.shared.get()?.waiting())
    }

    /// Whether it is broken.
    #[getter]
    fn broken(&self) -> PyResult<bool> {
        Ok(self.shared.get()?.is_broken())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (module, name) = (slf.get_type().module()?, slf.get_type().qualname()?);
        let barrier = slf.get().shared.get()?;
        let state = if barrier.is_broken() {
            "broken".to_owned()
        } else {
            format!("waiters={}/{}", barrier.waiting(), barrier.parties())
        };
        Ok(format!(
            "<{module}.{name} at {:#x}: {state}>",
            slf.as_ptr() as usize
        ))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        let term =
            |term: Option<&Py<PyAny>>| term.map_or_else(|| py.None(), |term| term.clone_ref(py));
        let terms = vec![term(slf.get().action()), term(slf.get().timeout())];
        reduced(slf.as_any(), &slf.get().shared, terms)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(terms) = self.terms.seen_by_collector() else {
            return Ok(());
        };
        visit.call(&terms.action)?;
        visit.call(&terms.timeout)
    }
}
