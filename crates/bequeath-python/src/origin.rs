//! Which context an object was made by, for the one rule of strict mode that asks: the standard
//! library refuses a lock of a fork context to a child that is not forked.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::intern;
use crate::transfer;

/// Whether this object was made by a context that forks. What arrived from another process was not.
pub(crate) struct Origin(AtomicBool);

impl Origin {
    pub(crate) const fn unknown() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Notes what `ctx=` an object was made with.
    pub(crate) fn note(&self, ctx: Option<&Bound<'_, PyAny>>) {
        let forks = ctx.is_some_and(|ctx| {
            ctx.getattr(intern!(ctx.py(), "_name")).is_ok_and(|name| {
                name.cast::<PyString>()
                    .is_ok_and(|name| name.to_str().is_ok_and(|name| name == "fork"))
            })
        });
        self.0.store(forks, Ordering::Relaxed);
    }

    /// To be asked while an object is pickled for a start: only children that are not forked need that.
    ///
    /// # Errors
    /// In strict mode the standard library's RuntimeError for an object of a fork context.
    pub(crate) fn check(&self, py: Python<'_>) -> PyResult<()> {
        if self.0.load(Ordering::Relaxed) && transfer::is_strict(py)? {
            return Err(PyRuntimeError::new_err(
                "A SemLock created in a fork context is being shared with a process in a spawn \
                 context. This is not supported. Please use the same context to create \
                 multiprocessing objects and Process.",
            ));
        }
        Ok(())
    }
}
