//! What whoever writes pickles for a purpose of his own decides: a transfer does.

use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use super::reduction::Reduced;

/// Asked about objects that are not of an exact builtin type. Nothing is asked of Python for it: a question costs a
/// few lookups.
pub(crate) trait Policy {
    /// Whether the object is written as pickle would by itself, found without running anybody's code; a name that
    /// it is written by is asked for by [`Policy::has_name`].
    fn is_plain(&self, object: &Bound<'_, PyAny>, kind: &Bound<'_, PyType>) -> PyResult<bool>;

    /// Whether the reader surely finds what stands in a module under a name, found without running anybody's code.
    fn has_name(&self, module: &Bound<'_, PyString>, name: &Bound<'_, PyString>) -> PyResult<bool>;

    /// What is written in the object's place, if anything else than pickle itself would.
    fn reduce<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Option<Reduced<'py>>>;

    /// Whether the buffer was taken, to travel beside the pickle.
    fn takes(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool>;
}
