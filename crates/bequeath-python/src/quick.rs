#![allow(unsafe_code)]
//! The most frequent methods as bare C functions: `with lock` and an update of a value under its lock
//! call five of them, and the wrapping that PyO3 gives every method is most of what they cost.
//!
//! # Safety invariants
//! - The interpreter calls these functions attached, with an instance of the class that the descriptor
//!   was made for (descriptors check that), and keeps it alive during the call.
//! - Nothing in them panics; a panic would abort the process, not unwind into C.
//! - The definitions are static, as descriptors keep pointers to them.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void, CStr};
use std::ptr::{null_mut, NonNull};

use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};
use pyo3::PyTypeInfo;

use crate::sharedctypes::{Synchronized, SynchronizedBase};
use crate::synchronize::{Lock, RLock};

struct Definition<T>(UnsafeCell<T>);
// SAFETY: the interpreter only reads definitions.
unsafe impl<T> Sync for Definition<T> {}

static VALUE: Definition<ffi::PyGetSetDef> = Definition(UnsafeCell::new(ffi::PyGetSetDef {
    name: c"value".as_ptr(),
    get: Some(get_value),
    set: Some(set_value),
    doc: c"The value, read and written under the lock.".as_ptr(),
    closure: null_mut(),
}));

type Methods<const N: usize> = Definition<[ffi::PyMethodDef; N]>;

const fn method(
    name: &'static CStr,
    doc: &'static CStr,
    call: ffi::PyCFunction,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: call },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: doc.as_ptr(),
    }
}

const fn exit(call: ffi::PyCFunctionFast) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: c"__exit__".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFast: call,
        },
        ml_flags: ffi::METH_FASTCALL,
        ml_doc: c"__exit__($self, exc_type=None, exc_value=None, traceback=None, /)\n--\n\n"
            .as_ptr(),
    }
}

const ENTER: (&CStr, &CStr) = (c"__enter__", c"__enter__($self, /)\n--\n\n");

static WRAPPER: Methods<1> = Definition(UnsafeCell::new([method(
    c"get_lock",
    c"get_lock($self, /)\n--\n\nThe lock that guards the object.",
    get_lock,
)]));
static LOCK: Methods<2> = Definition(UnsafeCell::new([
    method(ENTER.0, ENTER.1, enter_lock),
    exit(exit_lock),
]));
static RLOCK: Methods<2> = Definition(UnsafeCell::new([
    method(ENTER.0, ENTER.1, enter_rlock),
    exit(exit_rlock),
]));

/// Puts the quick forms in the place of the ordinary ones.
///
/// # Errors
/// Out of memory.
pub fn quicken(py: Python<'_>) -> PyResult<()> {
    // SAFETY: the type is the class that `get_value` expects, the definition static.
    let value = unsafe { ffi::PyDescr_NewGetSet(Synchronized::type_object_raw(py), VALUE.0.get()) };
    // SAFETY: a new reference, or null with an exception set.
    let value = unsafe { Bound::from_owned_ptr_or_err(py, value) }?;
    Synchronized::type_object(py).setattr("value", value)?;
    replace::<SynchronizedBase, 1>(py, &WRAPPER)?;
    replace::<Lock, 2>(py, &LOCK)?;
    replace::<RLock, 2>(py, &RLOCK)
}

fn replace<T: PyTypeInfo, const N: usize>(
    py: Python<'_>,
    methods: &'static Methods<N>,
) -> PyResult<()> {
    let first = methods.0.get().cast::<ffi::PyMethodDef>();
    for index in 0..N {
        let definition = first.wrapping_add(index);
        // SAFETY: the type is the class that the definition's function expects, the definition static.
        let made = unsafe { ffi::PyDescr_NewMethod(T::type_object_raw(py), definition) };
        // SAFETY: a new reference, or null with an exception set.
        let made = unsafe { Bound::from_owned_ptr_or_err(py, made) }?;
        let name = made.getattr("__name__")?.cast_into::<PyString>()?;
        T::type_object(py).setattr(name, made)?;
    }
    Ok(())
}

macro_rules! lock_methods {
    ($class:ty, $enter:ident, $exit:ident) => {
        /// # Safety
        /// As the module says.
        unsafe extern "C" fn $enter(
            slf: *mut ffi::PyObject,
            _: *mut ffi::PyObject,
        ) -> *mut ffi::PyObject {
            // SAFETY: called attached.
            let py = unsafe { Python::assume_attached() };
            // SAFETY: an instance that the interpreter keeps alive during the call.
            let slf = unsafe { Borrowed::from_ptr(py, slf) };
            // SAFETY: the descriptor checked the class.
            let slf = unsafe { slf.cast_unchecked::<$class>() };
            let taken = slf.get().take(py);
            given(
                py,
                taken.map(|taken| PyBool::new(py, taken).to_owned().into_any()),
            )
        }

        /// # Safety
        /// As the module says.
        unsafe extern "C" fn $exit(
            slf: *mut ffi::PyObject,
            _: *mut *mut ffi::PyObject,
            _: ffi::Py_ssize_t,
        ) -> *mut ffi::PyObject {
            // SAFETY: called attached.
            let py = unsafe { Python::assume_attached() };
            // SAFETY: an instance that the interpreter keeps alive during the call.
            let slf = unsafe { Borrowed::from_ptr(py, slf) };
            // SAFETY: the descriptor checked the class.
            let slf = unsafe { slf.cast_unchecked::<$class>() };
            given(py, slf.get().give().map(|()| py.None().into_bound(py)))
        }
    };
}

lock_methods!(Lock, enter_lock, exit_lock);
lock_methods!(RLock, enter_rlock, exit_rlock);

/// # Safety
/// As the module says.
unsafe extern "C" fn get_value(
    slf: *mut ffi::PyObject,
    _closure: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: called attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: an instance that the interpreter keeps alive during the call.
    let slf = unsafe { Borrowed::from_ptr(py, slf) };
    // SAFETY: the descriptor checked the class.
    let slf = unsafe { slf.cast_unchecked::<Synchronized>() };
    given(py, Synchronized::value(&slf))
}

/// # Safety
/// As the module says.
unsafe extern "C" fn set_value(
    slf: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    _closure: *mut c_void,
) -> c_int {
    // SAFETY: called attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: an instance that the interpreter keeps alive during the call.
    let slf = unsafe { Borrowed::from_ptr(py, slf) };
    // SAFETY: the descriptor checked the class.
    let slf = unsafe { slf.cast_unchecked::<Synchronized>() };
    let done = match NonNull::new(value) {
        Some(value) => {
            // SAFETY: an object that the interpreter keeps alive during the call.
            let value = unsafe { Borrowed::from_ptr(py, value.as_ptr()) };
            Synchronized::set_value(&slf, &value)
        }
        None => Err(PyAttributeError::new_err("can't delete attribute")),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            error.restore(py);
            -1
        }
    }
}

/// # Safety
/// As the module says.
unsafe extern "C" fn get_lock(
    slf: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: an instance that the interpreter keeps alive during the call.
    let slf = unsafe { Borrowed::from_ptr(py, slf) };
    // SAFETY: the descriptor checked the class.
    let slf = unsafe { slf.cast_unchecked::<SynchronizedBase>() };
    given(py, slf.get().lock(py).map(|lock| lock.into_bound(py)))
}

fn given(py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) -> *mut ffi::PyObject {
    match result {
        Ok(object) => object.into_ptr(),
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}
