//! The lock of a wrapper: ours is taken and released without a Python call, any other by its methods.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::intern;
use crate::synchronize::{Lock, RLock};

pub(super) enum Guard {
    Plain(Py<Lock>),
    Recursive(Py<RLock>),
    /// A subclass, which may do more, or a lock of the program's own.
    Foreign(Py<PyAny>),
}

impl Guard {
    pub(super) fn new(lock: &Bound<'_, PyAny>) -> Self {
        if let Ok(lock) = lock.cast_exact::<RLock>() {
            Self::Recursive(lock.clone().unbind())
        } else if let Ok(lock) = lock.cast_exact::<Lock>() {
            Self::Plain(lock.clone().unbind())
        } else {
            Self::Foreign(lock.clone().unbind())
        }
    }

    pub(super) fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Plain(lock) => lock.as_any(),
            Self::Recursive(lock) => lock.as_any(),
            Self::Foreign(lock) => lock,
        }
    }

    /// Runs `act` between the lock's `acquire` and `release`.
    #[inline(always)]
    pub(super) fn held<T>(&self, py: Python<'_>, act: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        match self {
            Self::Recursive(lock) => {
                let lock = lock.get();
                // Counting up and down again would change nothing that anybody can see.
                if lock.is_mine()? {
                    return act();
                }
                lock.take(py)?;
                let result = act();
                lock.give()?;
                result
            }
            Self::Plain(lock) => {
                lock.get().take(py)?;
                let result = act();
                lock.get().give()?;
                result
            }
            Self::Foreign(lock) => {
                lock.call_method0(py, intern!(py, "acquire"))?;
                let result = act();
                lock.call_method0(py, intern!(py, "release"))?;
                result
            }
        }
    }

    /// The lock's `__enter__`.
    pub(super) fn enter<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let taken = match self {
            Self::Plain(lock) => lock.get().take(py)?,
            Self::Recursive(lock) => lock.get().take(py)?,
            Self::Foreign(lock) => return lock.bind(py).call_method0(intern!(py, "__enter__")),
        };
        Ok(taken.into_pyobject(py)?.to_owned().into_any())
    }

    /// The lock's `__exit__`.
    pub(super) fn exit<'py>(
        &self,
        py: Python<'py>,
        reason: [Option<&Bound<'py, PyAny>>; 3],
    ) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Plain(lock) => lock.get().give()?,
            Self::Recursive(lock) => lock.get().give()?,
            Self::Foreign(lock) => {
                let reason = PyTuple::new(py, reason)?;
                return lock.bind(py).call_method1(intern!(py, "__exit__"), reason);
            }
        }
        Ok(py.None().into_bound(py))
    }
}
