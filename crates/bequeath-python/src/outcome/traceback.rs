#![allow(unsafe_code)]
//! Frames as plain data become a traceback object, whose frames and code objects are real but never ran.
//!
//! # Safety invariants
//! `PyFrame_New` is called attached, with a code object and a dict that are held meanwhile; the new frame holds what it needs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCode, PyDict, PyTraceback, PyTuple};

use super::frames::Frame;
use crate::intern;
use crate::once::Once;
use crate::pickle::Position;

/// A traceback of these frames; None without any.
pub(super) fn traceback<'py>(frames: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let py = frames.py();
    let make = py.get_type::<PyTraceback>();
    let mut entry = py.None().into_bound(py);
    for frame in frames.iter().rev() {
        let frame: Frame<'py> = frame.extract()?;
        let (.., (line, ..)) = &frame;
        entry = make.call1((entry, frame_object(&frame)?, 0, *line))?;
    }
    Ok(entry)
}

/// What frames are made over: code object and globals.
type Stage = (Py<PyAny>, Py<PyDict>);
/// A frame's names and place, by value.
type Known = (String, String, String, String, i32, Position);

/// Programs raise at few places: what was made for one is used again.
const MOST_KNOWN: usize = 256;

fn stage<'py>(frame: &Frame<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyDict>)> {
    static KNOWN: Mutex<Option<HashMap<Known, Stage>>> = Mutex::new(None);
    // Nothing of Python runs while it is held.
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let (file, name, qualname, module, first_line, place) = frame;
    let py = file.py();
    let text = |text: &Bound<'py, PyAny>| text.extract::<String>();
    let key = match (text(file), text(name), text(qualname), text(module)) {
        (Ok(file), Ok(name), Ok(qualname), Ok(module)) => {
            (file, name, qualname, module, *first_line, *place)
        }
        // Lone surrogates.
        _ => return Ok((code_object(frame)?, globals(frame)?)),
    };
    if let Some((code, globals)) = known().as_ref().and_then(|known| known.get(&key)) {
        return Ok((
            code.clone_ref(py).into_bound(py),
            globals.clone_ref(py).into_bound(py),
        ));
    }
    let (code, globals) = (code_object(frame)?, globals(frame)?);
    let made = (code.clone().unbind(), globals.clone().unbind());
    let full = {
        let mut known = known();
        let known = known.get_or_insert_default();
        let full = (known.len() >= MOST_KNOWN).then(|| std::mem::take(known));
        known.insert(key, made);
        full
    };
    drop(full);
    Ok((code, globals))
}

fn globals<'py>(frame: &Frame<'py>) -> PyResult<Bound<'py, PyDict>> {
    let (file, _, _, module, ..) = frame;
    let py = file.py();
    let globals = PyDict::new(py);
    globals.set_item(intern!(py, "__name__"), module)?;
    globals.set_item(intern!(py, "__file__"), file)?;
    // Through these `linecache` finds sources that are in archives.
    let modules = py
        .import(intern!(py, "sys"))?
        .getattr(intern!(py, "modules"))?;
    if let Ok(loaded) = modules.get_item(module) {
        for name in [intern!(py, "__loader__"), intern!(py, "__spec__")] {
            if let Ok(Some(value)) = loaded.getattr_opt(name) {
                globals.set_item(name, value)?;
            }
        }
    }
    Ok(globals)
}

fn frame_object<'py>(frame: &Frame<'py>) -> PyResult<Bound<'py, PyAny>> {
    let (code, globals) = stage(frame)?;
    let py = code.py();
    // SAFETY: attached.
    let thread = unsafe { ffi::PyThreadState_Get() };
    // SAFETY: attached; both are alive, of the types that are asked for, and the new frame takes references of its own.
    let made = unsafe {
        ffi::PyFrame_New(
            thread,
            code.as_ptr().cast(),
            globals.as_ptr(),
            std::ptr::null_mut(),
        )
    };
    // SAFETY: a new reference or an error.
    unsafe { Bound::from_owned_ptr_or_err(py, made.cast()) }
}

/// The code of a function that does nothing, under the names of another one.
fn code_object<'py>(frame: &Frame<'py>) -> PyResult<Bound<'py, PyAny>> {
    let (file, name, qualname, _, first_line, place) = frame;
    let py = file.py();
    let template = template(py)?;
    let changed = PyDict::new(py);
    changed.set_item(intern!(py, "co_filename"), file)?;
    changed.set_item(intern!(py, "co_name"), name)?;
    changed.set_item(intern!(py, "co_firstlineno"), first_line)?;
    if cfg!(Py_3_11) {
        changed.set_item(intern!(py, "co_qualname"), qualname)?;
        let units = template.getattr(intern!(py, "co_code"))?.len()? / 2;
        let table = crate::pickle::position_table(units, *first_line, *place);
        changed.set_item(
            intern!(py, "co_linetable"),
            pyo3::types::PyBytes::new(py, &table),
        )?;
    }
    template.call_method(intern!(py, "replace"), (), Some(&changed))
}

fn template(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static TEMPLATE: Once<Py<PyAny>> = Once::new();
    let code = TEMPLATE.get_or_try_init(py, || {
        let function = py
            .import(intern!(py, "bequeath._remote_traceback"))?
            .getattr(intern!(py, "_nothing"))?;
        let code = function.getattr(intern!(py, "__code__"))?;
        Ok::<_, PyErr>(code.cast_into::<PyCode>()?.into_any().unbind())
    })?;
    Ok(code.bind(py))
}
