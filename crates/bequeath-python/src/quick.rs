#![allow(unsafe_code)]
//! The most frequent methods as bare C functions: `with lock` and an update of a value under its lock
//! call five of them, and the wrapping that PyO3 gives every method is most of what they cost. The
//! arguments of `acquire` are read here too; without any it is as short as `__enter__`. For the locks there are no
//! others; a descriptor takes the place of PyO3's where there is one.
//!
//! # Safety invariants
//! - The interpreter calls these functions attached, with an instance of the class that the descriptor
//!   was made for (descriptors check that), and keeps it alive during the call.
//! - Nothing in them panics; a panic would abort the process, not unwind into C.
//! - The definitions are static, as descriptors keep pointers to them.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void, CStr};
use std::ptr::{null_mut, NonNull};

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString, PyTuple};
use pyo3::PyTypeInfo;

use crate::sharedctypes::{Synchronized, SynchronizedBase};
use crate::synchronize::{BoundedSemaphore, Lock, RLock, Semaphore};

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

const fn acquire(doc: &'static CStr, call: ffi::PyCFunctionFastWithKeywords) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: c"acquire".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: call,
        },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.as_ptr(),
    }
}

const ENTER: (&CStr, &CStr) = (c"__enter__", c"__enter__($self, /)\n--\n\n");

static WRAPPER: Methods<1> = Definition(UnsafeCell::new([method(
    c"get_lock",
    c"get_lock($self, /)\n--\n\nThe lock that guards the object.",
    get_lock,
)]));
static LOCK: Methods<4> = Definition(UnsafeCell::new([
    method(ENTER.0, ENTER.1, enter_lock),
    exit(exit_lock),
    acquire(c"acquire($self, block=True, timeout=None)\n--\n\nTake the lock; false when `block` is false or the timeout passed and another holds it.", acquire_lock),
    method(c"release", c"release($self, /)\n--\n\nFree the lock, whoever holds it.", release_lock),
]));
static RLOCK: Methods<4> = Definition(UnsafeCell::new([
    method(ENTER.0, ENTER.1, enter_rlock),
    exit(exit_rlock),
    acquire(c"acquire($self, block=True, timeout=None)\n--\n\nTake the lock, or count one more; false when another holds it and `block` is false or the timeout passed.", acquire_rlock),
    method(c"release", c"release($self, /)\n--\n\nCount one less; at the last the lock is free.", release_rlock),
]));
static SEMAPHORE: Methods<4> = Definition(UnsafeCell::new([
    method(ENTER.0, ENTER.1, enter_semaphore),
    exit(exit_semaphore),
    acquire(c"acquire($self, block=True, timeout=None)\n--\n\nTake a unit; false when there is none and `block` is false or the timeout passed.", acquire_semaphore),
    method(c"release", c"release($self, /)\n--\n\nGive a unit.", release_semaphore),
]));

/// Gives the classes these methods.
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
    replace::<Lock, 4>(py, &LOCK)?;
    replace::<RLock, 4>(py, &RLOCK)?;
    replace::<Semaphore, 4>(py, &SEMAPHORE)?;
    // Its own, since a descriptor of the base looks for that among the bases at each call.
    replace::<BoundedSemaphore, 4>(py, &SEMAPHORE)
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
    ($class:ty, $enter:ident, $exit:ident, $acquire:ident, $release:ident) => {
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
            truth(py, slf.get().take(py))
        }

        /// # Safety
        /// As the module says.
        unsafe extern "C" fn $acquire(
            slf: *mut ffi::PyObject,
            arguments: *const *mut ffi::PyObject,
            positional: ffi::Py_ssize_t,
            names: *mut ffi::PyObject,
        ) -> *mut ffi::PyObject {
            // SAFETY: called attached.
            let py = unsafe { Python::assume_attached() };
            // SAFETY: an instance that the interpreter keeps alive during the call.
            let slf = unsafe { Borrowed::from_ptr(py, slf) };
            // SAFETY: the descriptor checked the class.
            let slf = unsafe { slf.cast_unchecked::<$class>() };
            if positional == 0 && names.is_null() {
                return truth(py, slf.get().take(py));
            }
            // SAFETY: handed on as the interpreter gave them.
            let given = unsafe { block_and_timeout(py, arguments, positional, names) };
            let taken = given.and_then(|[block, timeout]| {
                slf.get().acquire(py, block.as_deref(), timeout.as_deref())
            });
            truth(py, taken)
        }

        /// # Safety
        /// As the module says.
        unsafe extern "C" fn $release(
            slf: *mut ffi::PyObject,
            _: *mut ffi::PyObject,
        ) -> *mut ffi::PyObject {
            // SAFETY: called attached.
            let py = unsafe { Python::assume_attached() };
            // SAFETY: an instance that the interpreter keeps alive during the call.
            let slf = unsafe { Borrowed::from_ptr(py, slf) };
            // SAFETY: the descriptor checked the class.
            let slf = unsafe { slf.cast_unchecked::<$class>() };
            given(py, slf.get().give().map(|()| py.None().into_bound(py)))
        }

        /// # Safety
        /// As the module says.
        unsafe extern "C" fn $exit(
            slf: *mut ffi::PyObject,
            _: *mut *mut ffi::PyObject,
            _: ffi::Py_ssize_t,
        ) -> *mut ffi::PyObject {
            // SAFETY: our own contract, and the second argument is not used.
            unsafe { $release(slf, null_mut()) }
        }
    };
}

lock_methods!(Lock, enter_lock, exit_lock, acquire_lock, release_lock);
lock_methods!(RLock, enter_rlock, exit_rlock, acquire_rlock, release_rlock);
lock_methods!(
    Semaphore,
    enter_semaphore,
    exit_semaphore,
    acquire_semaphore,
    release_semaphore
);

/// The arguments of `acquire(block=True, timeout=None)`.
///
/// # Safety
/// As the interpreter calls with METH_FASTCALL and METH_KEYWORDS: first the positional values, then
/// those whose names the tuple `names` (or null) has.
#[cold]
unsafe fn block_and_timeout<'py>(
    py: Python<'py>,
    arguments: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> PyResult<[Option<Borrowed<'py, 'py, PyAny>>; 2]> {
    let positional = usize::try_from(positional).unwrap_or(0);
    if positional > 2 {
        return Err(PyTypeError::new_err(format!(
            "acquire() takes at most 2 arguments ({positional} given)"
        )));
    }
    let value = |index: usize| {
        // SAFETY: the caller counts no further than there are arguments.
        let place = unsafe { arguments.add(index) };
        // SAFETY: as above; the interpreter filled it.
        let argument = unsafe { *place };
        // SAFETY: the interpreter keeps the arguments alive during the call.
        unsafe { Borrowed::from_ptr(py, argument) }
    };
    let mut found = [None, None];
    for (index, slot) in found.iter_mut().enumerate().take(positional) {
        *slot = Some(value(index));
    }
    let Some(names) = NonNull::new(names) else {
        return Ok(found);
    };
    // SAFETY: alive during the call.
    let names = unsafe { Borrowed::from_ptr(py, names.as_ptr()) };
    for (index, name) in names.cast::<PyTuple>()?.iter_borrowed().enumerate() {
        let name = name.cast::<PyString>()?;
        let name = name.to_cow()?;
        let slot = match &*name {
            "block" => &mut found[0],
            "timeout" => &mut found[1],
            _ => {
                return Err(PyTypeError::new_err(format!(
                    "acquire() got an unexpected keyword argument '{name}'"
                )))
            }
        };
        if slot.is_some() {
            return Err(PyTypeError::new_err(format!(
                "acquire() got multiple values for argument '{name}'"
            )));
        }
        *slot = Some(value(positional + index));
    }
    Ok(found)
}

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

fn truth(py: Python<'_>, taken: PyResult<bool>) -> *mut ffi::PyObject {
    given(
        py,
        taken.map(|taken| PyBool::new(py, taken).to_owned().into_any()),
    )
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
