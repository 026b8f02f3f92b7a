//! Functions by value: code, globals, closure, and what was set on them.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFunction, PyModule, PyString, PyTuple};

use super::super::version::{HAS_LAZY_ANNOTATIONS, HAS_TYPE_PARAMETERS};
use super::code::{self, Form};
use super::definitions::{self, Id};
use super::home;
use super::namespace::{self, Globals, Whose};
use super::tables::{Callables, Tables};
use super::To;
use crate::intern;

/// The reduction of a function; `own` is its name in the main module, if it has one there.
pub(super) fn reduce<'py>(
    function: &Bound<'py, PyAny>,
    to: To,
    own: Option<Bound<'py, PyString>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = function.py();
    let code = function.getattr(intern!(py, "__code__"))?;
    let form = code::form(&code)?;
    let dict = function
        .getattr(intern!(py, "__globals__"))?
        .cast_into::<PyDict>()?;
    let globals = namespace::of(&dict, to)?;
    let closure = function.getattr(intern!(py, "__closure__"))?;
    let mut arguments = vec![
        code::version(py)?.into_pyobject(py)?.into_any(),
        form.bytes.bind(py).clone().into_any(),
        globals.holder.clone(),
    ];
    let id = match own {
        Some(name) => {
            let id = definitions::id_of(function)?;
            arguments.extend([closure.clone(), name.into_any(), id.clone().into_any()]);
            Some(id)
        }
        None if closure.is_none() => None,
        None => {
            arguments.push(closure.clone());
            None
        }
    };
    let attributes = attributes(function, &dict, &form, globals.are)?;
    let travelling = PyDict::new(py);
    travel(&form, &dict, &globals, |name, value| {
        travelling.set_item(name, value)
    })?;
    let submodules = submodules(&form, &globals, &travelling, &closure)?;
    let callables = Callables::get(py)?;
    let make = callables.function.bind(py);
    let arguments = PyTuple::new(py, arguments)?;
    let nothing = attributes.is_empty() && travelling.is_empty() && submodules.is_empty();
    if nothing {
        return (make, arguments).into_pyobject(py);
    }
    let some = |dict: Bound<'py, PyDict>| (!dict.is_empty()).then_some(dict);
    let submodules = (!submodules.is_empty()).then_some(submodules);
    let state = (some(attributes), some(travelling), submodules, id).into_pyobject(py)?;
    let set = callables.set_function.bind(py);
    (make, arguments, state, py.None(), py.None(), set).into_pyobject(py)
}

/// What a new function of the code would not have by itself.
fn attributes<'py>(
    function: &Bound<'py, PyAny>,
    globals: &Bound<'py, PyDict>,
    form: &Form,
    are: Whose,
) -> PyResult<Bound<'py, PyDict>> {
    let py = function.py();
    let attributes = PyDict::new(py);
    for (name, expected) in [
        (intern!(py, "__name__"), &form.name),
        (intern!(py, "__qualname__"), &form.qualname),
        (intern!(py, "__doc__"), &form.doc),
    ] {
        let value = function.getattr(name)?;
        let expected = expected.bind(py);
        if !value.is(expected) && !value.eq(expected)? {
            attributes.set_item(name, value)?;
        }
    }
    let module = function.getattr(intern!(py, "__module__"))?;
    let expected = globals.get_item(intern!(py, "__name__"))?;
    let same = match expected {
        Some(expected) => module.is(&expected) || module.eq(&expected)?,
        None => module.is_none(),
    };
    if !same {
        let main = are == Whose::Main && module.extract::<&str>().is_ok_and(home::is_main);
        if !main {
            attributes.set_item(intern!(py, "__module__"), module)?;
        }
    }
    for name in [intern!(py, "__defaults__"), intern!(py, "__kwdefaults__")] {
        let value = function.getattr(name)?;
        if !value.is_none() {
            attributes.set_item(name, value)?;
        }
    }
    if !lazy_annotations(function, &attributes)? {
        let name = intern!(py, "__annotations__");
        // Annotations that are worked out late may name what does not exist.
        if let Ok(value) = function.getattr(name) {
            if value.is_truthy()? {
                attributes.set_item(name, value)?;
            }
        }
    }
    for (name, there) in [
        (intern!(py, "__type_params__"), HAS_TYPE_PARAMETERS),
        (intern!(py, "__dict__"), true),
    ] {
        // Asking for what is not there costs an exception.
        if there {
            let value = function.getattr(name)?;
            if value.is_truthy()? {
                attributes.set_item(name, value)?;
            }
        }
    }
    Ok(attributes)
}

/// The function that works a function's annotations out, if it has one.
pub(super) fn annotate<'py>(function: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if !HAS_LAZY_ANNOTATIONS {
        return Ok(None);
    }
    let annotate = function.getattr(intern!(function.py(), "__annotate__"))?;
    Ok((!annotate.is_none()).then_some(annotate))
}

/// Since 3.14 a function's annotations are a function that works them out: that travels, not what it would return.
fn lazy_annotations<'py>(
    function: &Bound<'py, PyAny>,
    attributes: &Bound<'py, PyDict>,
) -> PyResult<bool> {
    let annotate = annotate(function)?;
    if let Some(annotate) = &annotate {
        attributes.set_item(intern!(function.py(), "__annotate__"), annotate)?;
    }
    Ok(annotate.is_some())
}

/// Shows the globals that the function uses and the receiver may lack.
fn travel<'py>(
    form: &Form,
    dict: &Bound<'py, PyDict>,
    globals: &Globals<'py>,
    mut show: impl FnMut(&Bound<'py, PyString>, Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    if globals.are == Whose::Imported {
        return Ok(());
    }
    let py = dict.py();
    for name in &form.globals {
        let name = name.bind(py);
        let Some(value) = dict.get_item(name)? else {
            continue;
        };
        if globals.are == Whose::Own || !home::main_surely_has(name)? {
            show(name, value)?;
        }
    }
    Ok(())
}

/// Modules that the function reaches as attributes of packages, and that a receiver has to import therefore.
fn submodules<'py>(
    form: &Form,
    globals: &Globals<'py>,
    travelling: &Bound<'py, PyDict>,
    closure: &Bound<'py, PyAny>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = travelling.py();
    let mut found = Vec::new();
    if globals.are == Whose::Imported {
        return Ok(found);
    }
    let mut packages: Vec<_> = travelling.iter().map(|(_, value)| value).collect();
    if let Ok(cells) = closure.cast::<PyTuple>() {
        for cell in cells {
            packages.extend(
                cell.getattr_opt(intern!(py, "cell_contents"))
                    .ok()
                    .flatten(),
            );
        }
    }
    packages.retain(|package| package.is_instance_of::<PyModule>());
    let modules = Tables::get(py)?.modules.bind(py).cast::<PyDict>()?;
    while let Some(package) = packages.pop() {
        if package.getattr_opt(intern!(py, "__path__"))?.is_none() {
            continue;
        }
        let name: String = package.getattr(intern!(py, "__name__"))?.extract()?;
        for attribute in &form.attributes {
            let full = format!("{name}.{}", attribute.bind(py).to_str()?);
            if let Some(module) = modules.get_item(&full)? {
                found.push(PyString::new(py, &full).into_any());
                packages.push(module);
            }
        }
    }
    Ok(found)
}

/// The globals of a function that cross with it: for whoever tells what a message is made of.
///
/// # Errors
/// Whatever asking the function raises.
#[pyfunction]
pub fn travelling_globals<'py>(function: &Bound<'py, PyFunction>) -> PyResult<Bound<'py, PyDict>> {
    let py = function.py();
    let form = code::form(&function.getattr(intern!(py, "__code__"))?)?;
    let dict = function
        .getattr(intern!(py, "__globals__"))?
        .cast_into::<PyDict>()?;
    let globals = namespace::of(&dict, To::Session)?;
    let found = PyDict::new(py);
    travel(&form, &dict, &globals, |name, value| {
        found.set_item(name, value)
    })?;
    Ok(found)
}

/// Makes a function; one that this process's main module has under `own` already is that one.
#[pyfunction]
#[pyo3(signature = (version, code, holder, closure=None, own=None, id=None))]
pub fn rebuild_function<'py>(
    version: u32,
    code: &Bound<'py, PyBytes>,
    holder: &Bound<'py, PyAny>,
    closure: Option<Bound<'py, PyAny>>,
    own: Option<Bound<'py, PyString>>,
    id: Option<Id>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = code.py();
    let globals = namespace::dict_for(holder)?;
    let mut main = None;
    if let (Some(own), Some(id)) = (&own, id) {
        let module = home::main_module(py)?;
        if module.getattr(intern!(py, "__dict__"))?.is(&globals) {
            if let Some(found) = own_definition(&module, own, id)? {
                return Ok(found);
            }
            main = Some(module);
        }
    }
    let code = code::rebuild_code(py, version, code)?;
    let none = py.None();
    let made = match closure {
        Some(closure) => {
            let function = Tables::get(py)?.function.bind(py);
            function.call1((code, &globals, &none, &none, closure))?
        }
        None => Tables::get(py)?.function.bind(py).call1((code, &globals))?,
    };
    if let Some(id) = id {
        definitions::remember(&made, id, true)?;
    }
    if let (Some(main), Some(own)) = (main, own) {
        plant(&main, &own, &made)?;
    }
    Ok(made)
}

/// What main has under a definition's name, if that is to be used: its own, or what came under this id before.
/// (What came under another id is an older definition of a main module that is typed in.)
pub(super) fn own_definition<'py>(
    main: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    id: Id,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(found) = home::look_up(main, name)? else {
        return Ok(None);
    };
    if definitions::standing(&found).is_some_and(|standing| standing.arrived && standing.id != id) {
        return Ok(None);
    }
    if name.to_str()?.contains('.') {
        // A class that has just come lacks its own attributes still, and shows inherited ones.
        let called = found.getattr_opt(intern!(name.py(), "__qualname__"))?;
        if !called.is_some_and(|called| called.eq(name).unwrap_or(false)) {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

/// Lets main have what came for want of its own.
pub(super) fn plant(
    main: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    made: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if name.to_str()?.contains('.') {
        return Ok(());
    }
    main.setattr(name, made)
}

/// Names that arrived in main with a function; a later message brings their newer values.
static ARRIVED: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// Gives a function that was just made what it had besides its code.
#[pyfunction]
#[allow(clippy::type_complexity)]
pub fn set_function<'py>(
    function: &Bound<'py, PyAny>,
    state: (
        Option<Bound<'py, PyDict>>,
        Option<Bound<'py, PyDict>>,
        Option<Vec<Bound<'py, PyString>>>,
        Option<Id>,
    ),
) -> PyResult<()> {
    let py = function.py();
    let (attributes, travelling, submodules, id) = state;
    if let Some(id) = id {
        let ours = definitions::standing(function)
            .is_some_and(|standing| standing.arrived && standing.id == id);
        if !ours {
            return Ok(()); // main's own definition stays as it is
        }
    }
    for module in submodules.unwrap_or_default() {
        Tables::get(py)?.import_module.bind(py).call1((module,))?;
    }
    for (name, value) in attributes.iter().flatten() {
        if name.eq(intern!(py, "__dict__"))? {
            let own = function.getattr(intern!(py, "__dict__"))?;
            own.cast::<PyDict>()?
                .update(value.cast::<PyDict>()?.as_mapping())?;
        } else {
            function.setattr(name.cast::<PyString>()?, value)?;
        }
    }
    let Some(travelling) = travelling else {
        return Ok(());
    };
    let globals = function.getattr(intern!(py, "__globals__"))?;
    let globals = globals.cast::<PyDict>()?;
    let in_main = home::main_module(py)?
        .getattr(intern!(py, "__dict__"))?
        .is(globals);
    if !in_main {
        return globals.update(travelling.as_mapping());
    }
    for (name, value) in travelling {
        let text: String = name.extract()?;
        let has = globals.contains(&name)?;
        let newer = {
            let mut arrived = ARRIVED.lock().unwrap_or_else(PoisonError::into_inner);
            let arrived = arrived.get_or_insert_default();
            if has {
                arrived.contains(&text)
            } else {
                arrived.insert(text)
            }
        };
        if newer {
            globals.set_item(name, value)?;
        }
    }
    Ok(())
}
