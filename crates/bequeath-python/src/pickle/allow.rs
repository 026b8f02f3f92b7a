//! What a restricted reader may use: the globals that its caller listed, and nothing that leads from there to others.
//!
//! * A name in the pickle is looked up in the list, and is never imported or followed: what is listed was found for
//!   the caller, by the caller's spelling.
//! * Only what was found so may be called, or made instances of: not what such a call has returned.
//! * Only what this pickle has made may be filled or given a state: nothing that was there before.

use std::collections::{HashMap, HashSet};

use pyo3::exceptions::PyTypeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString};
use pyo3::PyTraverseError;

use crate::intern;

use super::look;
use super::tables::{follow, unpickling_error};

/// The list, and what one pickle has made so far.
#[derive(Default)]
pub(super) struct Allow {
    /// By `module.name`; found when it is asked for where only the name was given.
    listed: HashMap<String, Option<Py<PyAny>>>,
    /// Listed objects that the pickle has named, by address.
    named: HashSet<usize>,
    /// Objects that the pickle has made, by address.
    made: HashSet<usize>,
    /// Whatever is in the two sets, so that no address is used again.
    held: Vec<Py<PyAny>>,
}

impl Allow {
    /// The list that a caller gave: names, or the things themselves.
    ///
    /// # Errors
    /// TypeError for what is neither.
    pub(super) fn of(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Box<Self>>> {
        let Some(given) = given.filter(|given| !given.is_none()) else {
            return Ok(None);
        };
        let wrong = |text: String| Err(PyTypeError::new_err(text));
        if given.is_instance_of::<PyString>() {
            return wrong("allow is a list of names or objects, not one name".to_owned());
        }
        let mut allow = Box::<Self>::default();
        for item in given.try_iter()? {
            let item = item?;
            if let Ok(name) = item.cast::<PyString>() {
                let name = name.to_str()?;
                if !name.contains('.') {
                    return wrong(format!("{name:?} is no 'module.name' of a global"));
                }
                allow.listed.insert(name.to_owned(), None);
                continue;
            }
            let text = |name: &str| -> Option<String> { item.getattr(name).ok()?.extract().ok() };
            let (Some(module), Some(name), false) = (
                text("__module__"),
                text("__qualname__").or_else(|| text("__name__")),
                item.is_instance_of::<PyModule>(),
            ) else {
                return wrong(format!(
                    "{} is neither the name of a global nor one that knows its name",
                    item.repr()?
                ));
            };
            allow
                .listed
                .insert(format!("{module}.{name}"), Some(item.unbind()));
        }
        Ok(Some(allow))
    }

    /// The same list for another pickle, and what this reader has named before.
    pub(super) fn again(&self, py: Python<'_>) -> Box<Self> {
        let own = |thing: &Option<Py<PyAny>>| thing.as_ref().map(|thing| thing.clone_ref(py));
        Box::new(Self {
            listed: self
                .listed
                .iter()
                .map(|(name, thing)| (name.clone(), own(thing)))
                .collect(),
            named: self.named.clone(),
            made: HashSet::new(),
            held: self.held.iter().map(|held| held.clone_ref(py)).collect(),
        })
    }

    /// Refuses a name that is not listed.
    ///
    /// # Errors
    /// UnpicklingError with the name.
    pub(super) fn check(&self, py: Python<'_>, module: &str, name: &str) -> PyResult<()> {
        if self.listed.contains_key(&format!("{module}.{name}")) {
            return Ok(());
        }
        Err(unpickling_error(
            py,
            format!(
                "the pickle names {module}.{name}, which is not among what this reader allows; list it in allow \
                 only if no argument makes it do harm"
            ),
        ))
    }

    /// What is listed under a name.
    ///
    /// # Errors
    /// UnpicklingError where nothing is; whatever importing what the caller listed raises.
    pub(super) fn find<'py>(
        &mut self,
        py: Python<'py>,
        module: &str,
        name: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.check(py, module, name)?;
        let full = format!("{module}.{name}");
        let found = match self.listed.get(&full) {
            Some(Some(thing)) => thing.bind(py).clone(),
            _ => {
                let found = import(py, &full)?;
                self.listed.insert(full, Some(found.clone().unbind()));
                found
            }
        };
        self.has_named(&found);
        Ok(found)
    }

    /// From now on it may be called.
    pub(super) fn has_named(&mut self, thing: &Bound<'_, PyAny>) {
        if self.named.insert(thing.as_ptr() as usize) {
            self.held.push(thing.clone().unbind());
        }
    }

    /// Notes a container that an opcode has made, or an object that nobody else holds: it was made just now.
    pub(super) fn has_made(&mut self, thing: &Bound<'_, PyAny>) {
        if look::is_single(thing.as_borrowed()) && self.made.insert(thing.as_ptr() as usize) {
            self.held.push(thing.clone().unbind());
        }
    }

    /// Refuses to call what was not named.
    ///
    /// # Errors
    /// UnpicklingError.
    pub(super) fn may_call(&self, thing: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.named.contains(&(thing.as_ptr() as usize)) {
            return Ok(());
        }
        Err(self.refusal(thing, "calls"))
    }

    /// Refuses to change what this pickle has not made.
    ///
    /// # Errors
    /// UnpicklingError.
    pub(super) fn may_change(&self, thing: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.made.contains(&(thing.as_ptr() as usize)) {
            return Ok(());
        }
        Err(self.refusal(thing, "changes"))
    }

    #[allow(clippy::unused_self)]
    fn refusal(&self, thing: &Bound<'_, PyAny>, does: &str) -> PyErr {
        let kind = thing.get_type();
        let kind = kind
            .name()
            .map_or_else(|_| "object".to_owned(), |name| name.to_string());
        let text = match does {
            "calls" => format!(
                "the pickle calls an object of type {kind} that is not among what this reader allows: it calls \
                 what allow lists, not what that has returned"
            ),
            _ => format!(
                "the pickle changes an object of type {kind} that it has not made; make a copy of what shall differ"
            ),
        };
        unpickling_error(thing.py(), text)
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for thing in self.listed.values().flatten() {
            visit.call(thing)?;
        }
        self.held.iter().try_for_each(|held| visit.call(held))
    }
}

/// What the caller's spelling leads to: a module as long as there is one, then attributes.
fn import<'py>(py: Python<'py>, full: &str) -> PyResult<Bound<'py, PyAny>> {
    let parts: Vec<&str> = full.split('.').collect();
    let missing = py.get_type::<pyo3::exceptions::PyModuleNotFoundError>();
    for split in (1..parts.len()).rev() {
        let module = parts[..split].join(".");
        let import = py
            .import(intern!(py, "importlib"))?
            .call_method1(intern!(py, "import_module"), (&module,));
        match import {
            Ok(module) => return follow(&module, &parts[split..]).map(|(found, _)| found),
            Err(error) if split > 1 && error.is_instance(py, &missing) => {}
            Err(error) => return Err(error),
        }
    }
    Err(unpickling_error(
        py,
        format!("{full} is no name of a global"),
    ))
}
