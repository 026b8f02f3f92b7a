//! What all the classes have in common: a handle that `__init__` fills in, and how it travels.

use std::sync::OnceLock;

use bequeath_shm::{Handle, Object};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::error::EngineError;
use crate::intern;
use crate::origin::Origin;
use crate::transfer;

/// A handle that is there once `__init__` ran, so that subclasses may have constructors of their own.
pub(super) struct Shared<T: Object> {
    handle: OnceLock<Handle<T>>,
    origin: Origin,
}

impl<T: Object> Shared<T> {
    pub(super) const fn empty() -> Self {
        Self {
            handle: OnceLock::new(),
            origin: Origin::unknown(),
        }
    }

    /// Makes the object in the session's memory.
    pub(super) fn create(
        &self,
        py: Python<'_>,
        ctx: Option<&Bound<'_, PyAny>>,
        initialise: impl FnOnce(&T),
    ) -> PyResult<()> {
        self.origin.note(ctx);
        let session = transfer::current_session(py)?;
        let handle = session
            .create_object(initialise)
            .map_err(EngineError::from)?;
        self.fill(handle);
        Ok(())
    }

    /// A second `__init__` changes nothing: others may hold the object already.
    pub(super) fn fill(&self, handle: Handle<T>) {
        let _ = self.handle.set(handle);
    }

    #[inline]
    pub(super) fn get(&self) -> PyResult<&Handle<T>> {
        match self.handle.get() {
            Some(handle) => {
                handle
                    .session()
                    .check_at_home()
                    .map_err(EngineError::from)?;
                Ok(handle)
            }
            None => Err(PyRuntimeError::new_err(
                "__init__() of the base class was not called",
            )),
        }
    }

    fn arrive(&self, token: usize) -> PyResult<()> {
        let handle = transfer::import(token)?
            .downcast()
            .map_err(EngineError::from)?;
        self.fill(handle);
        Ok(())
    }
}

/// The value of `__reduce__`: the class, a number for the object in the transfer, what else
/// `rebuild_synchronized` needs, and attributes that the program set.
pub(super) fn reduced<'py, T: Object>(
    object: &Bound<'py, PyAny>,
    shared: &Shared<T>,
    parts: Vec<Py<PyAny>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let token = transfer::export(object, &shared.get()?.erase())?;
    shared.origin.check(py)?;
    let rebuild = py
        .import(intern!(py, "bequeath._engine"))?
        .getattr(intern!(py, "rebuild_synchronized"))?;
    let arguments = (object.get_type(), token, parts).into_pyobject(py)?;
    let attributes = object.getattr(intern!(py, "__dict__"))?;
    if attributes.cast::<PyDict>()?.is_empty() {
        (rebuild, arguments).into_pyobject(py)
    } else {
        (rebuild, arguments, attributes).into_pyobject(py)
    }
}

/// Rebuilds what `reduced` took apart.
///
/// # Errors
/// TypeError for a class that is none of ours; what the transfer refuses.
#[pyfunction]
pub fn rebuild_synchronized<'py>(
    class: &Bound<'py, PyType>,
    token: usize,
    parts: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let object = class.call_method1(intern!(py, "__new__"), (class,))?;
    if let Ok(lock) = object.cast::<super::Lock>() {
        lock.get().shared.arrive(token)?;
    } else if let Ok(lock) = object.cast::<super::RLock>() {
        lock.get().shared.arrive(token)?;
    } else if let Ok(semaphore) = object.cast::<super::Semaphore>() {
        semaphore.get().shared.arrive(token)?;
    } else if let Ok(event) = object.cast::<super::Event>() {
        event.get().shared.arrive(token)?;
    } else if let Ok(condition) = object.cast::<super::Condition>() {
        condition.get().shared.arrive(token)?;
        condition.get().set_lock(part(&parts, 0)?)?;
    } else if let Ok(barrier) = object.cast::<super::Barrier>() {
        barrier.get().shared.arrive(token)?;
        barrier
            .get()
            .set_terms(Some(part(&parts, 0)?), Some(part(&parts, 1)?));
    } else {
        return Err(PyTypeError::new_err("not a class of bequeath.synchronize"));
    }
    Ok(object)
}

fn part<'a, 'py>(parts: &'a [Bound<'py, PyAny>], index: usize) -> PyResult<&'a Bound<'py, PyAny>> {
    parts
        .get(index)
        .ok_or_else(|| PyTypeError::new_err("the pickle lacks a part of the object"))
}

/// Whether the standard library's rules are in force.
pub(super) fn is_strict(py: Python<'_>) -> PyResult<bool> {
    py.import(intern!(py, "bequeath._settings"))?
        .getattr(intern!(py, "strict"))?
        .is_truthy()
}
