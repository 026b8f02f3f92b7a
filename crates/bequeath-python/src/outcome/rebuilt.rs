//! Plain data becomes the exception again.

use bequeath_pickle::Slice;
use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple, PyType};

use super::sources::make_known;
use super::stand_in::{group, remote_traceback, stand_in};
use super::traceback::traceback;
use super::written::{is_exception_class, not_an_exception, Node, NONE};
use super::{is_ordinary, line_of};
use crate::intern;
use crate::once::Once;
use crate::pickle::read_transfer;

/// The exception that a `Failure` held, with all that hung together with it. It is made in any case: for what cannot
/// be made anew stands a `RemoteError`.
///
/// # Errors
/// What ends the program or its thread; TypeError for what `Failure` did not write.
#[pyfunction]
pub fn rebuild_failure<'py>(
    nodes: &Bound<'py, PyTuple>,
    sources: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = nodes.py();
    make_known(sources)?;
    let read = nodes
        .iter()
        .map(|node| node.extract::<Node<'py>>())
        .collect::<PyResult<Vec<_>>>()?;
    let exceptions = Making::all(py, &read)?;
    let at = |number: i32| {
        usize::try_from(number)
            .ok()
            .and_then(|at| exceptions.get(at))
    };
    for (node, exception) in read.iter().zip(&exceptions) {
        let (.., (cause, context, quiet), _, frames) = node;
        let set = |name: &Bound<'py, PyString>, value: &Bound<'py, PyAny>| {
            set_own(exception, name, value)
        };
        set(intern!(py, "__traceback__"), &traceback(frames)?)?;
        if let Some(context) = at(*context) {
            set(intern!(py, "__context__"), context)?;
        }
        if let Some(cause) = at(*cause) {
            set(intern!(py, "__cause__"), cause)?;
        }
        set(
            intern!(py, "__suppress_context__"),
            &quiet.into_pyobject(py)?.to_owned(),
        )?;
    }
    let Some(first) = exceptions.first() else {
        return Err(PyRuntimeError::new_err("a failure without an exception"));
    };
    give_text(&read, &exceptions, nodes)?;
    Ok(first.clone())
}

/// The last of the causes gets the text of all as its own cause, as multiprocessing's users know it.
fn give_text<'py>(
    nodes: &[Node<'py>],
    exceptions: &[Bound<'py, PyAny>],
    written: &Bound<'py, PyTuple>,
) -> PyResult<()> {
    let py = written.py();
    let mut last = 0;
    // As many steps as there are exceptions: causes may lead in a circle.
    for _ in nodes {
        let cause = nodes
            .get(last)
            .map_or(NONE, |(.., (cause, ..), _, _)| *cause);
        match usize::try_from(cause) {
            Ok(next) if next < nodes.len() => last = next,
            _ => break,
        }
    }
    let (Some((.., (cause, _, quiet), _, _)), Some(exception)) =
        (nodes.get(last), exceptions.get(last))
    else {
        return Ok(());
    };
    if *cause != NONE {
        return Ok(());
    }
    let text = remote_traceback(py)?.call_method1(intern!(py, "_of"), (written,))?;
    set_own(exception, intern!(py, "__cause__"), &text)?;
    set_own(
        exception,
        intern!(py, "__suppress_context__"),
        &quiet.into_pyobject(py)?.to_owned(),
    )
}

/// Sets what all exceptions have, whatever the class thinks of attributes.
fn set_own(
    exception: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = exception.py();
    static SET: Once<Py<PyAny>> = Once::new();
    let set = SET.get_or_try_init(py, || {
        let object = py.get_type::<pyo3::types::PyAny>();
        Ok::<_, PyErr>(object.getattr(intern!(py, "__setattr__"))?.unbind())
    })?;
    set.bind(py).call1((exception, name, value)).map(drop)
}

/// Exceptions being made, members before their groups.
struct Making<'a, 'py> {
    py: Python<'py>,
    nodes: &'a [Node<'py>],
    made: Vec<Option<Bound<'py, PyAny>>>,
}

impl<'a, 'py> Making<'a, 'py> {
    fn all(py: Python<'py>, nodes: &'a [Node<'py>]) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let mut making = Self {
            py,
            nodes,
            made: vec![None; nodes.len()],
        };
        (0..nodes.len()).map(|at| making.one(at)).collect()
    }

    fn one(&mut self, wanted: usize) -> PyResult<Bound<'py, PyAny>> {
        let mut open = vec![wanted];
        while let Some(&at) = open.last() {
            if self.made[at].is_some() {
                open.pop();
                continue;
            }
            let (.., members, _) = &self.nodes[at];
            let members = members.as_deref().unwrap_or_default();
            let members: Vec<usize> = members
                .iter()
                .filter_map(|&member| usize::try_from(member).ok())
                .filter(|&member| member < self.nodes.len())
                .collect();
            let missing = members
                .iter()
                .copied()
                .find(|&member| self.made[member].is_none());
            match missing {
                // More than there are: they go in a circle, which no group can.
                Some(missing) if open.len() <= self.nodes.len() => open.push(missing),
                _ => {
                    let members = members.iter().filter_map(|&at| self.made[at].clone());
                    let made = self.make(&self.nodes[at], members.collect())?;
                    self.made[at] = Some(made);
                }
            }
        }
        self.made[wanted]
            .clone()
            .ok_or_else(|| PyRuntimeError::new_err("a failure that refers to itself"))
    }

    fn make(
        &self,
        node: &Node<'py>,
        members: Vec<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let (call, names, text, notes, left, _, group_members, _) = node;
        let is_group = group_members.is_some();
        let mut added: Vec<String> = left.clone();
        let members = is_group.then(|| PyList::new(py, members)).transpose()?;
        let made = match call {
            Some(call) => make(call, members.as_ref(), &mut added),
            None => Err(PyRuntimeError::new_err(added.pop())),
        };
        let exception = match made {
            Ok(made) => made,
            Err(error) if is_ordinary(py, &error) => {
                let why = match call {
                    Some(_) => line_of(py, &error)?,
                    None => error.value(py).str()?.to_string(),
                };
                let exception = match members {
                    Some(members) => group(names, text, &members, &why)?,
                    None => stand_in(py, names, text, &why)?,
                };
                for note in notes {
                    add_note(&exception, note)?;
                }
                exception
            }
            Err(error) => return Err(error),
        };
        for note in added {
            add_note(&exception, note.into_pyobject(py)?.as_any())?;
        }
        Ok(exception)
    }
}

/// Adds a note; what takes none goes without.
fn add_note(exception: &Bound<'_, PyAny>, note: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = exception.py();
    let add = || {
        let notes = match exception.getattr_opt(intern!(py, "__notes__"))? {
            Some(notes) => notes.cast_into::<PyList>()?,
            None => PyList::empty(py),
        };
        notes.append(note)?;
        set_own(exception, intern!(py, "__notes__"), &notes)
    };
    match add() {
        Err(error) if !is_ordinary(py, &error) => Err(error),
        _ => Ok(()),
    }
}

/// Makes an exception by its pickled call.
fn make<'py>(
    call: &Bound<'py, PyBytes>,
    members: Option<&Bound<'py, PyList>>,
    added: &mut Vec<String>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = call.py();
    let read = read_transfer(py, &mut Slice::new(call.as_bytes()), None);
    let parts = read.map_err(|(error, _)| error)?.cast_into::<PyTuple>()?;
    let (callable, arguments) = (parts.get_item(0)?, parts.get_item(1)?);
    if callable.is_none() {
        return checked(arguments);
    }
    let state = parts.get_item(2).ok().filter(|state| !state.is_none());
    let arguments = match members {
        None => arguments.cast_into::<PyTuple>()?,
        Some(members) => (arguments.get_item(0)?, members).into_pyobject(py)?,
    };
    let made = match callable.call1(&arguments).and_then(checked) {
        Ok(made) => made,
        Err(error) if is_ordinary(py, &error) && is_exception_class(&callable)? => {
            let made =
                without_constructor(&callable, &arguments).map_err(|_| error.clone_ref(py))?;
            added.push(format!(
                "made anew without its constructor, which would not take `args`: {}",
                line_of(py, &error)?
            ));
            made
        }
        Err(error) => return Err(error),
    };
    if let Some(state) = state {
        made.call_method1(intern!(py, "__setstate__"), (state,))?;
    }
    Ok(made)
}

fn checked(made: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    if made.is_instance_of::<PyBaseException>() {
        Ok(made)
    } else {
        Err(not_an_exception(&made)?)
    }
}

/// An instance with its arguments, as the nearest builtin class makes one: for constructors that take others than they
/// hand to `super().__init__()`.
fn without_constructor<'py>(
    class: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    for base in class.cast::<PyType>()?.mro() {
        let module = base.getattr(intern!(py, "__module__"))?;
        if !module.eq(intern!(py, "builtins"))? {
            continue;
        }
        let whole: Vec<_> = std::iter::once(class.clone()).chain(arguments).collect();
        let made = base.call_method1(intern!(py, "__new__"), PyTuple::new(py, whole)?)?;
        let whole: Vec<_> = std::iter::once(made.clone()).chain(arguments).collect();
        base.call_method1(intern!(py, "__init__"), PyTuple::new(py, whole)?)?;
        return checked(made);
    }
    Err(PyRuntimeError::new_err("no builtin base"))
}
