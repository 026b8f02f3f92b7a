//! Exceptions on their way to another process: whole, and in any case.
//!
//! A [`Failure`] holds an exception until it is pickled; then it becomes plain data (`written`): for each exception that
//! hangs together with it (causes, contexts, members of groups) how to make it anew, what to say if that cannot be done,
//! and the frames of its traceback (`frames`), with lines of source that no file has (`sources`). Where the data arrives
//! stands the exception itself (`rebuilt`), or for what cannot be made anew a `RemoteError` (`stand_in`), with a traceback of frames (`traceback`) that tools show
//! as they show those of their own process.

mod frames;
mod rebuilt;
mod sources;
mod stand_in;
mod traceback;
mod written;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::intern;
use crate::once::Once;

pub use rebuilt::rebuild_failure;
pub use stand_in::describe_failure;

/// An exception that can always be pickled; what is unpickled is the exception itself, never this.
#[pyclass(module = "bequeath._engine", frozen)]
pub struct Failure {
    exception: Py<PyAny>,
}

#[pymethods]
impl Failure {
    #[new]
    fn new(exception: Py<PyAny>) -> Self {
        Self { exception }
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        static REBUILD: Once<Py<PyAny>> = Once::new();
        let rebuild = looked_up(py, &REBUILD, "bequeath._engine", "rebuild_failure")?;
        let written = written::write(self.exception.bind(py))?;
        (rebuild, written).into_pyobject(py)
    }
}

/// What a module has under a name, looked up once.
fn looked_up<'a, 'py>(
    py: Python<'py>,
    kept: &'a Once<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<&'a Bound<'py, PyAny>> {
    let found = kept.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import(module)?.getattr(name)?.unbind())
    })?;
    Ok(found.bind(py))
}

/// Whether an error is about what was attempted, as opposed to one that ends the program or its thread.
fn is_ordinary(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<pyo3::exceptions::PyException>(py)
}

/// `str(object)`, or what to say where that fails.
fn text_of(object: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = object.py();
    match object.str() {
        Ok(text) => Ok(text.to_string_lossy().into_owned()),
        Err(error) if is_ordinary(py, &error) => Ok(format!(
            "<its text cannot be had: {}>",
            error.get_type(py).name()?
        )),
        Err(error) => Err(error),
    }
}

/// `TypeError: cannot pickle ...`, in one line.
fn line_of(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    let name = error.get_type(py).name()?;
    let text = text_of(error.value(py).as_any())?;
    Ok(match text.lines().next() {
        Some(first) => format!("{name}: {first}"),
        None => name.to_string(),
    })
}

/// The full name of a class, as tracebacks show it.
fn full_name(class: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = class.py();
    let name = text_of(&class.getattr(intern!(py, "__qualname__"))?)?;
    let module = text_of(&class.getattr(intern!(py, "__module__"))?)?;
    Ok(match module.as_str() {
        "builtins" | "__main__" | "__mp_main__" => name,
        module => format!("{module}.{name}"),
    })
}
