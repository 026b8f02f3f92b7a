#![allow(unsafe_code)]
//! Waiting as Python must wait: detached from the interpreter, with signals let in, against an
//! absolute deadline.
//!
//! # Safety invariants
//! The one raw call asks the interpreter whether it is ending; it takes nothing, needs no attached
//! thread and is there in every supported version, under one of two names.

use std::ffi::c_int;
use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_sync::{Holder, Interrupt, Interrupted};
use pyo3::exceptions::{PyRuntimeWarning, PyValueError};
use pyo3::prelude::*;

use crate::error::{EngineError, Result};

/// Runs `wait` detached. Its interrupt runs Python's signal handlers after a signal and after each
/// slice; what a handler raises ends the wait and is raised by us. Call it with nothing held.
///
/// # Errors
/// What `wait` returns, or what a signal handler raised.
pub fn wait<T, E>(
    py: Python<'_>,
    what: &'static str,
    wait: impl FnOnce(&mut dyn Interrupt) -> std::result::Result<T, E> + Send,
) -> Result<T>
where
    T: Send,
    E: Into<EngineError> + Send,
{
    let mut signals = Signals {
        what,
        raised: None,
        ending: is_ending(),
    };
    let result = py.detach(|| {
        let result = wait(&mut signals);
        signals.stay_if_ending();
        result
    });
    match signals.raised {
        Some(raised) => Err(EngineError::Raised(raised)),
        None => result.map_err(Into::into),
    }
}

struct Signals {
    what: &'static str,
    raised: Option<PyErr>,
    /// The interpreter was ending already when the wait began: then it is ending *in* this thread.
    ending: bool,
}

impl Signals {
    /// A daemon thread must not touch an interpreter that is ending: CPython would end the thread in
    /// a way that cannot pass through Rust. It stays here until the process is gone.
    fn stay_if_ending(&self) {
        if !self.ending && is_ending() {
            loop {
                std::thread::park();
            }
        }
    }

    fn attached(
        &mut self,
        act: impl FnOnce(Python<'_>) -> PyResult<()>,
    ) -> std::result::Result<(), Interrupted> {
        self.stay_if_ending();
        Python::attach(act).map_err(|raised| {
            self.raised = Some(raised);
            Interrupted
        })
    }
}

impl Interrupt for Signals {
    fn check(&mut self) -> std::result::Result<(), Interrupted> {
        if self.raised.is_some() {
            return Err(Interrupted);
        }
        self.attached(|py| py.check_signals())
    }

    fn long_wait(&mut self, holder: Holder) {
        if self.raised.is_some() {
            return;
        }
        let (what, pid) = (self.what, holder.process.pid());
        // A warning that a filter turns into an exception ends the wait at its next check.
        let _ = self.attached(|py| {
            if holder.exited_in_order {
                let text = format!(
                    "waiting for a {what} that process {pid} acquired and did not release before it exited"
                );
                let text = std::ffi::CString::new(text)?;
                PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1)
            } else {
                let text = format!("waiting for a {what} that process {pid} holds");
                py.import("bequeath.util")?.call_method1("debug", (text,)).map(|_| ())
            }
        });
    }
}

/// Whether the interpreter is ending.
#[must_use]
pub fn is_ending() -> bool {
    #[cfg(Py_3_13)]
    use pyo3::ffi::Py_IsFinalizing;
    #[cfg(not(Py_3_13))]
    extern "C" {
        #[link_name = "_Py_IsFinalizing"]
        fn Py_IsFinalizing() -> c_int;
    }
    // SAFETY: takes nothing, reads one word of the runtime, and may be called by any thread.
    let ending: c_int = unsafe { Py_IsFinalizing() };
    ending != 0
}

/// multiprocessing's `timeout`: None waits for ever, a negative one not at all, one beyond the clock
/// for ever.
///
/// # Errors
/// TypeError for what is no number, ValueError for NaN.
pub fn deadline(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Deadline> {
    match timeout {
        None => Ok(Deadline::NEVER),
        Some(timeout) if timeout.is_none() => Ok(Deadline::NEVER),
        Some(timeout) => deadline_after(timeout.extract()?),
    }
}

/// The same for seconds.
///
/// # Errors
/// ValueError for NaN.
pub fn deadline_after(seconds: f64) -> PyResult<Deadline> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
    }
    if seconds <= 0.0 {
        return Ok(Deadline::PAST);
    }
    Ok(Duration::try_from_secs_f64(seconds).map_or(Deadline::NEVER, Deadline::after))
}
