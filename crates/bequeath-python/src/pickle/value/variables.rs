//! Type variables by value: like classes, each is one in a receiver however often it comes.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::super::reduction::Reduction;
use super::definitions::{self, Id};
use super::home::{self, Home};
use super::late;
use super::parts::call;
use super::tables::{Callables, Tables};
use super::To;
use crate::intern;

#[derive(Clone, Copy)]
pub(super) enum Variable {
    Type,
    Parameters,
    Types,
    Alias,
    /// `typing.NewType`: no variable, but made and found in the same way.
    New,
    /// `P.args` and `P.kwargs`.
    Arguments,
    Keywords,
}

/// The reduction of a type variable; nothing where its name will do.
pub(super) fn reduce<'py>(
    object: &Bound<'py, PyAny>,
    variable: Variable,
    to: To,
) -> PyResult<Option<Reduction<'py>>> {
    let py = object.py();
    let kind = match variable {
        Variable::Arguments | Variable::Keywords => {
            let name = if matches!(variable, Variable::Arguments) {
                "args"
            } else {
                "kwargs"
            };
            let origin = object.getattr(intern!(py, "__origin__"))?;
            return call(Tables::get(py)?.getattr.bind(py), (origin, name));
        }
        Variable::Type => "TypeVar",
        Variable::Parameters => "ParamSpec",
        Variable::Types => "TypeVarTuple",
        Variable::Alias => "TypeAliasType",
        Variable::New => "NewType",
    };
    if let Home::Shared = home::of(object, to)? {
        return Ok(None);
    }
    // An alias cannot be referred to weakly, and is nobody's class.
    let id = match variable {
        Variable::Alias => None,
        _ => Some(definitions::id_of(object)?),
    };
    if let Some(late) = late::reduce(object, kind, id.as_ref())? {
        return Ok(Some(late));
    }
    let keywords = PyDict::new(py);
    let mut positional = vec![object.getattr(intern!(py, "__name__"))?];
    match variable {
        Variable::Alias => {
            positional.push(object.getattr("__value__")?);
            let parameters = object.getattr(intern!(py, "__type_params__"))?;
            if parameters.is_truthy()? {
                keywords.set_item("type_params", parameters)?;
            }
        }
        Variable::New => positional.push(object.getattr("__supertype__")?),
        Variable::Types => {}
        _ => {
            if let Some(constraints) = object.getattr_opt("__constraints__")? {
                for constraint in constraints.try_iter()? {
                    positional.push(constraint?);
                }
            }
            let bound = object.getattr("__bound__")?;
            if !bound.is_none() {
                keywords.set_item("bound", bound)?;
            }
            for name in ["covariant", "contravariant", "infer_variance"] {
                let attribute = format!("__{name}__");
                if let Some(value) = object.getattr_opt(attribute.as_str())? {
                    if value.is_truthy()? {
                        keywords.set_item(name, true)?;
                    }
                }
            }
        }
    }
    if !matches!(variable, Variable::Alias | Variable::New) {
        if let Some(has) = object.getattr_opt("has_default")? {
            if has.call0()?.is_truthy()? {
                keywords.set_item("default", object.getattr("__default__")?)?;
            }
        }
    }
    let positional = PyTuple::new(py, positional)?;
    let module = object.getattr_opt(intern!(py, "__module__"))?;
    call(
        Callables::get(py)?.variable.bind(py),
        (id, kind, positional, keywords, module),
    )
}

/// Makes a type variable, or finds it.
#[pyfunction]
pub fn rebuild_type_variable<'py>(
    id: Option<Id>,
    kind: &Bound<'py, PyString>,
    positional: &Bound<'py, PyTuple>,
    keywords: &Bound<'py, PyDict>,
    module: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = kind.py();
    if let Some(known) = id.and_then(|id| definitions::find(py, &id)) {
        return Ok(known);
    }
    if !matches!(
        kind.to_str()?,
        "TypeVar" | "ParamSpec" | "TypeVarTuple" | "TypeAliasType" | "NewType"
    ) {
        return Err(PyTypeError::new_err("no kind of type variable"));
    }
    let made = py
        .import("typing")?
        .getattr(kind)?
        .call(positional, Some(keywords))?;
    come_from(&made, id, module)?;
    Ok(made)
}

/// Tells what was just made where it was defined, and remembers it by its id.
pub(super) fn come_from<'py>(
    made: &Bound<'py, PyAny>,
    id: Option<Id>,
    module: Option<Bound<'py, PyAny>>,
) -> PyResult<()> {
    if let Some(module) = module {
        // Those of C tell where they were made, aliases their function's, and cannot be told otherwise.
        let _ = made.setattr(intern!(made.py(), "__module__"), module);
    }
    if let Some(id) = id {
        definitions::remember(made, id, true)?;
        definitions::complete(made);
    }
    Ok(())
}
