#![allow(unsafe_code)]
//! Before `os.exec*`: no thread of this process may be inside a cell, or it would be for ever.
//!
//! The interpreter announces an exec to audit hooks, on the thread that does it, with the interpreter
//! in its hands. A program that execs from C is not seen.
//!
//! # Safety invariants
//! The hook is a function of this module, which is never unloaded; it reads the event's name, a C
//! string of the interpreter's, and nothing else.

use std::ffi::{c_char, c_int, c_void, CStr};
use std::sync::Once;

use pyo3::ffi::PyObject;
use pyo3::prelude::*;

type Hook = extern "C" fn(*const c_char, *mut PyObject, *mut c_void) -> c_int;

extern "C" {
    fn PySys_AddAuditHook(hook: Hook, data: *mut c_void) -> c_int;
}

/// Listens from now on; called when this process has a session. What an audit hook of the program's
/// says against it is the program's will.
pub fn listen(py: Python<'_>) {
    static ONCE: Once = Once::new();
    if ONCE.is_completed() {
        return;
    }
    ONCE.call_once(|| {
        // SAFETY: a function of this signature, for the interpreter's life; the thread is attached.
        unsafe { PySys_AddAuditHook(hook, std::ptr::null_mut()) };
    });
    if PyErr::occurred(py) {
        drop(PyErr::take(py));
    }
}

extern "C" fn hook(event: *const c_char, _arguments: *mut PyObject, _data: *mut c_void) -> c_int {
    // SAFETY: the interpreter names each event by a C string.
    if unsafe { CStr::from_ptr(event) } == c"os.exec" {
        bequeath_sync::exec::before();
    }
    0
}
