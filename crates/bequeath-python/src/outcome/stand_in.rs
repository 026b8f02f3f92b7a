//! What stands for an exception that cannot be made anew, and the text of a failure.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};

use super::looked_up;
use super::traceback::traceback;
use super::written::Node;
use crate::intern;
use crate::once::Once;

/// A `RemoteError` that the `except` clauses for the exception's nearest builtin class catch.
pub(super) fn stand_in<'py>(
    py: Python<'py>,
    (name, builtin): &(String, String),
    text: &str,
    why: &str,
) -> PyResult<Bound<'py, PyAny>> {
    py.import(intern!(py, "bequeath.exceptions"))?
        .call_method1(intern!(py, "_stand_in"), (builtin, name, text, why))
}

/// The class of the text that stands as the cause.
pub(super) fn remote_traceback(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static CLASS: Once<Py<PyAny>> = Once::new();
    looked_up(py, &CLASS, "bequeath._remote_traceback", "RemoteTraceback").cloned()
}

/// A plain group for one whose class cannot be had.
pub(super) fn group<'py>(
    (name, _): &(String, String),
    text: &str,
    members: &Bound<'py, PyList>,
    why: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let py = members.py();
    // Made from BaseExceptionGroup it is an ExceptionGroup if its members let it.
    py.import(intern!(py, "builtins"))?
        .getattr(intern!(py, "BaseExceptionGroup"))?
        .call1((format!("{text} [stands for {name}: {why}]"), members))
}

/// The text that Python shows of a failure, without making its exceptions: classes of the same names stand for theirs.
///
/// # Errors
/// TypeError for what `Failure` did not write.
#[pyfunction]
pub fn describe_failure(nodes: &Bound<'_, PyTuple>) -> PyResult<String> {
    let py = nodes.py();
    let read = nodes
        .iter()
        .map(|node| node.extract::<Node<'_>>())
        .collect::<PyResult<Vec<_>>>()?;
    let mut shown: Vec<Bound<'_, PyAny>> = Vec::with_capacity(read.len());
    for (_, (name, _), text, notes, left, ..) in &read {
        let exception = class_named(py, name, "Exception")?.call1((text,))?;
        let notes = PyList::new(py, notes)?;
        for note in left {
            notes.append(note)?;
        }
        if !notes.is_empty() {
            exception.setattr(intern!(py, "__notes__"), notes)?;
        }
        shown.push(exception);
    }
    // Groups are made of their members, which stand behind them or, if they are somebody's cause too, before.
    let members_of = |at: usize, shown: &[Bound<'_, PyAny>]| -> Option<Vec<Py<PyAny>>> {
        let (.., members, _) = &read[at];
        let members = members.as_ref()?.iter();
        let found = members.filter_map(|&at| shown.get(usize::try_from(at).ok()?));
        Some(found.map(|member| member.clone().unbind()).collect())
    };
    for at in (0..read.len()).rev() {
        let Some(members) = members_of(at, &shown) else {
            continue;
        };
        let (_, (name, _), text, ..) = &read[at];
        let made = class_named(py, name, "BaseExceptionGroup")?.call1((text, members))?;
        if let Some(notes) = shown[at].getattr_opt(intern!(py, "__notes__"))? {
            made.setattr(intern!(py, "__notes__"), notes)?;
        }
        shown[at] = made;
    }
    for ((.., (cause, context, quiet), _, frames), exception) in read.iter().zip(&shown) {
        let at = |number: i32| usize::try_from(number).ok().and_then(|at| shown.get(at));
        exception.setattr(intern!(py, "__traceback__"), traceback(frames)?)?;
        exception.setattr(intern!(py, "__context__"), at(*context))?;
        exception.setattr(intern!(py, "__cause__"), at(*cause))?;
        exception.setattr(intern!(py, "__suppress_context__"), quiet)?;
    }
    let Some(first) = shown.first() else {
        return Err(PyTypeError::new_err("a failure without an exception"));
    };
    let trace = first.getattr(intern!(py, "__traceback__"))?;
    let lines = py.import(intern!(py, "traceback"))?.call_method1(
        intern!(py, "format_exception"),
        (first.get_type(), first, trace),
    )?;
    intern!(py, "")
        .call_method1(intern!(py, "join"), (lines,))?
        .extract()
}

/// A class that is shown under a name, and its instances by their text.
fn class_named<'py>(py: Python<'py>, name: &str, base: &str) -> PyResult<Bound<'py, PyAny>> {
    let builtins = py.import(intern!(py, "builtins"))?;
    let base = builtins.getattr(base)?;
    let namespace = PyDict::new(py);
    // The name is whole; those of this module are shown without it.
    namespace.set_item(intern!(py, "__module__"), intern!(py, "builtins"))?;
    namespace.set_item(intern!(py, "__str__"), first_argument(py)?)?;
    let class = py.get_type::<PyType>().call1((name, (base,), namespace))?;
    class.setattr(intern!(py, "__qualname__"), name)?;
    Ok(class)
}

/// `lambda exception: exception.args[0]`.
fn first_argument(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import(intern!(py, "bequeath._remote_traceback"))?
        .getattr(intern!(py, "_first_argument"))
}
