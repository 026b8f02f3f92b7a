#![allow(unsafe_code)]
//! Type variables and aliases that the syntax of 3.12 makes: functions work out what they stand for, when it is first asked for.
//!
//! # Safety invariants
//! Words are read of objects that are alive and of a type that only C code can make, behind which so many words lie.

use pyo3::prelude::*;

/// A part that is worked out late, and the function that does it.
type Late<'py> = Vec<(&'static str, Bound<'py, PyAny>)>;

/// The parts of a type variable or alias of this kind that functions work out: `bound`, `constraints`, `default`, `value`.
///
/// # Errors
/// Whatever asking the object raises.
#[cfg(Py_3_14)]
pub(in super::super) fn late_functions<'py>(
    object: &Bound<'py, PyAny>,
    _kind: &str,
) -> PyResult<Late<'py>> {
    let mut found = Vec::new();
    for (part, name) in [
        ("bound", "evaluate_bound"),
        ("constraints", "evaluate_constraints"),
        ("default", "evaluate_default"),
        ("value", "evaluate_value"),
    ] {
        if let Some(function) = object.getattr_opt(name)? {
            // What was given is given back by an object of another type.
            if function.is_exact_instance_of::<pyo3::types::PyFunction>() {
                found.push((part, function));
            }
        }
    }
    Ok(found)
}

/// The same for versions that show nobody these functions.
///
/// # Errors
/// None.
#[cfg(all(Py_3_12, not(Py_3_14)))]
pub(in super::super) fn late_functions<'py>(
    object: &Bound<'py, PyAny>,
    kind: &str,
) -> PyResult<Late<'py>> {
    // Where they lie, in words behind the header.
    let places: &[(&str, usize)] = match kind {
        "TypeAliasType" => &[("value", 2)],
        "TypeVar" if cfg!(Py_3_13) => &[("bound", 2), ("constraints", 4), ("default", 6)],
        "TypeVar" => &[("bound", 2), ("constraints", 4)],
        "ParamSpec" if cfg!(Py_3_13) => &[("default", 3)],
        "TypeVarTuple" if cfg!(Py_3_13) => &[("default", 2)],
        _ => &[],
    };
    let found = places
        .iter()
        .filter_map(|(part, word)| Some((*part, function_at(object, *word)?)));
    Ok(found.collect())
}

/// The function in a word of an object of a type of `typing`'s C code.
#[cfg(all(Py_3_12, not(Py_3_14)))]
fn function_at<'py>(object: &Bound<'py, PyAny>, word: usize) -> Option<Bound<'py, PyAny>> {
    use pyo3::ffi;

    const IMMUTABLE: u64 = 1 << 8;
    const BASE: u64 = 1 << 10;
    let kind = object.get_type();
    // SAFETY: alive.
    let flags: u64 = unsafe { ffi::PyType_GetFlags(kind.as_type_ptr()) };
    // SAFETY: alive.
    let size = unsafe { (*kind.as_type_ptr()).tp_basicsize }.unsigned_abs();
    let at = size_of::<ffi::PyObject>() + word * size_of::<usize>();
    // Whatever stands under that name in a module: no class of Python code is of this kind.
    if flags & IMMUTABLE == 0 || flags & BASE != 0 || at + size_of::<usize>() > size {
        return None;
    }
    // SAFETY: inside of the object, see above.
    let place = unsafe { object.as_ptr().cast::<u8>().add(at) };
    // SAFETY: aligned, as all words of it are; an object or null.
    let value = unsafe { *place.cast::<*mut ffi::PyObject>() };
    // SAFETY: borrowed from the object, which holds it.
    let value = unsafe { Bound::from_borrowed_ptr_or_opt(object.py(), value) };
    value.filter(|value| value.is_exact_instance_of::<pyo3::types::PyFunction>())
}

/// Before the syntax there are none.
///
/// # Errors
/// None.
#[cfg(not(Py_3_12))]
pub(in super::super) fn late_functions<'py>(
    _object: &Bound<'py, PyAny>,
    _kind: &str,
) -> PyResult<Late<'py>> {
    Ok(Vec::new())
}
