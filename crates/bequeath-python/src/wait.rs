#![allow(unsafe_code)]
//! `connection.wait`: which of several connections, queues' readers, sentinels and sockets are ready.
//!
//! # Safety invariants
//! Descriptors are numbers that the program answers for; they are lent to `poll`, which reports one
//! that is not open.

use std::os::fd::{BorrowedFd, RawFd};

use bequeath_channel::stream::Error;
use bequeath_os::poll::{self, Events};
use bequeath_os::Deadline;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList};

use crate::blocking;
use crate::connection::Connection;
use crate::intern;

/// Wait till an object in `object_list` is ready/readable.
///
/// Returns the list of those objects in `object_list` which are ready/readable.
#[pyfunction]
#[pyo3(signature = (object_list, timeout = None))]
pub fn wait<'py>(
    object_list: &Bound<'py, PyAny>,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyList>> {
    let py = object_list.py();
    let objects = object_list
        .try_iter()?
        .collect::<PyResult<Vec<Bound<'py, PyAny>>>>()?;
    let descriptors = objects
        .iter()
        .map(descriptor)
        .collect::<PyResult<Vec<BorrowedFd<'static>>>>()?;
    let deadline = timeout.map_or(Ok(Deadline::NEVER), blocking::deadline_after)?;
    loop {
        let ready = wait_readable(py, &descriptors, deadline)?;
        let mut found = Vec::new();
        for (object, ready) in objects.iter().zip(&ready) {
            if *ready && is_really_ready(object)? {
                found.push(object);
            }
        }
        if !found.is_empty() || !ready.contains(&true) || deadline.is_past() {
            return PyList::new(py, found);
        }
    }
}

fn wait_readable(
    py: Python<'_>,
    descriptors: &[BorrowedFd<'static>],
    deadline: Deadline,
) -> PyResult<Vec<bool>> {
    let wanted: Vec<_> = descriptors.iter().map(|fd| (*fd, Events::IN)).collect();
    let events = blocking::wait(py, "message", |interrupt| loop {
        match poll::wait(&wanted, deadline) {
            Err(error) if error.is_interrupted() => interrupt.check().map_err(Error::from)?,
            other => return other.map_err(Error::from),
        }
    })?;
    Ok(events.iter().map(|came| !came.is_empty()).collect())
}

/// A queue's descriptor may be readable although somebody else took the message.
fn is_really_ready(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    match object.getattr_opt(intern!(py, "_is_ready"))? {
        Some(asks) => asks.call0()?.is_truthy(),
        None => Ok(true),
    }
}

fn descriptor(object: &Bound<'_, PyAny>) -> PyResult<BorrowedFd<'static>> {
    if let Ok(connection) = object.cast::<Connection>() {
        return connection.get().descriptor();
    }
    let number: RawFd = if object.is_instance_of::<PyInt>() {
        object.extract()?
    } else {
        let fileno = object
            .getattr(intern!(object.py(), "fileno"))
            .and_then(|fileno| fileno.call0()?.extract::<RawFd>());
        match fileno {
            Ok(number) => number,
            Err(error) if error.is_instance_of::<pyo3::exceptions::PyOSError>(object.py()) => {
                return Err(error);
            }
            Err(_) => {
                let text = format!("Invalid file object: {}", object.repr()?);
                return Err(PyValueError::new_err(text));
            }
        }
    };
    if number < 0 {
        return Err(PyValueError::new_err(format!(
            "Invalid file descriptor: {number}"
        )));
    }
    // SAFETY: not negative; see the module's invariants.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}
