//! Why an object cannot cross, and how one that can does.
//!
//! * `walk` goes over the graph; `parts` and `definitions` take one object apart; `path` says where a part is.
//! * `reason` and `remedy` find words; `missing` looks for what is not refused and fails all the same.
//! * `arrived` says of a message that was received and cannot be rebuilt where it is that it cannot; `sketch` finds it.
//! * `report` is what a program asks for. After a failure only the culprits are wanted: [`explain_refusal`].

mod arrived;
mod definitions;
mod missing;
mod parts;
mod path;
mod reason;
mod remedy;
mod report;
mod sketch;
mod walk;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::transfer::{self, Purpose};

pub(crate) use arrived::arrived;
use report::Report;
pub(crate) use sketch::MOST;
use walk::{Rules, Walk};

/// The report about an object on its way to somewhere, as data and as text; `strict` for multiprocessing's rules.
///
/// # Errors
/// ValueError for a destination that there is not.
#[pyfunction]
pub fn explain_object<'py>(
    object: &Bound<'py, PyAny>,
    to: &str,
    root: &str,
    strict: bool,
) -> PyResult<(Bound<'py, PyDict>, String)> {
    let py = object.py();
    if strict {
        return transfer::strictly(|| explain_object(object, to, root, false));
    }
    let strict = transfer::is_strict(py)?;
    let (transfer, start) = match to {
        "spawn" | "forkserver" => (true, true),
        "queue" => (true, false),
        "bytes" => (false, false),
        _ => {
            return Err(PyValueError::new_err(format!(
                "to must be 'spawn', 'forkserver', 'fork', 'bytes' or 'queue', not {to:?}"
            )))
        }
    };
    let rules = Rules {
        transfer,
        start,
        strict,
        portable: false,
    };
    let walk = match (transfer, start) {
        (true, true) => transfer::trial(Purpose::Start, || Walk::over(object, rules)),
        (true, false) => transfer::trial(Purpose::Message, || Walk::over(object, rules)),
        _ => Walk::over(object, rules),
    };
    let report = Report::of(&walk, to, root)?;
    Ok((report.to_dict(py)?, report.text()))
}

/// After a failure: what is refused, as a list of dictionaries, in the pickler's order; None where the error is
/// nobody's refusal and is to be left as it is. The transfer that failed is still open; `portable` if there was none,
/// since what carries it carries bytes only.
///
/// # Errors
/// Only if the package is broken.
#[pyfunction]
pub fn explain_refusal<'py>(
    object: &Bound<'py, PyAny>,
    error: &Bound<'py, PyAny>,
    root: &str,
    portable: bool,
) -> PyResult<Option<Bound<'py, PyList>>> {
    let py = object.py();
    let raised = PyErr::from_value(error.clone());
    if reason::is_left_alone(&raised, py) {
        return Ok(None);
    }
    let rules = Rules {
        transfer: !portable,
        start: transfer::transfer_is_start(),
        strict: transfer::is_strict(py)?,
        portable,
    };
    let walk = if portable || transfer::transfer_active() {
        Walk::over(object, rules)
    } else {
        transfer::trial(Purpose::Message, || Walk::over(object, rules))
    };
    let found = PyList::empty(py);
    for number in walk.culprits() {
        let node = &walk.nodes[number];
        if let Some(error) = &node.error {
            let remedy = report::remedy_at(&walk, number, error);
            let met_first = &walk.nodes[walk.outermost_by_value(number)].object;
            found.append(culprit(
                &node.object,
                error,
                walk.path(number, root),
                remedy,
                reason::situation(met_first, error),
            )?)?;
        }
    }
    if found.is_empty() {
        // Whatever it was, it is not of the kind that shows itself twice.
        let remedy = remedy::remedy(object, &raised, None, rules);
        let situation = reason::situation(object, &raised);
        let path = root.strip_prefix('.').unwrap_or(root).to_owned();
        found.append(culprit(object, &raised, path, remedy, situation)?)?;
    }
    Ok(Some(found))
}

fn culprit<'py>(
    object: &Bound<'py, PyAny>,
    error: &PyErr,
    path: String,
    remedy: String,
    situation: &str,
) -> PyResult<Bound<'py, PyDict>> {
    let py = object.py();
    let entry = PyDict::new(py);
    entry.set_item("path", path)?;
    entry.set_item("type", reason::kind(object))?;
    entry.set_item("definition", reason::definition(object))?;
    entry.set_item("reason", reason::reason(error, py))?;
    entry.set_item("remedy", remedy)?;
    // Which class it is raised as, and what it is about: a lock in a local function's closure is about the lock.
    entry.set_item("situation", situation)?;
    entry.set_item("about", reason::situation(object, error))?;
    entry.set_item("error", error.value(py))?;
    entry.set_item("the_programs", reason::is_the_programs(error, py))?;
    Ok(entry)
}
