#![allow(unsafe_code)]
//! The line of the user's program that is making a shared object now: the innermost frame whose code
//! is not this package's. It names the object in errors and inspections.
//!
//! # Safety invariants
//! Frames are looked at by the thread that runs them, while it is attached to the interpreter; every
//! new reference is owned by a `Bound` at once.

use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::intern;

/// How far out the user's frame is looked for.
const DEPTH: usize = 24;

/// Makes objects of the session named by Python's frames.
pub(crate) fn register() {
    bequeath_shm::set_site_finder(find);
}

fn find(found: &mut dyn FnMut(&str, u32)) {
    // SAFETY: may be called by any thread at any time.
    if unsafe { ffi::PyGILState_Check() } == 0 {
        return;
    }
    Python::attach(|py| {
        let Some(package) = package_folder(py) else {
            return;
        };
        // SAFETY: this thread is attached; the frame it runs is alive, and null if there is none.
        let first = unsafe { ffi::PyEval_GetFrame() };
        // SAFETY: a borrowed reference or null.
        let mut frame = unsafe { Bound::from_borrowed_ptr_or_opt(py, first.cast()) };
        for _ in 0..DEPTH {
            let Some(current) = frame.take() else { return };
            let pointer = current.as_ptr().cast::<ffi::PyFrameObject>();
            // SAFETY: a living frame; the reference returned is new, and never null.
            let code = unsafe { ffi::PyFrame_GetCode(pointer) };
            // SAFETY: owned from here on.
            let code = unsafe { Bound::from_owned_ptr_or_opt(py, code.cast()) };
            let Some(code) = code else { return };
            let Ok(name) = code.getattr(intern!(py, "co_filename")) else {
                return;
            };
            let text = name
                .cast::<PyString>()
                .ok()
                .and_then(|name| name.to_str().ok());
            if let Some(text) = text.filter(|text| !text.starts_with(package)) {
                // SAFETY: a living frame of this thread.
                let line = unsafe { ffi::PyFrame_GetLineNumber(pointer) };
                found(text, u32::try_from(line).unwrap_or(0));
                return;
            }
            // SAFETY: a living frame; the reference returned is new, or null at the outermost.
            let back = unsafe { ffi::PyFrame_GetBack(pointer) };
            // SAFETY: owned from here on.
            frame = unsafe { Bound::from_owned_ptr_or_opt(py, back.cast()) };
        }
    });
}

/// The folder that this package's code is in, with a slash behind it.
fn package_folder(py: Python<'_>) -> Option<&'static str> {
    static FOLDER: OnceLock<Option<String>> = OnceLock::new();
    let look = || -> PyResult<String> {
        let file: String = py.import("bequeath")?.getattr("__file__")?.extract()?;
        let end = file.rfind('/').map_or(0, |slash| slash + 1);
        Ok(file[..end].to_owned())
    };
    FOLDER.get_or_init(|| look().ok()).as_deref()
}
