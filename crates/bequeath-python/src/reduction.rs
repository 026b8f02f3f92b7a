//! Which objects need more than pickle's own way: the question asked for every instance, function and class of a message.
//!
//! `_pickle.Pickler` asks it through `reducer_override`. Nearly always the answer is "none", and is found here without entering
//! Python: a few dictionary lookups. Only functions and classes that the receiver may be unable to import, and types for which
//! somebody registered a reducer, go on to `bequeath._by_value` and to that reducer.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use crate::once::Once;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyModule, PyString, PyType};

use crate::intern;

/// What is looked up for each object; all of it lives as long as the interpreter.
struct Tables {
    /// `ForkingPickler`'s reducers, by exact type.
    registered: Py<PyDict>,
    /// `_by_value`'s, for parts of functions and classes.
    parts: Py<PyDict>,
    settings: Py<PyModule>,
    modules: Py<PyDict>,
    by_value: Py<PyAny>,
    surely_in_main: Py<PyAny>,
    /// What `surely_in_main` has answered for the main module at [`MAIN_ASKED`].
    answers: Py<PyDict>,
}

static TABLES: Once<Tables> = Once::new();
/// Modules that have a spec or a file, by name: a receiver can import them.
static IMPORTABLE: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// The main module that the kept answers are about, by address; it lives as long as `sys.modules` names it.
static MAIN_ASKED: AtomicUsize = AtomicUsize::new(0);
/// How many modules were loaded when multiprocessing's own reduction was last looked for in vain.
static MODULES_WITHOUT: AtomicUsize = AtomicUsize::new(0);

fn tables(py: Python<'_>) -> PyResult<&Tables> {
    TABLES.get_or_try_init(py, || {
        let by_value = py.import("bequeath._by_value")?;
        let home = py.import("bequeath._home")?;
        let dictionary =
            |object: Bound<'_, PyAny>| Ok::<_, PyErr>(object.cast_into::<PyDict>()?.unbind());
        Ok(Tables {
            registered: dictionary(
                py.import("bequeath.reduction")?
                    .getattr("ForkingPickler")?
                    .getattr("_extra_reducers")?,
            )?,
            parts: dictionary(by_value.getattr("PARTS")?)?,
            settings: py.import("bequeath._settings")?.unbind(),
            modules: dictionary(py.import("sys")?.getattr("modules")?)?,
            by_value: by_value.getattr("reduce")?.unbind(),
            surely_in_main: home.getattr("main_surely_has")?.unbind(),
            answers: dictionary(home.getattr("surely")?)?,
        })
    })
}

/// pickle's `reducer_override`: a reduce value, or NotImplemented for what pickle does well by itself.
///
/// # Errors
/// Whatever a reducer raises.
#[pyfunction]
pub fn reduce_for_transfer<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let tables = tables(py)?;
    let kind = object.get_type();
    if let Some(reducer) = tables.registered.bind(py).get_item(&kind)? {
        return reducer.call1((object,));
    }
    let is_definition = kind.is(py.get_type::<PyFunction>()) || object.is_instance_of::<PyType>();
    if is_definition {
        if !is_strict(py, tables)? && !is_by_reference(object, tables)? {
            return tables.by_value.bind(py).call1((object,));
        }
        return Ok(py.NotImplemented().into_bound(py));
    }
    if let Some(reducer) = tables.parts.bind(py).get_item(&kind)? {
        if !is_strict(py, tables)? {
            return reducer.call1((object,));
        }
    }
    if let Some(reducer) = registered_with_the_standard_library(&kind, tables)? {
        return reducer.call1((object,));
    }
    Ok(py.NotImplemented().into_bound(py))
}

fn is_strict(py: Python<'_>, tables: &Tables) -> PyResult<bool> {
    tables
        .settings
        .bind(py)
        .getattr(intern!(py, "strict"))?
        .extract()
}

/// Reducers that packages registered with multiprocessing's own pickler, in a program that has loaded it beside us.
fn registered_with_the_standard_library<'py>(
    kind: &Bound<'py, PyType>,
    tables: &Tables,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = kind.py();
    let modules = tables.modules.bind(py);
    let loaded = modules.len();
    if MODULES_WITHOUT.load(Ordering::Relaxed) == loaded {
        return Ok(None);
    }
    let name = intern!(py, "multiprocessing.reduction");
    let Some(theirs) = modules.get_item(name)? else {
        MODULES_WITHOUT.store(loaded, Ordering::Relaxed);
        return Ok(None);
    };
    let registered = theirs
        .getattr(intern!(py, "ForkingPickler"))
        .and_then(|pickler| pickler.getattr(intern!(py, "_extra_reducers")));
    match registered.as_ref().map(|table| table.cast::<PyDict>()) {
        Ok(Ok(table)) => table.get_item(kind),
        _ => Ok(None), // half imported
    }
}

/// Whether pickle's own way, by name, surely serves: found under that name here, and not in main unless a re-imported main has it.
fn is_by_reference(object: &Bound<'_, PyAny>, tables: &Tables) -> PyResult<bool> {
    let py = object.py();
    let (Ok(module), Ok(name)) = (
        object.getattr(intern!(py, "__module__")),
        object.getattr(intern!(py, "__qualname__")),
    ) else {
        return Ok(false);
    };
    let (Ok(module_name), Ok(name)) = (module.cast::<PyString>(), name.cast::<PyString>()) else {
        return Ok(false);
    };
    let Some(module) = tables.modules.bind(py).get_item(module_name)? else {
        return Ok(false);
    };
    // Names with dots, of methods and nested classes, are rare: Python decides.
    let Ok(found) = module.getattr(name) else {
        return Ok(false);
    };
    if !found.is(object) {
        return Ok(false);
    }
    let module_name = module_name.to_str()?;
    if matches!(module_name, "__main__" | "__mp_main__") {
        return is_surely_in_main(name, tables);
    }
    is_importable(&module, module_name)
}

fn is_surely_in_main(name: &Bound<'_, PyString>, tables: &Tables) -> PyResult<bool> {
    let py = name.py();
    let main = tables
        .modules
        .bind(py)
        .get_item(intern!(py, "__main__"))?
        .map_or(0, |main| main.as_ptr() as usize);
    if MAIN_ASKED.load(Ordering::Relaxed) == main {
        if let Some(answer) = tables.answers.bind(py).get_item(name)? {
            return answer.extract();
        }
    }
    let answer = tables.surely_in_main.bind(py).call1((name,))?.extract();
    MAIN_ASKED.store(main, Ordering::Relaxed);
    answer
}

fn is_importable(module: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    let known =
        |names: &mut Option<HashSet<String>>| names.get_or_insert_with(HashSet::new).contains(name);
    if IMPORTABLE.lock().is_ok_and(|mut names| known(&mut names)) {
        return Ok(true);
    }
    let py = module.py();
    let has = |attribute| {
        module
            .getattr_opt(attribute)
            .map(|value| value.is_some_and(|value| !value.is_none()))
    };
    let importable = has(intern!(py, "__spec__"))? || has(intern!(py, "__file__"))?;
    if importable {
        if let Ok(mut names) = IMPORTABLE.lock() {
            names
                .get_or_insert_with(HashSet::new)
                .insert(name.to_owned());
        }
    }
    Ok(importable)
}
