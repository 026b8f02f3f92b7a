//! What a signal handler raises in a thread that is doing something for somebody else's task, such as pickling it.
//!
//! It belongs to whoever called in this thread, not to that task: what it broke off is done again, and the call
//! raises it when all is in order. The driver's thread runs no handlers; what is raised there is the task's.

use std::cell::{Cell, RefCell};

use pyo3::exceptions::PyException;
use pyo3::prelude::*;

thread_local! {
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
    static DRIVES: Cell<bool> = const { Cell::new(false) };
}

/// Called once by the driver's thread.
pub fn this_thread_drives() {
    DRIVES.set(true);
}

/// Does it, and once more if something other than an `Exception` came in between, which is kept for [`raise`].
///
/// # Errors
/// What `what` returns.
pub fn twice<T>(py: Python<'_>, mut what: impl FnMut() -> PyResult<T>) -> PyResult<T> {
    match what() {
        Err(error) if !DRIVES.get() && !error.is_instance_of::<PyException>(py) => {
            let former = RAISED.replace(Some(error));
            drop(former);
            what()
        }
        done => done,
    }
}

/// At the end of a call.
///
/// # Errors
/// What was kept.
pub fn raise() -> PyResult<()> {
    RAISED.take().map_or(Ok(()), Err)
}
