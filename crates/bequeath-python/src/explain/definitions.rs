//! Functions and classes: whether they go by name, and what they are made of where they do not.

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyString, PyTuple, PyType};

use crate::intern;

use super::parts::{Expanded, Part};
use super::path::Step;
use super::walk::{Rules, Way};

/// What the main module is called, there and here.
const MAIN: [&str; 2] = ["__main__", "__mp_main__"];

/// Names of a class that say how it was made, not what it has.
const OF_THE_MACHINERY: [&str; 13] = [
    "__dict__",
    "__weakref__",
    "__module__",
    "__qualname__",
    "__doc__",
    "__slots__",
    "_abc_impl",
    "__abstractmethods__",
    "__firstlineno__",
    "__static_attributes__",
    "__annotate__",
    "__annotate_func__",
    "__annotations_cache__",
];

/// Takes a function or class apart, unless it goes by name.
pub(super) fn expand<'py>(object: &Bound<'py, PyAny>, rules: Rules) -> PyResult<Expanded<'py>> {
    if !rules.transfer || rules.strict {
        by_name(object)?;
        if rules.strict && rules.start {
            surely_there(object)?;
        }
        return Ok(by_reference(object));
    }
    let pending = match crate::reduction::reduce(object) {
        Ok(None) => {
            by_name(object)?;
            return Ok(by_reference(object));
        }
        Ok(Some(_)) => None,
        Err(error) => Some(error),
    };
    let mut expanded = match object.cast_exact::<PyFunction>() {
        Ok(function) => function_value(function.as_any())?,
        Err(_) => class_value(object)?,
    };
    if is_in_main(object) && !name_of(object).contains('<') {
        expanded.way = Way::Either;
    }
    expanded.pending = pending;
    Ok(expanded)
}

fn by_reference<'py>(object: &Bound<'py, PyAny>) -> Expanded<'py> {
    let name = module_of(object).len() + name_of(object).len();
    Expanded::new(Way::Reference, name as u64 + 8, Vec::new())
}

/// Whether pickle finds it under its name.
///
/// # Errors
/// What pickle raises if not.
pub(super) fn by_name(object: &Bound<'_, PyAny>) -> PyResult<()> {
    crate::pickle::dumps(object, None, true, None, false).map(|_| ())
}

/// By multiprocessing's rules a child has of the main module what running it again gives.
fn surely_there(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    if !is_in_main(object) {
        return Ok(());
    }
    let name = name_of(object);
    let root = name.split('.').next().unwrap_or_default();
    if binding_in_main(py, root)? != Binding::Missing {
        return Ok(());
    }
    Err(PyAttributeError::new_err(format!(
        "the child runs the main module again as __mp_main__, which does not define {name} then"
    )))
}

/// What running the main module again makes of a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    /// It is bound as it is here.
    Bound,
    /// It is bound, and bound again by what a child does not run.
    Rebound,
    /// It is not bound.
    Missing,
}

/// What running the main module again makes of a name.
pub(super) fn binding_in_main(py: Python<'_>, name: &str) -> PyResult<Binding> {
    let word: String = py
        .import(intern!(py, "bequeath._explain"))?
        .call_method1(intern!(py, "binding_in_main"), (name,))?
        .extract()?;
    Ok(match word.as_str() {
        "missing" => Binding::Missing,
        "rebound" => Binding::Rebound,
        _ => Binding::Bound,
    })
}

/// Whether an object says that it lives in the main module.
pub(super) fn is_in_main(object: &Bound<'_, PyAny>) -> bool {
    MAIN.contains(&module_of(object).as_str())
}

/// What a function by value takes along.
fn function_value<'py>(function: &Bound<'py, PyAny>) -> PyResult<Expanded<'py>> {
    let py = function.py();
    let code = function.getattr(intern!(py, "__code__"))?;
    let mut parts = Vec::new();
    let names = code.getattr(intern!(py, "co_freevars"))?;
    let cells = function.getattr(intern!(py, "__closure__"))?;
    if let Ok(cells) = cells.cast::<PyTuple>() {
        for (name, cell) in names.try_iter()?.zip(cells.iter()) {
            // One that is not filled yet has nothing to send.
            if let Ok(contents) = cell.getattr(intern!(py, "cell_contents")) {
                let name: String = name?.extract()?;
                parts.push((Step::words(format!("'s variable {name}")), contents));
            }
        }
    }
    if let Ok(defaults) = function
        .getattr(intern!(py, "__defaults__"))?
        .cast::<PyTuple>()
    {
        for (index, part) in defaults.iter().enumerate() {
            parts.push((Step::words(format!(".__defaults__[{index}]")), part));
        }
    }
    for attribute in [
        intern!(py, "__kwdefaults__"),
        intern!(py, "__annotations__"),
        intern!(py, "__dict__"),
    ] {
        // Annotations that are worked out late may name what does not exist.
        let Ok(values) = function.getattr(attribute) else {
            continue;
        };
        let Ok(values) = values.cast::<PyDict>() else {
            continue;
        };
        for (name, part) in values.iter() {
            let step = if attribute == "__dict__" {
                Step::words(format!(".{}", name.str()?))
            } else {
                Step::words(format!(".{attribute}[{}]", super::path::short(&name)))
            };
            parts.push((step, part));
        }
    }
    globals(function, &code, &mut parts)?;
    let size = py
        .import(intern!(py, "marshal"))?
        .call_method1(intern!(py, "dumps"), (&code,))?
        .len()?;
    Ok(Expanded::new(Way::Value, size as u64 + 60, parts))
}

/// The globals that a function by value uses and that its receiver may lack.
fn globals<'py>(
    function: &Bound<'py, PyAny>,
    code: &Bound<'py, PyAny>,
    parts: &mut Vec<Part<'py>>,
) -> PyResult<()> {
    let py = function.py();
    let names = function
        .getattr(intern!(py, "__globals__"))?
        .cast_into::<PyDict>()?;
    let home = py.import(intern!(py, "bequeath._home"))?;
    let modules = py
        .import(intern!(py, "sys"))?
        .getattr(intern!(py, "modules"))?;
    let module_name = names.get_item(intern!(py, "__name__"))?;
    let module = module_name
        .as_ref()
        .and_then(|name| modules.get_item(name).ok());
    let lives_there = |module: &Bound<'py, PyAny>| {
        module
            .getattr(intern!(py, "__dict__"))
            .is_ok_and(|own| own.is(&names))
    };
    let is_main = |name: &Bound<'py, PyAny>| {
        name.extract::<String>()
            .is_ok_and(|name| MAIN.contains(&name.as_str()))
    };
    let in_main = module_name.as_ref().is_some_and(is_main);
    if let Some(module) = module.filter(|module| !in_main && lives_there(module)) {
        let importable = home.call_method1(intern!(py, "is_importable"), (module,))?;
        if importable.is_truthy()? {
            return Ok(()); // the receiver's module has them
        }
    }
    let surely = home.getattr(intern!(py, "main_surely_has"))?;
    for name in used_globals(code)? {
        let Some(value) = names.get_item(&name)? else {
            continue;
        };
        if in_main && surely.call1((&name,))?.is_truthy()? {
            continue;
        }
        parts.push((Step::words(format!("'s global {name}")), value));
    }
    Ok(())
}

/// The global names that code and the code inside of it read or write.
pub(super) fn used_globals<'py>(code: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyString>>> {
    let py = code.py();
    let mut found: Vec<Bound<'py, PyString>> = Vec::new();
    let mut open = vec![code.clone()];
    while let Some(code) = open.pop() {
        let steps = py
            .import(intern!(py, "dis"))?
            .call_method1(intern!(py, "get_instructions"), (&code,))?;
        for step in steps.try_iter()? {
            let step = step?;
            let operation: String = step.getattr(intern!(py, "opname"))?.extract()?;
            if !operation.ends_with("_GLOBAL") && !operation.ends_with("_NAME") {
                continue;
            }
            let Ok(name) = step.getattr(intern!(py, "argval"))?.cast_into::<PyString>() else {
                continue;
            };
            if !found.iter().any(|known| known.is(&name)) {
                found.push(name);
            }
        }
        let kind = code.get_type();
        for constant in code.getattr(intern!(py, "co_consts"))?.try_iter()? {
            let constant = constant?;
            if constant.get_type().is(&kind) {
                open.push(constant);
            }
        }
    }
    Ok(found)
}

/// What a class by value takes along.
fn class_value<'py>(class: &Bound<'py, PyAny>) -> PyResult<Expanded<'py>> {
    let py = class.py();
    let mut parts = Vec::new();
    let metaclass = class.get_type();
    if !metaclass.is(py.get_type::<PyType>()) {
        parts.push((Step::words("'s metaclass"), metaclass.into_any()));
    }
    let bases = class
        .getattr(intern!(py, "__bases__"))?
        .cast_into::<PyTuple>()?;
    for (index, base) in bases.iter().enumerate() {
        parts.push((Step::words(format!(".__bases__[{index}]")), base));
    }
    let own = py
        .import(intern!(py, "builtins"))?
        .call_method1(intern!(py, "vars"), (class,))?
        .call_method0(intern!(py, "copy"))?
        .cast_into::<PyDict>()?;
    for (name, value) in own.iter() {
        let Ok(name) = name.cast_into::<PyString>() else {
            continue;
        };
        let text = name.to_string_lossy();
        let kind = value.get_type();
        let kind = kind.name()?;
        let made = matches!(
            &*kind.to_string_lossy(),
            "member_descriptor" | "getset_descriptor"
        );
        if !made && !OF_THE_MACHINERY.contains(&&*text) {
            parts.push((Step::Attribute(name.clone()), value));
        }
    }
    Ok(Expanded::new(Way::Value, 80, parts))
}

/// `__module__`, if it is a text.
pub(super) fn module_of(object: &Bound<'_, PyAny>) -> String {
    text(object, "__module__").unwrap_or_default()
}

/// `__qualname__`, else `__name__`.
pub(super) fn name_of(object: &Bound<'_, PyAny>) -> String {
    text(object, "__qualname__")
        .or_else(|| text(object, "__name__"))
        .unwrap_or_else(|| super::path::type_name(object))
}

fn text(object: &Bound<'_, PyAny>, name: &str) -> Option<String> {
    object.getattr(name).ok()?.extract().ok()
}
