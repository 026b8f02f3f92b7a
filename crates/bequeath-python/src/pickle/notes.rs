//! What an error says of where it arose. Since 3.14 pickle adds notes to it, from the inside to the outside.

use pyo3::prelude::*;

use crate::intern;

use super::look::Object;
use super::save::{Saver, Stop};
use super::version::HAS_NOTES;

impl<'py> Saver<'_, 'py> {
    /// The same result; an error has a note of what was being written then. Messages have better ones (`explain`).
    #[inline(always)]
    pub(super) fn noted<T>(
        &self,
        result: Result<T, Stop>,
        what: impl FnOnce() -> String,
    ) -> Result<T, Stop> {
        match result {
            Err(stop) if HAS_NOTES && self.hooks.policy.is_none() => {
                Err(stop.with(|error| add(self.py, error, what())))
            }
            result => result,
        }
    }

    /// The same for a part of an object.
    #[inline(always)]
    pub(super) fn noted_part<T>(
        &self,
        result: Result<T, Stop>,
        object: Option<Object<'_, 'py>>,
        part: &str,
    ) -> Result<T, Stop> {
        self.noted(result, || match object {
            Some(object) => format!("{} {part}", type_name(object)),
            None => part.to_owned(),
        })
    }
}

#[cold]
fn add(py: Python<'_>, error: PyErr, what: String) -> PyErr {
    let note = format!("when serializing {what}");
    // Who has an exception that takes no notes is told nothing more.
    let _ = error
        .value(py)
        .call_method1(intern!(py, "add_note"), (note,));
    error
}

/// A type as errors name it: with its module, unless that goes without saying.
pub(super) fn type_name(object: Object<'_, '_>) -> String {
    let class = object.get_type();
    let full = class.fully_qualified_name();
    full.map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

/// A value as errors show it.
pub(super) fn shown(object: &Bound<'_, PyAny>) -> String {
    object
        .repr()
        .map_or_else(|_| "?".to_owned(), |text| text.to_string())
}
