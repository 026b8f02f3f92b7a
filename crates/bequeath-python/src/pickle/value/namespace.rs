//! What functions by value have for globals.
//!
//! A module that the receiver imports stands for its own. The main module's are the receiver's, if it runs the same
//! program. All others are made anew, once in each message: functions of one message that shared them still do.

use std::cell::RefCell;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString, PyTuple};

use super::super::identities::ByAddress;
use super::super::reduction::Reduction;
use super::home;
use super::tables::{Callables, Tables};
use super::To;
use crate::intern;

thread_local! {
    /// For each message that is being written on this thread: what stands for globals, by the dict's address.
    static WALKS: RefCell<Vec<ByAddress<Held>>> = const { RefCell::new(Vec::new()) };
}

struct Held {
    /// Keeps the address from being used again.
    _globals: Py<PyDict>,
    stands: Py<PyAny>,
}

/// Held while one message is written.
pub(crate) struct Walk(());

impl Walk {
    /// The begin of a message.
    pub(crate) fn begin() -> Self {
        WALKS.with_borrow_mut(|walks| walks.push(ByAddress::default()));
        Self(())
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        // Dropped when the table is free again: that may run code.
        let ended = WALKS.with_borrow_mut(Vec::pop);
        drop(ended);
    }
}

/// Whose globals a function's are.
pub(super) struct Globals<'py> {
    /// What says so in the message.
    pub(super) holder: Bound<'py, PyAny>,
    pub(super) are: Whose,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of a module that the receiver imports: nothing of it needs to travel.
    Imported,
    /// Of the main module, which the receiver runs again.
    Main,
    /// What is used of them travels.
    Own,
}

/// Whose globals these are.
pub(super) fn of<'py>(globals: &Bound<'py, PyDict>, to: To) -> PyResult<Globals<'py>> {
    let py = globals.py();
    let (are, holder) = match whose(globals)? {
        (Whose::Main, _) if to == To::Session => {
            (Whose::Main, intern!(py, "__main__").clone().into_any())
        }
        (Whose::Imported, Some(name)) => (Whose::Imported, name.into_any()),
        (are, _) => {
            let is_main = are == Whose::Main;
            let stands = stand_in(globals, || Namespace::of(globals, is_main))?;
            (Whose::Own, stands)
        }
    };
    Ok(Globals { holder, are })
}

/// The address of globals that a process of the session makes anew.
pub(super) fn made_anew(globals: &Bound<'_, PyDict>) -> PyResult<Option<usize>> {
    let (are, _) = whose(globals)?;
    Ok((are == Whose::Own).then_some(globals.as_ptr() as usize))
}

/// Whose globals these are here, and the name of the module that they are of.
fn whose<'py>(globals: &Bound<'py, PyDict>) -> PyResult<(Whose, Option<Bound<'py, PyString>>)> {
    let py = globals.py();
    let name = globals.get_item(intern!(py, "__name__"))?;
    if let Some(name) = name.and_then(|name| name.cast_into::<PyString>().ok()) {
        let text = name.to_str()?;
        if let Some(module) = home::loaded(&name)? {
            if is_dict_of(globals, &module) {
                if home::is_main(text) {
                    return Ok((Whose::Main, Some(name)));
                }
                if home::is_shared(&module, text)? {
                    return Ok((Whose::Imported, Some(name)));
                }
            }
        }
    }
    let is_main = home::main_module(py).is_ok_and(|main| is_dict_of(globals, &main));
    Ok((if is_main { Whose::Main } else { Whose::Own }, None))
}

fn is_dict_of(globals: &Bound<'_, PyDict>, module: &Bound<'_, PyAny>) -> bool {
    module
        .cast::<PyModule>()
        .is_ok_and(|module| module.dict().is(globals))
}

/// What stands for globals in the message that is being written.
fn stand_in<'py>(
    globals: &Bound<'py, PyDict>,
    make: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = globals.py();
    let address = globals.as_ptr() as usize;
    let known = WALKS.with_borrow(|walks| {
        let held = walks.last()?.get(&address)?;
        Some(held.stands.clone_ref(py))
    });
    if let Some(known) = known {
        return Ok(known.into_bound(py));
    }
    let stands = make()?;
    stands_for(globals, &stands);
    Ok(stands)
}

/// From now on in this message `stands` says whose globals these are.
pub(super) fn stands_for(globals: &Bound<'_, PyDict>, stands: &Bound<'_, PyAny>) {
    let held = Held {
        _globals: globals.clone().unbind(),
        stands: stands.clone().unbind(),
    };
    let old = WALKS.with_borrow_mut(|walks| {
        let walk = walks.last_mut()?;
        walk.insert(globals.as_ptr() as usize, held)
    });
    drop(old);
}

/// Stands for a dict of globals that is made anew in the receiver.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Namespace {
    main_file: Option<Py<PyAny>>,
    seed: Py<PyDict>,
}

impl Namespace {
    fn of<'py>(globals: &Bound<'py, PyDict>, is_main: bool) -> PyResult<Bound<'py, PyAny>> {
        let py = globals.py();
        let seed = PyDict::new(py);
        for name in [
            intern!(py, "__name__"),
            intern!(py, "__package__"),
            intern!(py, "__path__"),
            intern!(py, "__file__"),
        ] {
            if let Some(value) = globals.get_item(name)? {
                seed.set_item(name, value)?;
            }
        }
        let main_file = if is_main { home::main_file(py)? } else { None };
        let namespace = Self {
            main_file: main_file.map(Bound::unbind),
            seed: seed.unbind(),
        };
        Ok(Bound::new(py, namespace)?.into_any())
    }

    pub(super) fn reduce<'py>(&self, py: Python<'py>) -> PyResult<Reduction<'py>> {
        let file = self.main_file.as_ref().map(|file| file.clone_ref(py));
        let arguments = (file, self.seed.clone_ref(py)).into_pyobject(py)?;
        let callable = Callables::get(py)?.namespace.bind(py);
        Ok(Reduction::call(callable.clone(), arguments))
    }
}

#[pymethods]
impl Namespace {
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.reduce(py)?.into_tuple(py)
    }
}

/// Globals for functions of a message: this process's main module's, if it is of the same file, else new ones.
#[pyfunction]
pub fn rebuild_namespace<'py>(
    py: Python<'py>,
    main_file: Option<Bound<'py, PyAny>>,
    seed: Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyDict>> {
    if is_same_program(py, main_file.as_ref())? {
        return dict_of(&home::main_module(py)?);
    }
    seed.set_item(intern!(py, "__builtins__"), py.import("builtins")?)?;
    Ok(seed)
}

/// Whether this process runs the program of which that is the main module's file.
pub(super) fn is_same_program(py: Python<'_>, file: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
    match (file, home::main_file(py)?) {
        (Some(theirs), Some(ours)) => ours.eq(theirs),
        _ => Ok(false),
    }
}

/// This process's globals that `holder` says.
pub(super) fn dict_for<'py>(holder: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let py = holder.py();
    if let Ok(dict) = holder.cast::<PyDict>() {
        return Ok(dict.clone());
    }
    let Ok(name) = holder.cast::<PyString>() else {
        return dict_of(holder);
    };
    if home::is_main(name.to_str()?) {
        return dict_of(&home::main_module(py)?);
    }
    let tables = Tables::get(py)?;
    if let Ok(module) = tables.modules.bind(py).get_item(name) {
        if module.is_instance_of::<PyModule>() {
            return dict_of(&module);
        }
    }
    dict_of(&tables.import_module.bind(py).call1((name,))?)
}

fn dict_of<'py>(module: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let dict = module.getattr(intern!(module.py(), "__dict__"))?;
    Ok(dict.cast_into::<PyDict>()?)
}
