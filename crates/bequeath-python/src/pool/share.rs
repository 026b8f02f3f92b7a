//! `Pool.share`: an object that tasks name, and each worker is sent once.
//!
//! A task that names one says so while it is pickled; the driver sends the object ahead to a worker that does not
//! have it. The worker's task gets the object itself, whose large buffers are one copy for all (`_pool_share.py`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::intern;

use super::driver::PoolDriver;

/// Above the numbers of functions of calls.
const FIRST: u64 = 1 << 63;

static NEXT: AtomicU64 = AtomicU64::new(FIRST);

thread_local! {
    /// What the task that is being pickled on this thread names; none when it is no task.
    static NAMED: RefCell<Option<Vec<u64>>> = const { RefCell::new(None) };
}

/// Stands for an object in tasks of one pool. While it lives, workers keep the object.
#[pyclass(frozen, module = "bequeath._engine", weakref)]
pub struct Shared {
    number: u64,
    object: Py<PyAny>,
    driver: Py<PoolDriver>,
}

#[pymethods]
impl Shared {
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, number) = (slf.py(), slf.get().number);
        let noted = NAMED.with_borrow_mut(|named| {
            let named = named.as_mut()?;
            if !named.contains(&number) {
                named.push(number);
            }
            Some(())
        });
        noted.ok_or_else(|| {
            PyRuntimeError::new_err(
                "what a pool shares goes along with the arguments of its tasks only, since nobody else would keep it: \
                 hand over the object itself, its `value`",
            )
        })?;
        let rebuild = py
            .import(intern!(py, "bequeath._pool_worker"))?
            .getattr(intern!(py, "shared"))?;
        Ok((rebuild, (number,)).into_pyobject(py)?.into_any())
    }

    /// The object.
    #[getter]
    fn value(&self, py: Python<'_>) -> Py<PyAny> {
        self.object.clone_ref(py)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        Python::attach(|py| self.driver.get().unshare(py, self.number));
    }
}

impl Shared {
    /// Stands for the object as it is now.
    ///
    /// # Errors
    /// What making its form raises.
    pub fn new(driver: &Bound<'_, PoolDriver>, object: Py<PyAny>) -> PyResult<Self> {
        let py = driver.py();
        let form = py
            .import(intern!(py, "bequeath._pool_share"))?
            .call_method1(intern!(py, "form"), (&object,))?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        driver.get().shares.held().insert(number, form.unbind());
        Ok(Self {
            number,
            object,
            driver: driver.clone().unbind(),
        })
    }
}

/// What tasks of one pool may name, by number.
#[derive(Default)]
pub struct Shares {
    held: Mutex<HashMap<u64, Py<PyAny>>>,
}

impl Shares {
    fn held(&self) -> MutexGuard<'_, HashMap<u64, Py<PyAny>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolDriver {
    /// What a task names by this number.
    pub(super) fn shared(&self, py: Python<'_>, number: u64) -> PyResult<Py<PyAny>> {
        let shares = self.shares.held();
        let found = shares.get(&number).map(|object| object.clone_ref(py));
        found.ok_or_else(|| PyValueError::new_err("this object is shared by another pool"))
    }

    fn unshare(&self, py: Python<'_>, number: u64) {
        let object = self.shares.held().remove(&number);
        drop(object.map(|object| object.into_bound(py)));
        if self.is_home() {
            let members = self.books().members();
            for member in members {
                member.undefine(number);
            }
        }
    }
}

/// Pickles a task, and says what it names.
///
/// # Errors
/// What `pickle` returns.
pub fn noting<T>(pickle: impl FnOnce() -> PyResult<T>) -> PyResult<(T, Vec<u64>)> {
    let outer = NAMED.with_borrow_mut(|named| named.replace(Vec::new()));
    let pickled = pickle();
    let named = NAMED.with_borrow_mut(|named| std::mem::replace(named, outer));
    Ok((pickled?, named.unwrap_or_default()))
}
