//! An exception, and all that hang together with it, as plain data.

use std::collections::HashMap;

use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};

use super::frames::frames;
use super::sources::Sources;
use super::stand_in::remote_traceback;
use super::{full_name, is_ordinary, line_of, text_of};
use crate::intern;
use crate::once::Once;
use crate::transfer::dumps_within;

/// No exception.
pub(super) const NONE: i32 = -1;

/// One exception: how it is made anew (a pickled call), its class's name and its nearest builtin one, its text and notes, what of it stayed
/// behind, its cause and context by number, whether the context is not to be shown, the members of a group by number, its frames.
pub(super) type Node<'py> = (
    Option<Bound<'py, PyBytes>>,
    (String, String),
    String,
    Vec<Bound<'py, PyAny>>,
    Vec<String>,
    (i32, i32, bool),
    Option<Vec<i32>>,
    Bound<'py, PyTuple>,
);

/// What a failure is pickled as: the exception and all that hang together with it, it being the first, and sources.
pub(super) fn write<'py>(
    exception: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
    let py = exception.py();
    let mut graph = Graph {
        exceptions: Vec::new(),
        numbers: HashMap::new(),
    };
    let mut sources = Sources::new(py);
    let mut nodes = Vec::new();
    graph.number(exception);
    while let Some(next) = graph.exceptions.get(nodes.len()).cloned() {
        let node = match graph.node(&next, &mut sources) {
            Err(error) if is_ordinary(py, &error) => bare(&next, &error)?,
            node => node?,
        };
        nodes.push(node.into_pyobject(py)?);
    }
    Ok((PyTuple::new(py, nodes)?, sources.into_dict()))
}

/// For an exception that cannot even be looked at.
fn bare<'py>(exception: &Bound<'py, PyAny>, error: &PyErr) -> PyResult<Node<'py>> {
    let py = exception.py();
    Ok((
        None,
        (
            exception.get_type().name()?.to_string(),
            builtin_name(exception)?,
        ),
        String::new(),
        Vec::new(),
        vec![line_of(py, error)?],
        (NONE, NONE, false),
        None,
        PyTuple::empty(py),
    ))
}

struct Graph<'py> {
    exceptions: Vec<Bound<'py, PyAny>>,
    numbers: HashMap<usize, i32>,
}

impl<'py> Graph<'py> {
    fn number(&mut self, exception: &Bound<'py, PyAny>) -> i32 {
        let next = i32::try_from(self.exceptions.len()).unwrap_or(NONE);
        *self
            .numbers
            .entry(exception.as_ptr() as usize)
            .or_insert_with(|| {
                self.exceptions.push(exception.clone());
                next
            })
    }

    fn node(
        &mut self,
        exception: &Bound<'py, PyAny>,
        sources: &mut Sources<'py>,
    ) -> PyResult<Node<'py>> {
        let py = exception.py();
        let cause = self.related(exception.getattr(intern!(py, "__cause__"))?)?;
        let context = self.related(exception.getattr(intern!(py, "__context__"))?)?;
        let quiet = exception.getattr(intern!(py, "__suppress_context__"))?;
        let members = members(exception)?;
        let is_group = members.is_some();
        let members = members.map(|members| {
            let numbers = members.iter().map(|member| self.number(member));
            numbers.collect::<Vec<_>>()
        });
        let mut left = Vec::new();
        let call = write_call(exception, is_group, &mut left)?;
        Ok((
            call,
            (full_name(&exception.get_type())?, builtin_name(exception)?),
            text_of(exception)?,
            notes(exception)?,
            left,
            (cause, context, quiet.is_truthy()?),
            members,
            frames(exception, sources)?,
        ))
    }

    /// The number of a cause or context. The text of an earlier journey is left out: its frames are in the traceback.
    fn related(&mut self, exception: Bound<'py, PyAny>) -> PyResult<i32> {
        let py = exception.py();
        if exception.is_none() {
            return Ok(NONE);
        }
        let text = remote_traceback(py)?;
        if exception.is_exact_instance(&text)
            && exception
                .getattr(intern!(py, "_is_repeated"))?
                .is_truthy()?
        {
            return Ok(NONE);
        }
        Ok(self.number(&exception))
    }
}

/// The members of a group as Python has them since 3.11.
fn members<'py>(exception: &Bound<'py, PyAny>) -> PyResult<Option<Vec<Bound<'py, PyAny>>>> {
    let py = exception.py();
    static GROUP: Once<Option<Py<PyAny>>> = Once::new();
    let group = GROUP.get_or_try_init(py, || {
        let builtins = py.import(intern!(py, "builtins"))?;
        let group = builtins.getattr_opt(intern!(py, "BaseExceptionGroup"))?;
        Ok::<_, PyErr>(group.map(Bound::unbind))
    })?;
    let Some(group) = group else {
        return Ok(None);
    };
    if !exception.is_instance(group.bind(py))? {
        return Ok(None);
    }
    let members = exception.getattr(intern!(py, "exceptions"))?;
    Ok(Some(members.try_iter()?.collect::<PyResult<_>>()?))
}

fn notes<'py>(exception: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = exception.py();
    // In the dict: asking for an attribute that is not there costs an error that is made and dropped.
    let own = exception.getattr(intern!(py, "__dict__"))?;
    let notes = match own.cast::<PyDict>() {
        Ok(own) => own.get_item(intern!(py, "__notes__"))?,
        Err(_) => exception.getattr_opt(intern!(py, "__notes__"))?,
    };
    let Some(notes) = notes.and_then(|notes| notes.try_iter().ok()) else {
        return Ok(Vec::new());
    };
    let texts = notes.filter(|note| note.as_ref().is_ok_and(|n| n.is_instance_of::<PyString>()));
    texts.collect()
}

/// The nearest class that every receiver has.
fn builtin_name(exception: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = exception.py();
    for class in exception.get_type().mro() {
        let module = class.getattr(intern!(py, "__module__"))?;
        if module.eq(intern!(py, "builtins")).unwrap_or(false) {
            return class.getattr(intern!(py, "__name__"))?.extract();
        }
    }
    Ok("BaseException".to_owned())
}

/// Pickles the call that makes an exception anew: function, arguments, state. Without one if not even the class can travel.
fn write_call<'py>(
    exception: &Bound<'py, PyAny>,
    is_group: bool,
    left: &mut Vec<String>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let py = exception.py();
    let own = if is_group {
        call_of_group(exception)
    } else {
        call_of(exception)
    };
    match own.and_then(|call| dumps_within(&call)) {
        Ok(written) => Ok(Some(written)),
        Err(error) if is_ordinary(py, &error) => write_without(exception, is_group, error, left),
        Err(error) => Err(error),
    }
}

/// What its own reduction says, if that is a call and a state.
fn call_of<'py>(exception: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = exception.py();
    let reduced = exception.call_method1(intern!(py, "__reduce_ex__"), (4,))?;
    match reduced.cast::<PyTuple>() {
        Ok(call) if (2..=3).contains(&call.len()) => Ok(reduced),
        _ => Ok((py.None(), exception).into_pyobject(py)?.into_any()), // pickle's affair
    }
}

/// Class, message and attributes: the members go separately, each with its own frames.
fn call_of_group<'py>(exception: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = exception.py();
    let message = exception.getattr(intern!(py, "message"))?;
    let state = exception.getattr(intern!(py, "__dict__"))?;
    let call = (exception.get_type(), (message,), state);
    Ok(call.into_pyobject(py)?.into_any())
}

/// The call without the parts that cannot be pickled, which are noted.
fn write_without<'py>(
    exception: &Bound<'py, PyAny>,
    is_group: bool,
    refusal: PyErr,
    left: &mut Vec<String>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let py = exception.py();
    let class = exception.get_type();
    let Ok(state) = exception
        .getattr(intern!(py, "__dict__"))
        .and_then(|state| Ok(state.cast_into::<PyDict>()?))
    else {
        left.push(line_of(py, &refusal)?);
        return Ok(None);
    };
    let arguments = if is_group {
        (exception.getattr(intern!(py, "message"))?,).into_pyobject(py)?
    } else {
        exception.getattr(intern!(py, "args"))?.cast_into()?
    };
    if let Some(error) = refused(&class)? {
        left.push(format!("its class: {}", line_of(py, &error)?));
        return Ok(None);
    }
    let mut kept = Vec::with_capacity(arguments.len());
    for (at, argument) in arguments.iter().enumerate() {
        match refused(&argument)? {
            None => kept.push(argument),
            Some(error) => {
                left.push(format!(
                    "args[{at}] is only its text here: {}",
                    line_of(py, &error)?
                ));
                kept.push(shown(&argument)?.into_pyobject(py)?.into_any());
            }
        }
    }
    let attributes = PyDict::new(py);
    for (name, value) in state {
        match refused((&name, &value).into_pyobject(py)?.as_any())? {
            None => attributes.set_item(name, value)?,
            Some(error) => left.push(format!(
                "attribute {} ({}) did not travel: {}",
                shown(&name)?,
                full_name(&value.get_type())?,
                line_of(py, &error)?
            )),
        }
    }
    if left.is_empty() {
        // Only its own reduction was at fault.
        left.push(format!(
            "its own reduction was passed over: {}",
            line_of(py, &refusal)?
        ));
    }
    let call = (class, PyTuple::new(py, kept)?, attributes).into_pyobject(py)?;
    match dumps_within(&call) {
        Ok(written) => Ok(Some(written)),
        Err(error) if is_ordinary(py, &error) => {
            left.push(line_of(py, &error)?);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Why an object cannot be pickled, if it cannot.
fn refused(object: &Bound<'_, PyAny>) -> PyResult<Option<PyErr>> {
    match dumps_within(object) {
        Ok(_) => Ok(None),
        Err(error) if is_ordinary(object.py(), &error) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// `repr(object)`, shortened, or its type where that fails.
fn shown(object: &Bound<'_, PyAny>) -> PyResult<String> {
    const MOST: usize = 200;
    let py = object.py();
    match object.repr() {
        Ok(text) => {
            let text = text.to_string_lossy();
            Ok(match text.char_indices().nth(MOST) {
                Some((end, _)) => format!("{}...", &text[..end]),
                None => text.into_owned(),
            })
        }
        Err(error) if error.is_instance_of::<PyException>(py) => {
            Ok(format!("<{}>", full_name(&object.get_type())?))
        }
        Err(error) => Err(error),
    }
}

/// Whether a class is one that exceptions can have.
pub(super) fn is_exception_class(class: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Ok(class) = class.cast::<PyType>() else {
        return Ok(false);
    };
    class.is_subclass_of::<pyo3::exceptions::PyBaseException>()
}

/// The error for what is no exception.
pub(super) fn not_an_exception(object: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let name = full_name(&object.get_type())?;
    Ok(PyTypeError::new_err(format!(
        "its reduction makes a {name}, which is no exception"
    )))
}
