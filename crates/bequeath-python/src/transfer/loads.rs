//! A message becomes an object.

use std::borrow::Cow;
use std::os::fd::OwnedFd;

use bequeath_channel::{Message, Payload};
use bequeath_pickle::{Slice, HIGHEST_PROTOCOL};
use bequeath_shm::{AnyHandle, Block};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use crate::{explain, pickle};

use super::arrived::Arrived;
use super::buffers::AdoptedBuffer;
use super::kind;
use super::open::{Opened, Transfer};

/// The object that a message carries.
///
/// # Errors
/// Whatever unpickling raises; ValueError for a message that is not well formed.
pub fn loads(py: Python<'_>, mut message: Message) -> PyResult<Py<PyAny>> {
    load(py, &mut message)
}

/// As [`loads`]; the message is used up, but for the room of a small payload, which its owner may use again.
///
/// # Errors
/// As [`loads`].
pub fn load(py: Python<'_>, message: &mut Message) -> PyResult<Py<PyAny>> {
    let payload = &message.payload;
    match message.kind {
        kind::INT => Ok(i64::from_ne_bytes(word(payload)?)
            .into_pyobject(py)?
            .into_any()
            .unbind()),
        kind::FLOAT => Ok(f64::from_ne_bytes(word(payload)?)
            .into_pyobject(py)?
            .into_any()
            .unbind()),
        kind::NONE => Ok(py.None()),
        kind::TRUE => Ok(true.into_pyobject(py)?.to_owned().into_any().unbind()),
        kind::FALSE => Ok(false.into_pyobject(py)?.to_owned().into_any().unbind()),
        kind::BYTES => Ok(copy_to_bytes(py, payload)?.into_any().unbind()),
        kind::TEXT => {
            let text = match payload {
                Payload::Inline(bytes) => {
                    std::str::from_utf8(bytes).map(|text| PyString::new(py, text))
                }
                envelope => {
                    let bytes = copy_to_bytes(py, envelope)?;
                    std::str::from_utf8(bytes.as_bytes()).map(|text| PyString::new(py, text))
                }
            };
            Ok(text.map_err(|_| malformed())?.into_any().unbind())
        }
        kind::PICKLE => {
            let (buffers, references, descriptors) = (
                std::mem::take(&mut message.buffers),
                std::mem::take(&mut message.references),
                std::mem::take(&mut message.descriptors),
            );
            unpickle(py, &message.payload, buffers, references, descriptors)
        }
        _ => Err(malformed()),
    }
}

/// The message as one pickle in bytes, for code that takes bytes out of a queue's reader and unpickles them itself.
///
/// # Errors
/// As [`loads`], where the message has to be rebuilt first.
pub fn portable_bytes(py: Python<'_>, mut message: Message) -> PyResult<Bound<'_, PyAny>> {
    let plain = message.buffers.is_empty()
        && message.references.is_empty()
        && message.descriptors.is_empty();
    if message.kind == kind::PICKLE && plain {
        return Ok(copy_to_bytes(py, &message.payload)?.into_any());
    }
    let object = load(py, &mut message)?;
    let protocol = HIGHEST_PROTOCOL.into_pyobject(py)?;
    pickle::dumps(object.bind(py), Some(protocol.as_any()), true, None, false).map(Bound::into_any)
}

fn unpickle(
    py: Python<'_>,
    payload: &Payload,
    buffers: Vec<Block>,
    references: Vec<AnyHandle>,
    descriptors: Vec<OwnedFd>,
) -> PyResult<Py<PyAny>> {
    let descriptors = descriptors.into_iter().map(Some).collect();
    // Opened for every pickle: an object inside an outer one's `__setstate__` must not see the outer's numbers.
    let _opened = Opened::open(Transfer::Import {
        references,
        descriptors,
    });
    let mut beside = None;
    if !buffers.is_empty() {
        let adopted = PyList::empty(py);
        for block in buffers {
            adopted.append(Bound::new(py, AdoptedBuffer::new(block.adopt()))?)?;
        }
        beside = Some(adopted.try_iter()?.into_any());
    }
    let read = match payload {
        Payload::Inline(bytes) => pickle::read_transfer(py, &mut Slice::new(bytes), beside),
        Payload::Envelope(envelope) => {
            pickle::read_transfer(py, &mut Arrived::new(envelope, payload.len()), beside)
        }
    };
    read.map(Bound::unbind).map_err(|(error, steps)| {
        let again = match payload {
            Payload::Inline(bytes) => Cow::Borrowed(bytes.as_slice()),
            Payload::Envelope(envelope) if payload.len() <= explain::MOST => {
                let mut bytes = vec![0; payload.len()];
                envelope.read_payload(0, &mut bytes);
                Cow::Owned(bytes)
            }
            Payload::Envelope(_) => return error,
        };
        explain::arrived(py, &again, steps, error)
    })
}

pub(super) fn malformed() -> PyErr {
    PyValueError::new_err("the message is malformed: shared memory was written by something else")
}

fn word(payload: &Payload) -> PyResult<[u8; 8]> {
    match payload {
        Payload::Inline(bytes) => bytes.as_slice().try_into().map_err(|_| malformed()),
        Payload::Envelope(_) => Err(malformed()),
    }
}

fn copy_to_bytes<'py>(py: Python<'py>, payload: &Payload) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, payload.len(), |into| {
        match payload {
            Payload::Inline(bytes) => into.copy_from_slice(bytes),
            Payload::Envelope(envelope) => {
                envelope.read_payload(0, into);
            }
        }
        Ok(())
    })
}
