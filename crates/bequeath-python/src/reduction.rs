//! Which objects need more than pickle's own way: the question asked for every instance, function and class of a message.
//!
//! The transfer's policy (`transfer/policy.rs`) asks it. Nearly always the answer is "none", and is found here without entering
//! Python, first of all by [`is_plain`] and [`has_name`], which run nobody's code: a few dictionary lookups. Only functions and classes that the receiver may be unable to import, and types for which
//! somebody registered a reducer, go on to `pickle::value` and to that reducer.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use crate::once::Once;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyNotImplemented, PyString, PyType};

use crate::intern;
use crate::pickle::value::{self, To};
use crate::pickle::Reduced;

/// What is looked up for each object; all of it lives as long as the interpreter.
struct Tables {
    /// `ForkingPickler`'s reducers, by exact type.
    registered: Py<PyDict>,
    /// Those of open files, by exact type.
    files: Py<PyDict>,
    modules: Py<PyDict>,
    surely_in_main: Py<PyAny>,
    /// What `surely_in_main` has answered for the main module at [`MAIN_ASKED`].
    answers: Py<PyDict>,
}

static TABLES: Once<Tables> = Once::new();
/// Modules that have a spec or a file, by name: a receiver can import them.
static IMPORTABLE: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// The main module that the kept answers are about, by address; it lives as long as `sys.modules` names it.
static MAIN_ASKED: AtomicUsize = AtomicUsize::new(0);
/// How many modules were loaded when `tempfile` was last looked for in vain; [`KNOWN`] once its files are known.
static MODULES_WITHOUT_TEMPORARY_FILES: AtomicUsize = AtomicUsize::new(0);
const KNOWN: usize = usize::MAX;
/// How many modules were loaded when multiprocessing's own reduction was last looked for in vain.
static MODULES_WITHOUT: AtomicUsize = AtomicUsize::new(0);

fn tables(py: Python<'_>) -> PyResult<&Tables> {
    let tables = TABLES.get_or_try_init(py, || {
        let home = py.import("bequeath._home")?;
        let dictionary =
            |object: Bound<'_, PyAny>| Ok::<_, PyErr>(object.cast_into::<PyDict>()?.unbind());
        Ok::<_, PyErr>(Tables {
            registered: dictionary(
                py.import("bequeath.reduction")?
                    .getattr("ForkingPickler")?
                    .getattr("_extra_reducers")?,
            )?,
            files: dictionary(py.import("bequeath._files")?.getattr("REDUCERS")?)?,
            modules: dictionary(py.import("sys")?.getattr("modules")?)?,
            surely_in_main: home.getattr("main_surely_has")?.unbind(),
            answers: dictionary(home.getattr("surely")?)?,
        })
    })?;
    let looked = MODULES_WITHOUT_TEMPORARY_FILES.load(Ordering::Relaxed);
    if looked != KNOWN && looked != tables.modules.bind(py).len() {
        know_temporary_files(tables.modules.bind(py))?;
    }
    Ok(tables)
}

/// The wrapper of temporary files is Python code of a module that a program may load at any time.
#[cold]
fn know_temporary_files(modules: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = modules.py();
    let mut looked = modules.len();
    // It may be half imported by another thread.
    let loaded = modules.get_item(intern!(py, "tempfile"))?;
    if loaded.is_some_and(|module| module.hasattr("_TemporaryFileWrapper").unwrap_or(false)) {
        py.import(intern!(py, "bequeath._files"))?
            .call_method0(intern!(py, "know_temporary_files"))?;
        looked = KNOWN;
    }
    MODULES_WITHOUT_TEMPORARY_FILES.store(looked, Ordering::Relaxed);
    Ok(())
}

thread_local! {
    /// Who is told what a start carries, while it is packed.
    static LISTENER: RefCell<Option<Py<PyAny>>> = const { RefCell::new(None) };
}

/// Calls `listener` with each object that is asked about while this lives.
pub struct Listening;

impl Listening {
    /// From now on, on this thread.
    #[must_use]
    pub fn with(listener: Py<PyAny>) -> Self {
        LISTENER.set(Some(listener));
        Self
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let old = LISTENER.take();
        drop(old);
    }
}

fn listener(py: Python<'_>) -> Option<Py<PyAny>> {
    LISTENER.with_borrow(|listener| listener.as_ref().map(|listener| listener.clone_ref(py)))
}

/// Whether nothing but pickle's own way is to be considered for an object; what it is written by name needs [`has_name`]
/// as well. Runs nobody's code.
///
/// # Errors
/// When the package is broken.
pub fn is_plain(object: &Bound<'_, PyAny>, kind: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = object.py();
    let tables = tables(py)?;
    // A metaclass could have a hash of its own.
    if !kind.get_type().is(py.get_type::<PyType>()) || LISTENER.with_borrow(Option::is_some) {
        return Ok(false);
    }
    if tables.registered.bind(py).contains(kind)? {
        return Ok(false);
    }
    if is_definition(object, kind) {
        return Ok(true);
    }
    let is_file = tables.files.bind(py).contains(kind)?;
    if (is_file || value::is_part(kind)?) && !crate::transfer::is_strict(py)? {
        return Ok(false);
    }
    // Its table is looked into in full only: the module is somebody else's.
    let modules = tables.modules.bind(py);
    Ok(MODULES_WITHOUT.load(Ordering::Relaxed) == modules.len()
        || !modules.contains(intern!(py, "multiprocessing.reduction"))?)
}

/// Whether the receiver surely finds what stands here in a module under a name. Runs nobody's code: what is not known
/// from earlier is "no", and [`reduce`] finds it out.
///
/// # Errors
/// When the package is broken.
pub fn has_name(module: &Bound<'_, PyString>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    let py = module.py();
    let tables = tables(py)?;
    let text = module.to_str()?;
    if crate::transfer::is_strict(py)? {
        return Ok(true);
    }
    if !matches!(text, "__main__" | "__mp_main__") {
        return Ok(is_known(text));
    }
    Ok(known_of_main(name, tables)? == Some(true))
}

/// A reduce value, or nothing for what pickle does well by itself.
///
/// # Errors
/// Whatever a reducer raises.
pub(crate) fn reduce<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Reduced<'py>>> {
    let py = object.py();
    if let Some(listener) = listener(py) {
        listener.bind(py).call1((object,))?;
    }
    let tables = tables(py)?;
    let kind = object.get_type();
    if let Some(reducer) = tables.registered.bind(py).get_item(&kind)? {
        return answer(&reducer, object);
    }
    if is_definition(object, &kind) {
        if !crate::transfer::is_strict(py)? && !is_by_reference(object, tables)? {
            return Ok(value::reduce(object, To::Session)?.map(Reduced::Fresh));
        }
        return Ok(None);
    }
    if !crate::transfer::is_strict(py)? {
        if let Some(reducer) = tables.files.bind(py).get_item(&kind)? {
            return answer(&reducer, object);
        }
        if let Some(reduced) = value::reduce(object, To::Session)? {
            return Ok(Some(Reduced::Fresh(reduced)));
        }
    }
    match registered_with_the_standard_library(&kind, tables)? {
        Some(reducer) => answer(&reducer, object),
        None => Ok(None),
    }
}

/// Whether it is a function or class that crosses by value, and nobody has registered another way.
///
/// # Errors
/// Whatever asking the object raises.
pub fn is_by_value(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    let tables = tables(py)?;
    let kind = object.get_type();
    Ok(is_definition(object, &kind)
        && !crate::transfer::is_strict(py)?
        && tables.registered.bind(py).get_item(&kind)?.is_none()
        && !is_by_reference(object, tables)?
        && value::is_by_value(object)?)
}

fn is_definition(object: &Bound<'_, PyAny>, kind: &Bound<'_, PyType>) -> bool {
    kind.is(object.py().get_type::<PyFunction>()) || object.is_instance_of::<PyType>()
}

fn answer<'py>(
    reducer: &Bound<'py, PyAny>,
    object: &Bound<'py, PyAny>,
) -> PyResult<Option<Reduced<'py>>> {
    let reduced = reducer.call1((object,))?;
    let is_none = reduced.is(PyNotImplemented::get(object.py()));
    Ok((!is_none).then_some(Reduced::Said(reduced)))
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
    // <lambda>, <locals>: asking the module for it would cost an exception.
    if name.to_str()?.contains('<') {
        return Ok(false);
    }
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

/// What is known of a name of main from earlier.
fn known_of_main(name: &Bound<'_, PyString>, tables: &Tables) -> PyResult<Option<bool>> {
    let py = name.py();
    let main = main_module(py, tables)?;
    if MAIN_ASKED.load(Ordering::Relaxed) != main {
        return Ok(None);
    }
    let known = tables.answers.bind(py).get_item(name)?;
    known.map(|answer| answer.extract()).transpose()
}

fn main_module(py: Python<'_>, tables: &Tables) -> PyResult<usize> {
    let main = tables.modules.bind(py).get_item(intern!(py, "__main__"))?;
    Ok(main.map_or(0, |main| main.as_ptr() as usize))
}

fn is_surely_in_main(name: &Bound<'_, PyString>, tables: &Tables) -> PyResult<bool> {
    let py = name.py();
    if let Some(known) = known_of_main(name, tables)? {
        return Ok(known);
    }
    let main = main_module(py, tables)?;
    let answer = tables.surely_in_main.bind(py).call1((name,))?.extract();
    MAIN_ASKED.store(main, Ordering::Relaxed);
    answer
}

/// Whether a module was found importable earlier.
fn is_known(name: &str) -> bool {
    let known =
        |names: &Option<HashSet<String>>| names.as_ref().is_some_and(|names| names.contains(name));
    !value::is_registered(name) && IMPORTABLE.lock().is_ok_and(|names| known(&names))
}

fn is_importable(module: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    if is_known(name) {
        return Ok(true);
    }
    if value::is_registered(name) {
        return Ok(false);
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
