//! Shared objects that a Rust program put into a message: which class they have here, their kind says.

use bequeath_shm::kind;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::error::EngineError;
use crate::intern;
use crate::queues::Queue;
use crate::shared_memory::rebuild_shared_bytes;
use crate::synchronize::{rebuild_synchronized, Barrier, Event, Lock, RLock, Semaphore};
use crate::transfer;

/// The object that a number of the message being received stands for.
///
/// # Errors
/// TypeError for what only Rust programs have, and what the transfer refuses.
#[pyfunction]
pub fn shared_object<'py>(py: Python<'py>, token: usize) -> PyResult<Bound<'py, PyAny>> {
    let handle = transfer::import(token)?;
    let synchronized =
        |class: &Bound<'py, PyType>, parts| rebuild_synchronized(class, token, parts);
    match handle.kind() {
        kind::QUEUE => {
            let class = py.get_type::<Queue>();
            let queue = class.call_method1(intern!(py, "__new__"), (&class,))?;
            // Who made it is nobody that multiprocessing knows.
            queue.call_method1(intern!(py, "__setstate__"), ((false, token, 0),))?;
            Ok(queue)
        }
        kind::MEMORY => Ok(Bound::new(py, rebuild_shared_bytes(token)?)?.into_any()),
        kind::LOCK => synchronized(&py.get_type::<Lock>(), Vec::new()),
        kind::RECURSIVE_LOCK => synchronized(&py.get_type::<RLock>(), Vec::new()),
        kind::SEMAPHORE => synchronized(&py.get_type::<Semaphore>(), Vec::new()),
        kind::EVENT => synchronized(&py.get_type::<Event>(), Vec::new()),
        kind::BARRIER => {
            let no_terms = vec![py.None().into_bound(py), py.None().into_bound(py)];
            synchronized(&py.get_type::<Barrier>(), no_terms)
        }
        kind::LOCKED_VALUE => Err(PyTypeError::new_err(
            "a Rust Lock<T> holds a value that no class here has: send a Lock<()>, which is a Lock here, and a Memory",
        )),
        kind::CONDITION => Err(PyTypeError::new_err(
            "a Rust Condition has no lock of its own, and a Condition here needs one: make it here and send it there",
        )),
        other => Err(EngineError::from(bequeath_shm::Error::WrongKind {
            reference: handle.reference(),
            found: other,
            wanted: kind::QUEUE,
        })
        .into()),
    }
}
