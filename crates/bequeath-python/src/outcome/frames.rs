//! The frames of a traceback as plain data.

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::sources::Sources;
use crate::intern;
use crate::pickle::{code_position, Position};

/// Names of file, function and module, the first line of the function, and the place in it: line, last line, first column and
/// last column, as code objects count them; what is not known is -1.
pub(super) type Frame<'py> = (
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    i32,
    Position,
);

/// The frames of a traceback, outermost first. Those of this package that called the task are left out.
pub(super) fn frames<'py>(
    exception: &Bound<'py, PyAny>,
    sources: &mut Sources<'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = exception.py();
    let mut frames: Vec<Frame<'py>> = Vec::new();
    let mut entry = exception.getattr(intern!(py, "__traceback__"))?;
    let mut callers = true;
    while !entry.is_none() {
        let frame = frame(&entry, sources, &mut callers)?;
        frames.extend(frame);
        entry = entry.getattr(intern!(py, "tb_next"))?;
    }
    PyTuple::new(py, frames)
}

/// One entry of a traceback; nothing for one of the package's own `callers`.
fn frame<'py>(
    entry: &Bound<'py, PyAny>,
    sources: &mut Sources<'py>,
    callers: &mut bool,
) -> PyResult<Option<Frame<'py>>> {
    let py = entry.py();
    let frame = entry.getattr(intern!(py, "tb_frame"))?;
    let globals = frame.getattr(intern!(py, "f_globals"))?;
    let module = match globals.get_item(intern!(py, "__name__")) {
        Ok(name) if name.is_exact_instance_of::<PyString>() => name,
        _ => intern!(py, "").clone().into_any(),
    };
    *callers = *callers && is_ours(&module);
    if *callers {
        return Ok(None);
    }
    let code = frame.getattr(intern!(py, "f_code"))?;
    let file = code.getattr(intern!(py, "co_filename"))?;
    let name = code.getattr(intern!(py, "co_name"))?;
    let qualname = match code.getattr_opt(intern!(py, "co_qualname"))? {
        Some(qualname) => qualname,
        None => name.clone(), // before 3.11
    };
    let first_line = code.getattr(intern!(py, "co_firstlineno"))?.extract()?;
    let place: Option<i32> = entry.getattr(intern!(py, "tb_lasti"))?.extract().ok();
    let line = entry.getattr(intern!(py, "tb_lineno"))?;
    let line = line.extract().unwrap_or(first_line);
    let (end_line, column, end_column) = place
        .and_then(|place| code_position(&code, place))
        .filter(|(at, ..)| *at == line)
        .map_or((-1, -1, -1), |(_, end_line, column, end_column)| {
            (end_line, column, end_column)
        });
    sources.note(&file, &globals)?;
    let place = (line, end_line, column, end_column);
    Ok(Some((file, name, qualname, module, first_line, place)))
}

fn is_ours(module: &Bound<'_, PyAny>) -> bool {
    let name = module.cast::<PyString>().ok();
    name.and_then(|name| name.to_str().ok())
        .is_some_and(|name| name == "bequeath" || name.starts_with("bequeath."))
}
