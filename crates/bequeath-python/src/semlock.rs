//! `_multiprocessing.SemLock`: a named POSIX semaphore, for libraries that take it from CPython's
//! private module (loky does). It is not robust: nothing of ours is built on it.

use std::ffi::CString;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bequeath_os::futex::Wait;
use bequeath_os::named_semaphore::{self, invalid_value, NamedSemaphore, VALUE_MAX};
use bequeath_os::Deadline;
use bequeath_sync::owner::thread_number;
use bequeath_sync::park::SLICE;
use bequeath_sync::{Error, Interrupt};
use pyo3::exceptions::{PyAssertionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::blocking;
use crate::error::EngineError;

const RECURSIVE_MUTEX: i32 = 0;
const SEMAPHORE: i32 = 1;

/// A named POSIX semaphore, or a recursive mutex made of one.
#[pyclass(frozen, subclass, module = "_multiprocessing")]
pub struct SemLock {
    semaphore: NamedSemaphore,
    /// 0 for a recursive mutex, 1 for a semaphore.
    #[pyo3(get)]
    kind: i32,
    #[pyo3(get)]
    maxvalue: i32,
    #[pyo3(get)]
    name: Option<String>,
    /// Acquired minus released by this process, and the thread that acquired last.
    count: AtomicI64,
    thread: AtomicU64,
}

impl SemLock {
    fn opened(semaphore: NamedSemaphore, kind: i32, maxvalue: i32, name: Option<String>) -> Self {
        let (count, thread) = (AtomicI64::new(0), AtomicU64::new(0));
        Self {
            semaphore,
            kind,
            maxvalue,
            name,
            count,
            thread,
        }
    }

    fn acquired(&self) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.thread.store(thread_number(), Ordering::Relaxed);
        true
    }

    fn wait(&self, py: Python<'_>, deadline: Deadline) -> PyResult<bool> {
        let semaphore = &self.semaphore;
        let result = blocking::wait(py, "SemLock", |interrupt| {
            wait_for_unit(semaphore, deadline, interrupt)
        });
        Ok(result? && self.acquired())
    }
}

fn wait_for_unit(
    semaphore: &NamedSemaphore,
    deadline: Deadline,
    interrupt: &mut dyn Interrupt,
) -> Result<bool, EngineError> {
    loop {
        let slice = deadline.remaining().map_or(SLICE, |left| left.min(SLICE));
        match semaphore.wait_slice(slice)? {
            Wait::Woken => return Ok(true),
            Wait::TimedOut if deadline.is_past() => return Ok(false),
            _ => interrupt.check().map_err(Error::from)?,
        }
    }
}

fn c_name(name: &str) -> PyResult<CString> {
    CString::new(name).map_err(|_| PyValueError::new_err("embedded null character"))
}

#[pymethods]
impl SemLock {
    #[classattr]
    const SEM_VALUE_MAX: u32 = VALUE_MAX;

    #[new]
    #[pyo3(signature = (kind, value, maxvalue, name, unlink))]
    fn new(kind: i32, value: i32, maxvalue: i32, name: &str, unlink: bool) -> PyResult<Self> {
        if kind != RECURSIVE_MUTEX && kind != SEMAPHORE {
            return Err(PyValueError::new_err("unrecognized kind"));
        }
        let value = u32::try_from(value).map_err(|_| EngineError::from(invalid_value()))?;
        let path = c_name(name)?;
        let semaphore = NamedSemaphore::create(&path, value).map_err(EngineError::from)?;
        if unlink {
            named_semaphore::unlink(&path).map_err(EngineError::from)?;
        }
        Ok(Self::opened(
            semaphore,
            kind,
            maxvalue,
            (!unlink).then(|| name.to_owned()),
        ))
    }

    /// Opens by name what another process made.
    #[classmethod]
    fn _rebuild<'py>(
        class: &Bound<'py, PyType>,
        handle: &Bound<'py, PyAny>,
        kind: i32,
        maxvalue: i32,
        name: Option<&str>,
    ) -> PyResult<Bound<'py, Self>> {
        let _ = (class, handle);
        let name = name
            .ok_or_else(|| PyValueError::new_err("a semaphore without a name cannot be opened"))?;
        let semaphore = NamedSemaphore::open(&c_name(name)?).map_err(EngineError::from)?;
        Bound::new(
            class.py(),
            Self::opened(semaphore, kind, maxvalue, Some(name.to_owned())),
        )
    }

    #[getter]
    fn handle(&self) -> usize {
        self.semaphore.address()
    }

    /// Take a unit.
    #[pyo3(signature = (block=None, timeout=None), text_signature = "($self, block=True, timeout=None)")]
    fn acquire(
        &self,
        py: Python<'_>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        if self.kind == RECURSIVE_MUTEX && self._is_mine() {
            return Ok(self.acquired());
        }
        let deadline = blocking::deadline(timeout)?;
        let blocks =
            block.map_or(Ok(true), |block| block.is_truthy())? && deadline != Deadline::PAST;
        if self.semaphore.try_wait().map_err(EngineError::from)? {
            return Ok(self.acquired());
        }
        if blocks {
            self.wait(py, deadline)
        } else {
            Ok(false)
        }
    }

    /// Give a unit.
    fn release(&self) -> PyResult<()> {
        if self.kind == RECURSIVE_MUTEX {
            if !self._is_mine() {
                return Err(PyAssertionError::new_err(
                    "attempt to release recursive lock not owned by thread",
                ));
            }
            if self._count() > 1 {
                self.count.fetch_sub(1, Ordering::Relaxed);
                return Ok(());
            }
        } else if i64::from(self._get_value()?) >= i64::from(self.maxvalue) {
            return Err(PyValueError::new_err(
                "semaphore or lock released too many times",
            ));
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        Ok(self.semaphore.post().map_err(EngineError::from)?)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, None, None)
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release()
    }

    fn _count(&self) -> i64 {
        self.count.load(Ordering::Relaxed)
    }

    fn _is_mine(&self) -> bool {
        self._count() > 0 && self.thread.load(Ordering::Relaxed) == thread_number()
    }

    fn _get_value(&self) -> PyResult<u32> {
        Ok(self.semaphore.value().map_err(EngineError::from)?)
    }

    fn _is_zero(&self) -> PyResult<bool> {
        Ok(self._get_value()? == 0)
    }

    fn _after_fork(&self) {
        self.count.store(0, Ordering::Relaxed);
    }
}

/// Removes the name of a semaphore.
#[pyfunction]
pub fn sem_unlink(name: &str) -> PyResult<()> {
    Ok(named_semaphore::unlink(&c_name(name)?).map_err(EngineError::from)?)
}
