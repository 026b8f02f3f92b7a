#![allow(unsafe_code)]
//! `dumps` as a bare C function: what PyO3 wraps a function in, and what it makes of keyword arguments that nobody has given,
//! is a sixth of what the pickle of a task's arguments costs. Small values of builtin types are written here, whatever else
//! there is by the function behind it (`mod.rs`), to which the call is handed on as it came.
//!
//! # Safety invariants
//! - The interpreter calls the function attached, and keeps the arguments alive during the call.
//! - PyO3, which counts who is attached, does not know of it and would put off the dropping of its own references (`Py`). A
//!   small walk makes none: it gives up before the first object that is not of a builtin type.
//! - A panic ends inside of the function, and never unwinds into C.
//! - The definition is static, as the function object keeps a pointer to it.

use std::cell::UnsafeCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyModule};
use pyo3::Borrowed;

use super::look;
use super::room;
use super::version;
use super::DEFAULT_PROTOCOL;
use crate::intern;
use crate::once::Once;

struct Definition(UnsafeCell<ffi::PyMethodDef>);
// SAFETY: the interpreter only reads definitions.
unsafe impl Sync for Definition {}

static DUMPS: Definition = Definition(UnsafeCell::new(ffi::PyMethodDef {
    ml_name: c"dumps".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer {
        PyCFunctionFastWithKeywords: dumps,
    },
    ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
    ml_doc: c"dumps(obj, protocol=None, *, fix_imports=True, buffer_callback=None, by_value=False)\n--\n\nThe pickle of an object, as bytes.".as_ptr(),
}));

/// What has more items than this is not even tried.
const MOST_ITEMS: usize = 16;

/// The function that knows all arguments.
static WHOLE: Once<Py<PyAny>> = Once::new();

/// Puts the bare function into the module in the place of the other.
///
/// # Errors
/// Out of memory.
pub(crate) fn quicken(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let dumps = intern!(py, "dumps");
    WHOLE.get_or_try_init(py, || Ok::<_, PyErr>(module.getattr(dumps)?.unbind()))?;
    let (definition, name) = (DUMPS.0.get(), module.name()?);
    // SAFETY: a static definition; the module and its name are alive, and the function takes references of both.
    let made = unsafe { ffi::PyCFunction_NewEx(definition, module.as_ptr(), name.as_ptr()) };
    // SAFETY: a new reference, or null with an exception set.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, made) }?;
    module.setattr(dumps, made)
}

/// # Safety
/// As the module says.
unsafe extern "C" fn dumps(
    _module: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called attached.
    let py = unsafe { Python::assume_attached() };
    if names.is_null() && matches!(positional, 1 | 2) {
        let argument = |index: usize| {
            // SAFETY: the interpreter gives `positional` arguments, and nobody asks for more.
            let place = unsafe { arguments.add(index) };
            // SAFETY: filled by the interpreter.
            let argument = unsafe { *place };
            // SAFETY: alive during the call.
            unsafe { Borrowed::from_ptr(py, argument) }
        };
        let protocol = (positional == 2).then(|| argument(1));
        // What panics here panics once more where PyO3 tells of it.
        let small = catch_unwind(AssertUnwindSafe(|| small(argument(0), protocol)));
        if let Ok(Some(bytes)) = small {
            return bytes.into_ptr();
        }
    }
    let Ok(whole) = WHOLE.get_or_try_init(py, || Err(())) else {
        return null_mut();
    };
    let positional = positional.unsigned_abs();
    // SAFETY: the arguments as the interpreter gave them.
    unsafe { ffi::PyObject_Vectorcall(whole.as_ptr(), arguments, positional, names) }
}

/// The pickle of a small value in a newer protocol; nothing for any other, and where there is no memory.
#[inline(always)]
fn small<'py>(
    object: look::Object<'_, 'py>,
    protocol: Option<look::Object<'_, 'py>>,
) -> Option<Bound<'py, PyBytes>> {
    let protocol = match protocol {
        None => DEFAULT_PROTOCOL,
        Some(number) if look::is_int(number) => match version::short_int(number) {
            Some(4) => 4,
            Some(5) => 5,
            _ => return None,
        },
        Some(_) => return None,
    };
    if look::has_more_items(object, MOST_ITEMS) {
        return None;
    }
    let written = room::write_small(object, protocol)?;
    look::new_bytes(object.py(), &written).ok()
}
