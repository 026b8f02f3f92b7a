#![allow(unsafe_code)]
//! What pickling knows of the layout of types, which differs between versions of CPython.
//!
//! # Safety invariants
//! Fields are read of a type object that is alive, with the layout that PyO3 declares for this interpreter.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// Changes whenever the class or one of its bases is changed; zero while nobody looked an attribute up.
#[inline]
pub(super) fn type_version(class: &Bound<'_, PyType>) -> u32 {
    // SAFETY: alive, see above.
    unsafe { (*class.as_type_ptr()).tp_version_tag }
}

/// Since 3.11 a type can keep its instances' dicts in front of them, outside of the size that it tells.
const MANAGED_DICT: u64 = if cfg!(Py_3_11) { 1 << 4 } else { 0 };

/// Whether instances hold nothing but a dict, weak references and so many slots: what their default state tells.
pub(super) fn holds_only(class: &Bound<'_, PyType>, slots: usize) -> bool {
    let pointer = size_of::<*const ()>();
    let object = size_of::<ffi::PyObject>();
    // SAFETY: alive, see above.
    let (basic, items, dict, weak) = unsafe {
        let class = &*class.as_type_ptr();
        (
            class.tp_basicsize,
            class.tp_itemsize,
            class.tp_dictoffset,
            class.tp_weaklistoffset,
        )
    };
    // SAFETY: alive.
    let flags: u64 = unsafe { ffi::PyType_GetFlags(class.as_type_ptr()) };
    let mut expected = object + pointer * slots;
    if dict != 0 && flags & MANAGED_DICT == 0 {
        expected += pointer;
    }
    if weak > 0 {
        expected += pointer;
    }
    let is_heap_type = flags & ffi::Py_TPFLAGS_HEAPTYPE != 0;
    is_heap_type && items == 0 && usize::try_from(basic).is_ok_and(|basic| basic <= expected)
}

/// By how many bits the argument of `LOAD_GLOBAL` is shifted to be the index of a name.
pub(super) const LOAD_GLOBAL_SHIFT: u8 = if cfg!(Py_3_11) { 1 } else { 0 };
