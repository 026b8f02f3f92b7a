//! `_semlock`: the private face of the standard library's locks that tests and libraries look at.

use std::sync::atomic::Ordering;

use bequeath_shm::Handle;
use bequeath_sync::semaphore::VALUE_MAX;
use pyo3::prelude::*;

use super::holdable;
use super::Semaphore;

/// What `lock._semlock` is.
#[pyclass(frozen, module = "bequeath._engine", name = "SemLockView")]
pub struct SemLockView(Of);

enum Of {
    Lock(Handle<bequeath_sync::Lock>),
    RLock(Handle<bequeath_sync::RecursiveLock>),
    Semaphore(Py<Semaphore>),
}

impl SemLockView {
    pub(super) fn of_lock(lock: &Handle<bequeath_sync::Lock>) -> Self {
        Self(Of::Lock(lock.clone()))
    }

    pub(super) fn of_rlock(lock: &Handle<bequeath_sync::RecursiveLock>) -> Self {
        Self(Of::RLock(lock.clone()))
    }

    pub(super) fn of_semaphore(semaphore: &Bound<'_, Semaphore>) -> Self {
        Self(Of::Semaphore(semaphore.clone().unbind()))
    }
}

#[pymethods]
impl SemLockView {
    #[classattr]
    const SEM_VALUE_MAX: u32 = VALUE_MAX;

    /// The object's offset in the session: unique among those alive.
    #[getter]
    fn handle(&self) -> PyResult<u64> {
        Ok(match &self.0 {
            Of::Lock(lock) => lock.reference().offset,
            Of::RLock(lock) => lock.reference().offset,
            Of::Semaphore(semaphore) => semaphore.get().shared.get()?.reference().offset,
        })
    }

    /// None: it has no name in the file system.
    #[getter]
    fn name(&self) -> Option<String> {
        None
    }

    /// 0 for an RLock, 1 for the others.
    #[getter]
    fn kind(&self) -> u8 {
        u8::from(!matches!(self.0, Of::RLock(_)))
    }

    #[getter]
    fn maxvalue(&self) -> PyResult<u32> {
        match &self.0 {
            Of::Semaphore(semaphore) => Ok(semaphore.get().shared.get()?.bound()),
            _ => Ok(1),
        }
    }

    fn _get_value(&self) -> PyResult<u32> {
        Ok(match &self.0 {
            Of::Lock(lock) => u32::from(lock.owner().is_none()),
            Of::RLock(lock) => u32::from(lock.owner().is_none()),
            Of::Semaphore(semaphore) => semaphore.get().shared.get()?.value(),
        })
    }

    fn _is_zero(&self) -> PyResult<bool> {
        Ok(self._get_value()? == 0)
    }

    fn _is_mine(&self) -> bool {
        match &self.0 {
            Of::Lock(lock) => lock.is_mine(),
            Of::RLock(lock) => lock.is_mine(),
            Of::Semaphore(_) => self._count() > 0,
        }
    }

    fn _count(&self) -> i64 {
        match &self.0 {
            Of::Lock(lock) => i64::from(lock.is_held_here()),
            Of::RLock(lock) if lock.is_held_here() => lock.depth().into(),
            Of::RLock(_) => 0,
            Of::Semaphore(semaphore) => semaphore.get().count.load(Ordering::Relaxed).max(0),
        }
    }

    fn _after_fork(&self) {}

    #[pyo3(signature = (block=None, timeout=None))]
    fn acquire(
        &self,
        py: Python<'_>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        match &self.0 {
            Of::Lock(lock) => holdable::acquire(py, &**lock, block, timeout),
            Of::RLock(lock) => holdable::acquire(py, &**lock, block, timeout),
            Of::Semaphore(semaphore) => semaphore.get().acquire(py, block, timeout),
        }
    }

    fn release(&self) -> PyResult<()> {
        match &self.0 {
            Of::Lock(lock) => holdable::release(&**lock),
            Of::RLock(lock) => holdable::release(&**lock),
            Of::Semaphore(semaphore) => semaphore.get().give(),
        }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, None, None)
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.release()
    }
}
