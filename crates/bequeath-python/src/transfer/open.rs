#![allow(unsafe_code)]
//! Open transfers: what an object being pickled hands in, and one being rebuilt hands back.
//!
//! # Safety invariants
//! A descriptor that is named by number is only lent to a call that checks whether it is open, unless the caller hands it over.

use std::cell::RefCell;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use bequeath_shm::{AnyHandle, Block};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::intern;

use super::is_strict;

/// The last of standard input, output and error.
const STREAMS: i32 = 2;

/// Why an object crosses, which decides what strict mode refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Arguments of a process being started: multiprocessing's "inheritance".
    Start,
    /// A message through a queue or connection.
    Message,
    /// Arguments of a process that stays out of the session: nothing of the session's memory goes along.
    Outside,
}

/// What an open transfer has collected, or has to hand out.
pub(super) enum Transfer {
    Export {
        purpose: Purpose,
        references: Vec<AnyHandle>,
        descriptors: Vec<OwnedFd>,
        buffers: Vec<Block>,
    },
    Import {
        references: Vec<AnyHandle>,
        descriptors: Vec<Option<OwnedFd>>,
    },
}

impl Transfer {
    /// One that has collected nothing yet.
    pub(super) fn export(purpose: Purpose) -> Self {
        Self::Export {
            purpose,
            references: Vec::new(),
            descriptors: Vec::new(),
            buffers: Vec::new(),
        }
    }
}

thread_local! {
    /// Open transfers of this thread, innermost last: a `put` inside a `__reduce__` opens one of its own.
    static OPEN: RefCell<Vec<Transfer>> = const { RefCell::new(Vec::new()) };
}

/// Keeps a transfer open; closing takes what was collected.
pub(super) struct Opened;

impl Opened {
    pub(super) fn open(transfer: Transfer) -> Self {
        OPEN.with_borrow_mut(|open| open.push(transfer));
        Self
    }

    pub(super) fn close(self) -> Option<Transfer> {
        std::mem::forget(self);
        OPEN.with_borrow_mut(Vec::pop)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = OPEN.with_borrow_mut(Vec::pop);
    }
}

/// Whether an object pickled now on this thread is on its way to another process.
#[pyfunction]
#[must_use]
pub fn transfer_active() -> bool {
    OPEN.with_borrow(|open| matches!(open.last(), Some(Transfer::Export { .. })))
}

/// Whether the transfer that is open carries a process's arguments (as opposed to a message).
#[pyfunction]
#[must_use]
pub fn transfer_is_start() -> bool {
    OPEN.with_borrow(|open| {
        matches!(
            open.last(),
            Some(Transfer::Export {
                purpose: Purpose::Start | Purpose::Outside,
                ..
            })
        )
    })
}

/// How many references and descriptors the open transfer has collected: whether pickling something added any.
#[pyfunction]
#[must_use]
pub fn transfer_load() -> (usize, usize) {
    OPEN.with_borrow(|open| match open.last() {
        Some(Transfer::Export {
            references,
            descriptors,
            ..
        }) => (references.len(), descriptors.len()),
        _ => (0, 0),
    })
}

/// Hands a shared object in; the number stands for it in the pickle. For `__reduce__` of native classes.
///
/// # Errors
/// RuntimeError in multiprocessing's words when no transfer is open, and in strict mode outside a start.
pub fn export(object: &Bound<'_, PyAny>, handle: &AnyHandle) -> PyResult<usize> {
    let py = object.py();
    let strict = is_strict(py)?;
    if goes_outside() {
        return Err(words(object, intern!(py, "stays_inside")));
    }
    OPEN.with_borrow_mut(|open| match open.last_mut() {
        Some(Transfer::Export {
            purpose,
            references,
            ..
        }) if !strict || *purpose == Purpose::Start => {
            references.push(handle.clone());
            Ok(references.len() - 1)
        }
        _ => Err(()),
    })
    .map_err(|()| refusal(object))
}

/// Whether [`export`] would be refused now: for `__reduce__` of what only consists of shared objects.
///
/// # Errors
/// As [`export`].
pub fn check(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let strict = is_strict(object.py())?;
    if goes_outside() {
        let py = object.py();
        return Err(words(object, intern!(py, "stays_inside")));
    }
    let allowed = OPEN.with_borrow(|open| match open.last() {
        Some(Transfer::Export { purpose, .. }) => !strict || *purpose == Purpose::Start,
        _ => false,
    });
    if allowed {
        Ok(())
    } else {
        Err(refusal(object))
    }
}

/// The object that a number stands for. For the functions that `__reduce__` names.
///
/// # Errors
/// RuntimeError when nothing is being received, ValueError for a number that the message does not have.
pub fn import(token: usize) -> PyResult<AnyHandle> {
    OPEN.with_borrow(|open| match open.last() {
        Some(Transfer::Import { references, .. }) => references
            .get(token)
            .cloned()
            .ok_or_else(|| PyValueError::new_err("the message holds no such object")),
        _ => Err(PyRuntimeError::new_err(
            "this object can only be rebuilt while its message is received",
        )),
    })
}

/// multiprocessing's refusal for an object that is pickled with no destination, in its very words in strict mode.
pub fn refusal(object: &Bound<'_, PyAny>) -> PyErr {
    words(object, intern!(object.py(), "no_destination"))
}

/// The facade's words for a refusal of this object.
fn words(object: &Bound<'_, PyAny>, which: &Bound<'_, PyString>) -> PyErr {
    let py = object.py();
    let made = py
        .import(intern!(py, "bequeath._transfer"))
        .and_then(|module| module.call_method1(which, (object,)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// Whether what is being pickled goes to a process that stays out of the session.
pub fn goes_outside() -> bool {
    OPEN.with_borrow(|open| {
        matches!(
            open.last(),
            Some(Transfer::Export {
                purpose: Purpose::Outside,
                ..
            })
        )
    })
}

/// Hands in a descriptor (duplicated; the caller keeps its own); the number stands for it in the pickle.
#[pyfunction]
pub fn export_descriptor(fd: i32) -> PyResult<usize> {
    let copy = duplicate(fd)?;
    OPEN.with_borrow_mut(|open| match open.last_mut() {
        Some(Transfer::Export { descriptors, .. }) => {
            descriptors.push(copy);
            Ok(descriptors.len() - 1)
        }
        _ => Err(PyRuntimeError::new_err(
            "a descriptor can only be exported while a message is being made",
        )),
    })
}

fn duplicate(fd: i32) -> PyResult<OwnedFd> {
    if fd < 0 {
        return Err(PyValueError::new_err("a descriptor cannot be negative"));
    }
    // SAFETY: not negative, and only lent to the call that checks whether it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().map_err(PyErr::from)
}

/// Takes over descriptors that somebody names by number.
pub(crate) fn own_descriptors(numbers: Vec<i32>) -> PyResult<Vec<OwnedFd>> {
    numbers
        .into_iter()
        .map(|number| {
            duplicate(number)?; // refuses what is not open before anything is owned
                                // SAFETY: open, and the caller hands it over.
            Ok(unsafe { OwnedFd::from_raw_fd(number) })
        })
        .collect()
}

/// The descriptor that a number stands for, once; the caller owns it. Never one of the standard streams' numbers, which may be free here:
/// what is printed would go there.
#[pyfunction]
pub fn import_descriptor(token: usize) -> PyResult<i32> {
    let arrived = OPEN.with_borrow_mut(|open| match open.last_mut() {
        Some(Transfer::Import { descriptors, .. }) => descriptors
            .get_mut(token)
            .and_then(Option::take)
            .ok_or_else(|| {
                PyValueError::new_err(
                    "the message holds no such descriptor, or it was taken already",
                )
            }),
        _ => Err(PyRuntimeError::new_err(
            "a descriptor can only be imported while its message is received",
        )),
    })?;
    if arrived.as_raw_fd() > STREAMS {
        return Ok(arrived.into_raw_fd());
    }
    // The standard library's copies have numbers above the streams', and are closed on exec.
    Ok(arrived.try_clone()?.into_raw_fd())
}

/// Puts a buffer beside the pickle that is being made; false when there is none.
pub(super) fn add_buffer(block: Block) -> bool {
    OPEN.with_borrow_mut(|open| match open.last_mut() {
        Some(Transfer::Export { buffers, .. }) => {
            buffers.push(block);
            true
        }
        _ => false,
    })
}
