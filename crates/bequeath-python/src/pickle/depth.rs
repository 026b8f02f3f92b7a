#![allow(unsafe_code)]
//! How deep a walk may go before it is a RecursionError.
//!
//! # Safety invariants
//! Calls of the API are made on an attached thread, and in pairs on the same one.

use pyo3::ffi;
use pyo3::prelude::*;

/// Counts the depth of Python's and our own recursion; a RecursionError instead of the end of the stack.
pub(super) struct Deeper;

impl Deeper {
    pub(super) fn enter(py: Python<'_>, doing: &'static std::ffi::CStr) -> PyResult<Self> {
        // SAFETY: attached; the text is static.
        if unsafe { ffi::Py_EnterRecursiveCall(doing.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(Self)
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        // SAFETY: paired with the call in `enter`, on the same thread.
        unsafe { ffi::Py_LeaveRecursiveCall() }
    }
}

/// Where the stack was. Since 3.12 the interpreter lets extensions go deeper than a walk of ours has stack for.
pub(super) struct StackMark(usize);

/// A quarter of what the smaller of the usual stacks has.
const STACK: usize = 2 << 20;

impl StackMark {
    #[inline]
    pub(super) fn here() -> Self {
        let mark = 0_u8;
        Self((&raw const mark) as usize)
    }

    #[inline]
    pub(super) fn check(&self) -> PyResult<()> {
        if Self::here().0.abs_diff(self.0) > STACK {
            return Err(pyo3::exceptions::PyRecursionError::new_err(
                "maximum recursion depth exceeded while pickling an object",
            ));
        }
        Ok(())
    }
}
