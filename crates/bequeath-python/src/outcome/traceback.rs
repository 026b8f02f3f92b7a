#![allow(unsafe_code)]
//! Frames as plain data become a traceback object, whose frames and code objects are real but never ran.
//!
//! # Safety invariants
//! `PyFrame_New` is called attached, with a code object and a dict that are held meanwhile; the new frame holds what it needs.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCode, PyDict, PyTraceback, PyTuple};

use super::frames::Frame;
use crate::intern;
use crate::once::Once;

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

fn frame_object<'py>(frame: &Frame<'py>) -> PyResult<Bound<'py, PyAny>> {
    let (file, _, _, module, ..) = frame;
    let py = file.py();
    let code = code_object(frame)?;
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
