//! Functions by value: code, globals, closure, and what was set on them.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFunction, PyModule, PyString, PyTuple};

use super::super::look::{self, Object};
use super::super::reduction::Reduction;
use super::super::version::{self, OfFunction};
use super::code::{self, Form};
use super::definitions::{self, Id};
use super::home;
use super::in_main::{own_definition, plant};
use super::namespace::{self, Globals, Whose};
use super::tables::{Callables, Tables};
use super::To;
use crate::intern;

/// The reduction of a function; `own` is its name in the main module, if it has one there.
pub(super) fn reduce<'py>(
    function: &Bound<'py, PyAny>,
    to: To,
    own: Option<Bound<'py, PyString>>,
) -> PyResult<Reduction<'py>> {
    let py = function.py();
    let parts = version::of_function(function.as_borrowed());
    let form = code::form(&parts.code)?;
    let dict = parts.globals.cast::<PyDict>()?;
    let globals = namespace::of(&dict, to)?;
    let closure = parts.closure.map(|closure| closure.to_owned());
    let version = code::version_object(py)?.clone();
    let bytes = form.bytes.bind(py).clone().into_any();
    let holder = globals.holder.clone();
    let mut id = None;
    let arguments = match (own, &closure) {
        (Some(name), closure) => {
            let own = definitions::id_of(function)?;
            id = Some(own.clone());
            (version, bytes, holder, closure, name, own).into_pyobject(py)
        }
        (None, None) => (version, bytes, holder).into_pyobject(py),
        (None, Some(closure)) => (version, bytes, holder, closure).into_pyobject(py),
    }?;
    let attributes = attributes(function, &parts, &dict, &form, globals.are)?;
    let mut travelling = Filled::default();
    travel(&form, &dict, &globals, |name, value| {
        travelling.set(name, &value)
    })?;
    let submodules = submodules(&form, &globals, travelling.0.as_ref(), closure.as_ref())?;
    let callables = Callables::get(py)?;
    let make = callables.function.bind(py).clone();
    if attributes.is_none() && travelling.0.is_none() && submodules.is_empty() {
        return Ok(Reduction::call(make, arguments));
    }
    let submodules = (!submodules.is_empty()).then_some(submodules);
    let state = (attributes, travelling.0, submodules, id).into_pyobject(py)?;
    let set = callables.set_function.bind(py).clone();
    let made = Reduction::call_and_set(make, arguments, state.into_any(), Some(set));
    Ok(made)
}

/// A dict that is made when there is something to put into it.
#[derive(Default)]
struct Filled<'py>(Option<Bound<'py, PyDict>>);

impl<'py> Filled<'py> {
    fn set(&mut self, name: &Bound<'py, PyString>, value: &Bound<'py, PyAny>) -> PyResult<()> {
        let dict = self.0.get_or_insert_with(|| PyDict::new(name.py()));
        dict.set_item(name, value)
    }
}

/// What a new function of the code would not have by itself.
fn attributes<'py>(
    function: &Bound<'py, PyAny>,
    parts: &OfFunction<'_, 'py>,
    globals: &Bound<'py, PyDict>,
    form: &Form,
    are: Whose,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let py = function.py();
    let none = py.None().into_bound(py);
    let or_none = |value: Option<Object<'_, 'py>>| match value {
        Some(value) => value.to_owned(),
        None => none.clone(),
    };
    let mut attributes = Filled::default();
    for (name, value, expected) in [
        (intern!(py, "__name__"), parts.name, &form.name),
        (intern!(py, "__qualname__"), parts.qualname, &form.qualname),
        (intern!(py, "__doc__"), parts.doc, &form.doc),
    ] {
        let (value, expected) = (or_none(value), expected.bind(py));
        if !value.is(expected) && !value.eq(expected)? {
            attributes.set(name, &value)?;
        }
    }
    let module = or_none(parts.module);
    let expected = globals.get_item(intern!(py, "__name__"))?;
    let same = match expected {
        Some(expected) => module.is(&expected) || module.eq(&expected)?,
        None => module.is_none(),
    };
    if !same {
        let main = are == Whose::Main && module.extract::<&str>().is_ok_and(home::is_main);
        if !main {
            attributes.set(intern!(py, "__module__"), &module)?;
        }
    }
    for (name, value) in [
        (intern!(py, "__defaults__"), parts.defaults),
        (intern!(py, "__kwdefaults__"), parts.keyword_defaults),
        // Since 3.14 annotations are a function that works them out: that travels, not what it would return.
        (intern!(py, "__annotate__"), parts.annotate),
    ] {
        if let Some(value) = value {
            attributes.set(name, &value)?;
        }
    }
    if parts.annotate.is_none() && parts.has_annotations {
        let name = intern!(py, "__annotations__");
        // Annotations that are worked out late may name what does not exist.
        if let Ok(value) = function.getattr(name) {
            if value.is_truthy()? {
                attributes.set(name, &value)?;
            }
        }
    }
    for (name, value) in [
        (intern!(py, "__type_params__"), parts.type_parameters),
        (intern!(py, "__dict__"), parts.attributes),
    ] {
        if let Some(value) = value {
            if value.is_truthy()? {
                attributes.set(name, &value)?;
            }
        }
    }
    Ok(attributes.0)
}

/// The function that works a function's annotations out, since 3.14.
pub(super) fn annotate<'py>(function: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let parts = version::of_function(function.as_borrowed());
    parts.annotate.map(|annotate| annotate.to_owned())
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
    travelling: Option<&Bound<'py, PyDict>>,
    closure: Option<&Bound<'py, PyAny>>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = globals.holder.py();
    let mut found = Vec::new();
    let travelling = travelling.into_iter().flatten();
    let mut packages: Vec<_> = travelling.map(|(_, value)| value).collect();
    if let Some(Ok(cells)) = closure.map(|closure| closure.cast::<PyTuple>()) {
        for cell in cells {
            packages.extend(look::cell_contents(&cell)?);
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
