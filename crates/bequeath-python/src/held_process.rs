//! What watches a process that another one started: `Process._popen` of a process handle.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, PoisonError};

use bequeath_process::{ExitStatus, Handle};
use bequeath_shm::Session;
use bequeath_sync::ProcessId;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::process::{deadline, raise, take, uninterrupted};

const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A process of whatever parent, by descriptor; looks like what starts one.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct HeldProcess(Mutex<Option<Arc<Handle>>>);

impl HeldProcess {
    fn open(&self) -> PyResult<Arc<Handle>> {
        let handle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = || PyValueError::new_err("the process's descriptor is closed");
        handle.clone().ok_or_else(closed)
    }

    fn send(&self, signal: i32) -> PyResult<()> {
        self.open()?.send_signal(signal).map_err(raise)?;
        Ok(())
    }
}

#[pymethods]
impl HeldProcess {
    /// Takes the descriptor over. `start_ticks` and `known`, the exit code, are what the sender knew.
    #[new]
    #[pyo3(signature = (descriptor, pid, start_ticks=None, known=None))]
    fn new(
        descriptor: i32,
        pid: u32,
        start_ticks: Option<u32>,
        known: Option<i32>,
    ) -> PyResult<Self> {
        let descriptor = take(descriptor)?;
        let handle = match start_ticks {
            Some(ticks) => Handle::new(descriptor, pid, ticks),
            None => Handle::found(descriptor, pid),
        };
        if let Some(code) = known {
            handle.learn(ExitStatus::from_code(code));
        }
        Ok(Self(Mutex::new(Some(Arc::new(handle)))))
    }

    #[getter]
    fn pid(&self) -> PyResult<u32> {
        Ok(self.open()?.pid())
    }

    #[getter]
    fn start_ticks(&self) -> PyResult<u32> {
        Ok(self.open()?.start_ticks())
    }

    /// The exit code, if anybody has told it.
    #[getter]
    fn known(&self) -> PyResult<Option<i32>> {
        Ok(self.open()?.status().map(ExitStatus::code))
    }

    /// Readable when the process has ended.
    #[getter]
    fn sentinel(&self) -> PyResult<i32> {
        Ok(self.open()?.as_fd().as_raw_fd())
    }

    /// The exit code (a signal's number negated; 255 as long as nobody tells), or None when it has not
    /// ended in `timeout` seconds.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<i32>> {
        let handle = self.open()?;
        let deadline = deadline(timeout)?;
        let noted = || {
            let process = ProcessId::new(handle.pid(), handle.start_ticks())?;
            let code = Session::current()?.status_of(process)?;
            Some(ExitStatus::from_code(code))
        };
        let status = uninterrupted(py, || py.detach(|| handle.wait(deadline, noted)))?;
        Ok(status.map(ExitStatus::code))
    }

    /// The same without waiting.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        self.wait(py, Some(0.0))
    }

    fn interrupt(&self) -> PyResult<()> {
        self.send(SIGINT)
    }

    fn terminate(&self) -> PyResult<()> {
        self.send(SIGTERM)
    }

    fn kill(&self) -> PyResult<()> {
        self.send(SIGKILL)
    }

    /// Gives the descriptor back.
    fn close(&self) {
        let handle = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(handle);
    }
}
