#![allow(unsafe_code)]
//! An object becomes a message.
//!
//! # Safety invariants
//! A text's bytes are read while the string object that owns them is held.

use std::fmt::Display;
use std::os::fd::OwnedFd;

use bequeath_channel::Outgoing;
use bequeath_shm::{AnyHandle, Block};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};

use crate::intern;
use crate::pickle::{self, Written};

use super::apart::{Apart, Definition};
use super::open::{Opened, Transfer};
use super::policy::{Rule, LEAN, WHOLE, WITHIN};
use super::{facade, kind, Purpose};

/// How often a message is written whose definitions turn out to belong together.
const MOST_WALKS: usize = 3;

/// An object made ready to leave.
pub struct Pickled {
    /// One of [`kind`].
    pub kind: u8,
    bytes: Bytes,
    /// Out-of-band buffers.
    pub buffers: Vec<Block>,
    /// Shared objects inside.
    pub references: Vec<AnyHandle>,
    /// Descriptors inside.
    pub descriptors: Vec<OwnedFd>,
    /// What it names, and must be held until it has arrived.
    definitions: Vec<Definition>,
}

enum Bytes {
    Word([u8; 8], usize),
    Python(Py<PyBytes>),
    Text(Py<PyString>),
    Written(Written),
}

impl Pickled {
    fn bare(kind: u8, bytes: Bytes) -> Self {
        Self {
            kind,
            bytes,
            buffers: Vec::new(),
            references: Vec::new(),
            descriptors: Vec::new(),
            definitions: Vec::new(),
        }
    }

    /// The definitions that the message names, for who holds them until it has arrived, or its receiver is dead: the message
    /// carries no references to them then.
    pub fn take_definitions(&mut self) -> Vec<Definition> {
        std::mem::take(&mut self.definitions)
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self, py: Python<'_>) -> &[u8] {
        match &self.bytes {
            Bytes::Word(word, len) => &word[..*len],
            Bytes::Python(bytes) => bytes.as_bytes(py),
            Bytes::Text(text) => text.bind_borrowed(py).to_str().map_or(&[], |text| {
                // SAFETY: the text is cached inside (or is) the string object that `self` keeps alive; it is immutable.
                unsafe { std::slice::from_raw_parts(text.as_ptr(), text.len()) }
            }),
            Bytes::Written(bytes) => bytes,
        }
    }

    /// The payload, which moves out of `self`, with room for so many bytes more.
    pub fn take_bytes(&mut self, py: Python<'_>, more: usize) -> Vec<u8> {
        match std::mem::replace(&mut self.bytes, Bytes::Word([0; 8], 0)) {
            Bytes::Written(bytes) => return bytes.into_vec(),
            other => self.bytes = other,
        }
        let payload = self.payload(py);
        let mut bytes = pickle::spare_bytes();
        bytes.reserve(payload.len() + more);
        bytes.extend_from_slice(payload);
        bytes
    }

    /// The same as the channel takes it; what it carried besides bytes has moved out of `self` then.
    pub fn outgoing(&mut self, py: Python<'_>) -> Outgoing<'_> {
        let (buffers, mut references, descriptors) = (
            std::mem::take(&mut self.buffers),
            std::mem::take(&mut self.references),
            std::mem::take(&mut self.descriptors),
        );
        for definition in self.take_definitions() {
            references.extend(definition.references());
        }
        Outgoing {
            kind: self.kind,
            payload: self.payload(py),
            buffers,
            references,
            descriptors,
        }
    }
}

/// Makes a message of an object.
///
/// # Errors
/// Whatever pickling raises; MemoryError when the session's budget does not allow a large buffer.
pub fn dumps(object: &Bound<'_, PyAny>, purpose: Purpose) -> PyResult<Pickled> {
    message(object, purpose, &WHOLE, &"")
}

/// As [`dumps`], for receivers that get many messages, as a pool's workers do: a function or class that goes by value is not in
/// the message, and each receiver reads it once (`apart.rs`). Either the message keeps the definitions that it names, or who
/// sends takes and holds them ([`Pickled::take_definitions`]), which is cheaper.
///
/// # Errors
/// As [`dumps`]; MemoryError also when the session's budget does not allow a definition.
pub fn dumps_once(object: &Bound<'_, PyAny>, purpose: Purpose) -> PyResult<Pickled> {
    dumps_once_as(object, purpose, &"")
}

/// As [`dumps_once`]; `root` is what a refusal calls the object (`explain/path.rs`).
///
/// # Errors
/// As [`dumps_once`].
pub fn dumps_once_as(
    object: &Bound<'_, PyAny>,
    purpose: Purpose,
    root: &dyn Display,
) -> PyResult<Pickled> {
    message(object, purpose, &LEAN, root)
}

fn message(
    object: &Bound<'_, PyAny>,
    purpose: Purpose,
    rule: &'static Rule,
    root: &dyn Display,
) -> PyResult<Pickled> {
    if let Some(scalar) = scalar(object) {
        return Ok(scalar);
    }
    if purpose == Purpose::Message {
        super::trial::tell_auditor(object);
    }
    let explained = |error| explained(object, error, root);
    if let Some(bytes) = pickle::write_pure(object, rule).map_err(explained)? {
        return Ok(Pickled::bare(kind::PICKLE, Bytes::Written(bytes)));
    }
    let apart = rule.is_apart().then(Apart::begin);
    let mut walks = 1;
    loop {
        let opened = Opened::open(Transfer::export(purpose));
        let bytes = pickle::write_full(object, rule).map_err(explained)?;
        let Some(Transfer::Export {
            references,
            descriptors,
            buffers,
            ..
        }) = opened.close()
        else {
            return Err(PyRuntimeError::new_err(
                "a transfer was closed while an object was being pickled",
            ));
        };
        // A reducer that makes new functions each time would go on for ever.
        if walks < MOST_WALKS && apart.as_ref().is_some_and(Apart::is_outdated) {
            walks += 1;
            continue;
        }
        return Ok(Pickled {
            kind: kind::PICKLE,
            bytes: Bytes::Written(bytes),
            buffers,
            references,
            descriptors,
            definitions: apart.map_or_else(Vec::new, Apart::end),
        });
    }
}

/// A pickle as a transfer makes it, in one piece of bytes: part of the transfer that is open on this thread, which its
/// handles and descriptors go along with. With none open handles refuse.
///
/// # Errors
/// Whatever pickling raises.
#[pyfunction]
pub fn transfer_dumps<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = pickle::write_full(object, &WITHIN)?;
    pickle::new_bytes(object.py(), &bytes)
}

/// As [`transfer_dumps`], for what has a reader of its own inside of a message: a failure to read it is no failure of the message.
///
/// # Errors
/// Whatever pickling raises.
pub(crate) fn dumps_within<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let Some(bytes) = pickle::write_pure(object, &WITHIN)? else {
        return transfer_dumps(object);
    };
    pickle::new_bytes(object.py(), &bytes)
}

/// The facade's better words for a failure, with the path to the culprit.
fn explained(object: &Bound<'_, PyAny>, error: PyErr, root: &dyn Display) -> PyErr {
    let py = object.py();
    let explain = || {
        // Up to 3.11 an error's traceback is not in the exception yet; it tells whose code raised it.
        if let Some(trace) = error.traceback(py) {
            error
                .value(py)
                .setattr(intern!(py, "__traceback__"), trace)?;
        }
        let module = facade(py)?;
        let arguments = (object, error.value(py), root.to_string());
        module.call_method1(intern!(py, "explain"), arguments)
    };
    match explain() {
        Ok(better) => {
            let better = PyErr::from_value(better);
            if !better.value(py).is(error.value(py)) && better.cause(py).is_none() {
                better.set_cause(py, Some(error));
            }
            better
        }
        Err(_) => error,
    }
}

/// Always a pickle in one piece of bytes: for wires whose other end may be a plain multiprocessing.
///
/// # Errors
/// Whatever pickling raises, and the refusal of objects that cannot cross such a wire.
pub fn dumps_portable<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    py.import(intern!(py, "bequeath.reduction"))?
        .getattr(intern!(py, "ForkingPickler"))?
        .call_method1(intern!(py, "dumps"), (object,))
}

fn scalar(object: &Bound<'_, PyAny>) -> Option<Pickled> {
    if let Ok(value) = object.cast_exact::<PyInt>() {
        let value: i64 = value.extract().ok()?;
        return Some(Pickled::bare(
            kind::INT,
            Bytes::Word(value.to_ne_bytes(), 8),
        ));
    }
    if let Ok(value) = object.cast_exact::<PyBytes>() {
        return Some(Pickled::bare(
            kind::BYTES,
            Bytes::Python(value.clone().unbind()),
        ));
    }
    if let Ok(value) = object.cast_exact::<PyString>() {
        value.to_str().ok()?; // lone surrogates: left to pickle
        return Some(Pickled::bare(
            kind::TEXT,
            Bytes::Text(value.clone().unbind()),
        ));
    }
    if let Ok(value) = object.cast_exact::<PyFloat>() {
        return Some(Pickled::bare(
            kind::FLOAT,
            Bytes::Word(value.value().to_ne_bytes(), 8),
        ));
    }
    if object.is_none() {
        return Some(Pickled::bare(kind::NONE, Bytes::Word([0; 8], 0)));
    }
    let value = object.cast_exact::<PyBool>().ok()?;
    let kind = if value.is_true() {
        kind::TRUE
    } else {
        kind::FALSE
    };
    Some(Pickled::bare(kind, Bytes::Word([0; 8], 0)))
}
