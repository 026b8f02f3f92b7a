//! What goes over a connection's wire: small pickles written by hand, ranges checked in
//! multiprocessing's words, and messages turned into bytes.

use std::ops::Range;

use bequeath_channel::{Message, Payload};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};

use crate::intern;
use crate::transfer::{self, kind};

/// Text and bytes up to this size are pickled here: at least the engine's limit for a plain frame,
/// whose payload must be a pickle; what is larger goes by envelope, which tells its kind.
const SMALL: usize = 32 << 10;

const PROTO: [u8; 2] = [0x80, 4];
const STOP: u8 = b'.';

/// The pickle of an exact scalar, text or bytes of moderate size: what `pickle.dumps` would need
/// ten times as long for. `None` for everything else.
#[must_use]
pub fn small_pickle(object: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(24);
    out.extend_from_slice(&PROTO);
    if let Ok(value) = object.cast_exact::<PyInt>() {
        save_int(&mut out, value.extract().ok()?);
    } else if let Ok(value) = object.cast_exact::<PyBytes>() {
        save_counted(&mut out, b'C', b'B', value.as_bytes())?;
    } else if let Ok(value) = object.cast_exact::<PyString>() {
        save_counted(&mut out, 0x8c, b'X', value.to_str().ok()?.as_bytes())?;
    } else if let Ok(value) = object.cast_exact::<PyFloat>() {
        out.push(b'G');
        out.extend_from_slice(&value.value().to_be_bytes());
    } else if object.is_none() {
        out.push(b'N');
    } else {
        let value = object.cast_exact::<PyBool>().ok()?;
        out.push(if value.is_true() { 0x88 } else { 0x89 });
    }
    out.push(STOP);
    Some(out)
}

fn save_int(out: &mut Vec<u8>, value: i64) {
    if let Ok(byte) = u8::try_from(value) {
        out.extend_from_slice(&[b'K', byte]);
    } else if let Ok(int) = i32::try_from(value) {
        out.push(b'J');
        out.extend_from_slice(&int.to_le_bytes());
    } else {
        out.extend_from_slice(&[0x8a, 8]);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn save_counted(out: &mut Vec<u8>, short: u8, long: u8, bytes: &[u8]) -> Option<()> {
    if bytes.len() > SMALL {
        return None;
    }
    match u8::try_from(bytes.len()) {
        Ok(length) => out.extend_from_slice(&[short, length]),
        Err(_) => {
            out.push(long);
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        }
    }
    out.extend_from_slice(bytes);
    Some(())
}

/// Which part of a buffer `send_bytes` means.
///
/// # Errors
/// ValueError, as multiprocessing puts it.
pub fn range(length: usize, offset: isize, size: Option<isize>) -> PyResult<Range<usize>> {
    let refuse = |text| Err(PyValueError::new_err(text));
    let Ok(start) = usize::try_from(offset) else {
        return refuse("offset is negative");
    };
    if length < start {
        return refuse("buffer length < offset");
    }
    let Some(size) = size else {
        return Ok(start..length);
    };
    let Ok(size) = usize::try_from(size) else {
        return refuse("size is negative");
    };
    match start.checked_add(size) {
        Some(end) if end <= length => Ok(start..end),
        _ => refuse("buffer length < offset + size"),
    }
}

/// Where in a buffer `recv_bytes_into` is to write.
///
/// # Errors
/// ValueError, as multiprocessing puts it.
pub fn start(length: usize, offset: isize) -> PyResult<usize> {
    match usize::try_from(offset) {
        Err(_) => Err(PyValueError::new_err("negative offset")),
        Ok(start) if start > length => Err(PyValueError::new_err("offset too large")),
        Ok(start) => Ok(start),
    }
}

/// A message as `recv_bytes` gives it. One that was sent as an object is its pickle.
///
/// # Errors
/// Those of pickling again what came in parts.
pub fn to_bytes(py: Python<'_>, message: Message) -> PyResult<Py<PyBytes>> {
    if message.is_bare() && message.kind == kind::PICKLE {
        return copy(py, &message.payload);
    }
    let object = transfer::loads(py, message)?;
    let pickle = transfer::dumps_portable(object.bind(py))?;
    let bytes = pickle.call_method0(intern!(py, "tobytes"))?;
    Ok(bytes.cast_into::<PyBytes>()?.unbind())
}

fn copy(py: Python<'_>, payload: &Payload) -> PyResult<Py<PyBytes>> {
    match payload {
        Payload::Inline(bytes) => Ok(PyBytes::new(py, bytes).unbind()),
        Payload::Envelope(envelope) => {
            let fill = |into: &mut [u8]| {
                envelope.read_payload(0, into);
                Ok(())
            };
            PyBytes::new_with(py, payload.len(), fill).map(Bound::unbind)
        }
    }
}

/// The error of `recv_bytes_into`, with all of the message inside.
pub fn buffer_too_short(py: Python<'_>, message: &Py<PyBytes>) -> PyErr {
    let make = || {
        py.import(intern!(py, "bequeath.exceptions"))?
            .getattr(intern!(py, "BufferTooShort"))?
            .call1((message,))
    };
    match make() {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}
