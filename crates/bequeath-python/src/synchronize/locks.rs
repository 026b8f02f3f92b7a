//! `multiprocessing.Lock` and `RLock`: one class written once, over two kinds of engine lock.
//!
//! `acquire`, `release`, `__enter__` and `__exit__` are not among the methods here: they are bare C functions
//! (`quick.rs`) that call [`Lock::take`] and its neighbours.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::holdable;
use super::owner_name::{class_name, Seen};
use super::shared::{reduced, Shared};
use super::view::SemLockView;
use crate::error::EngineError;

macro_rules! lock_class {
    ($(#[$about:meta])* $class:ident, $engine:ty, $view:ident, $tell:ident) => {
        $(#[$about])*
        ///
        /// After its holder was killed, `acquire` raises `AbandonedLock` without taking it, until `recover()`
        /// takes it or `release()` frees it. With `on_abandoned="recover"` `acquire` takes it over, with one
        /// RuntimeWarning, and `abandoned` is true until it is released.
        #[pyclass(frozen, subclass, dict, weakref, module = "bequeath.synchronize")]
        pub struct $class {
            pub(super) shared: Shared<$engine>,
        }

        impl $class {
            const fn empty() -> Self {
                Self {
                    shared: Shared::empty(),
                }
            }

            /// `acquire()` without arguments.
            #[inline]
            pub(crate) fn take(&self, py: Python<'_>) -> PyResult<bool> {
                holdable::enter(py, &**self.shared.get()?)
            }

            /// `acquire(block=True, timeout=None)`.
            pub(crate) fn acquire(
                &self,
                py: Python<'_>,
                block: Option<&Bound<'_, PyAny>>,
                timeout: Option<&Bound<'_, PyAny>>,
            ) -> PyResult<bool> {
                holdable::acquire(py, &**self.shared.get()?, block, timeout)
            }

            /// `release()`.
            #[inline]
            pub(crate) fn give(&self) -> PyResult<()> {
                holdable::release(&**self.shared.get()?)
            }
        }

        #[pymethods]
        impl $class {
            #[new]
            #[pyo3(signature = (*_args, **_kwargs), text_signature = "(*, ctx=None, on_abandoned='raise')")]
            fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
                Self::empty()
            }

            #[pyo3(signature = (*, ctx=None, on_abandoned="raise"))]
            fn __init__(
                &self,
                py: Python<'_>,
                ctx: Option<&Bound<'_, PyAny>>,
                on_abandoned: &str,
            ) -> PyResult<()> {
                self.shared.create(py, ctx, |_| ())?;
                holdable::set_on_abandoned(&**self.shared.get()?, on_abandoned)
            }

            /// Whether somebody holds it.
            fn locked(&self) -> PyResult<bool> {
                Ok(self.shared.get()?.owner().is_some())
            }

            /// Take a lock whose holder was killed; what it protects may be half written.
            fn recover(&self) -> PyResult<()> {
                Ok(self.shared.get()?.recover().map_err(EngineError::from)?)
            }

            /// Whether what it protects may be half written: its holder was killed, or took it from one that was.
            #[getter]
            fn abandoned(&self) -> PyResult<bool> {
                Ok(self.shared.get()?.is_doubtful())
            }

            #[getter]
            fn _semlock(&self) -> PyResult<SemLockView> {
                Ok(SemLockView::$view(self.shared.get()?))
            }

            fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
                let class = class_name(slf.as_any())?;
                let lock = slf.get().shared.get().ok();
                let seen = |lock: &$engine| Seen::of(lock.owner(), lock.abandoned_by(), lock.is_mine());
                let told = $tell(slf.py(), lock.map(|lock| (seen(lock), &**lock)))?;
                Ok(format!("<{class}({told})>"))
            }

            fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
                reduced(slf.as_any(), &slf.get().shared, Vec::new())
            }
        }
    };
}

lock_class!(
    /// A lock that any process and thread may release.
    Lock,
    bequeath_sync::Lock,
    of_lock,
    holder
);

lock_class!(
    /// A lock that its holding thread may take again.
    RLock,
    bequeath_sync::RecursiveLock,
    of_rlock,
    holder_and_count
);

impl RLock {
    /// A ready one, for a condition that was given none.
    pub(super) fn ready(py: Python<'_>) -> PyResult<Self> {
        let lock = Self::empty();
        lock.shared.create(py, None, |_| ())?;
        Ok(lock)
    }

    /// Whether this thread holds it.
    #[inline]
    pub(crate) fn is_mine(&self) -> PyResult<bool> {
        Ok(self.shared.get()?.is_mine())
    }
}

fn holder(py: Python<'_>, lock: Option<(Seen, &bequeath_sync::Lock)>) -> PyResult<String> {
    let owner = lock.map_or_else(|| Ok("unknown".to_owned()), |(owner, _)| owner.name(py))?;
    Ok(format!("owner={owner}"))
}

fn holder_and_count(
    py: Python<'_>,
    lock: Option<(Seen, &bequeath_sync::RecursiveLock)>,
) -> PyResult<String> {
    let Some((owner, lock)) = lock else {
        return Ok("unknown, unknown".to_owned());
    };
    let count = match &owner {
        Seen::Free => "0".to_owned(),
        Seen::Me => lock.depth().to_string(),
        _ => "nonzero".to_owned(),
    };
    Ok(format!("{}, {count}", owner.name(py)?))
}
