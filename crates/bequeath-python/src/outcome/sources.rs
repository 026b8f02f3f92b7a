//! Lines of source that no file has: cells of notebooks, code from archives, what a doctest or a shell ran.
//!
//! Whoever shows a traceback asks `linecache`. What the process of the task has there and no file can tell goes along, and is put into
//! the receiver's `linecache` if that knows nothing of the name.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use super::is_ordinary;
use crate::intern;

/// Longer sources stay behind.
const MOST_CHARACTERS: usize = 1 << 18;

/// What is known under these names changes with each use.
const ANYBODYS: [&str; 3] = ["<string>", "<stdin>", "<unknown>"];

/// Collects sources while frames are looked at.
pub(super) struct Sources<'py> {
    found: Bound<'py, PyDict>,
    seen: HashSet<usize>,
}

impl<'py> Sources<'py> {
    pub(super) fn new(py: Python<'py>) -> Self {
        Self {
            found: PyDict::new(py),
            seen: HashSet::new(),
        }
    }

    /// Takes the source of a file along if need be; `globals` are those of a module that was made of it.
    pub(super) fn note(
        &mut self,
        file: &Bound<'py, PyAny>,
        globals: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let py = file.py();
        // By address: held by the code objects of the traceback, and there are many frames of few files.
        if !self.seen.insert(file.as_ptr() as usize) {
            return Ok(());
        }
        let Some(name) = file.cast::<PyString>().ok().and_then(|n| n.to_str().ok()) else {
            return Ok(());
        };
        if ANYBODYS.contains(&name) || is_file(name) {
            return Ok(());
        }
        let lines = py
            .import(intern!(py, "linecache"))?
            .call_method1(intern!(py, "getlines"), (file, globals));
        match lines {
            Ok(lines) => self.add(file, &lines),
            Err(error) if is_ordinary(py, &error) => Ok(()), // a loader of the program's own
            Err(error) => Err(error),
        }
    }

    fn add(&self, file: &Bound<'py, PyAny>, lines: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = file.py();
        let text = intern!(py, "").call_method1(intern!(py, "join"), (lines,))?;
        if !text.is_empty()? && text.len()? <= MOST_CHARACTERS {
            self.found.set_item(file, text)?;
        }
        Ok(())
    }

    pub(super) fn into_dict(self) -> Bound<'py, PyDict> {
        self.found
    }
}

/// Whether a name is a file's for everybody; files that were found are not looked for again.
fn is_file(name: &str) -> bool {
    static FOUND: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    let found = || FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if found().as_ref().is_some_and(|found| found.contains(name)) {
        return true;
    }
    let path = Path::new(name);
    let is_file = path.is_absolute() && path.is_file();
    if is_file {
        found().get_or_insert_default().insert(name.to_owned());
    }
    is_file
}

/// Makes known here what came along.
pub(super) fn make_known(sources: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = sources.py();
    if sources.is_empty() {
        return Ok(());
    }
    let linecache = py.import(intern!(py, "linecache"))?;
    let cache = linecache.getattr(intern!(py, "cache"))?;
    for (file, text) in sources {
        let known = linecache.call_method1(intern!(py, "getlines"), (&file,))?;
        if known.cast::<PyList>().is_ok_and(|lines| !lines.is_empty()) {
            continue;
        }
        let lines = text.call_method1(intern!(py, "splitlines"), (true,))?;
        // Without a time of modification: `checkcache` leaves it alone.
        cache.set_item(&file, (text.len()?, py.None(), lines, &file))?;
    }
    Ok(())
}
