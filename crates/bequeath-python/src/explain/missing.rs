//! What a function that goes by name will not find: globals of the main module that a child's own lacks.
//!
//! Nothing refuses these: the start succeeds, and the child ends with a NameError, or works with another value.

use std::collections::HashSet;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction};

use crate::intern;

use super::definitions::{binding_in_main, is_in_main, name_of, used_globals, Binding};
use super::reason::definition;
use super::walk::{Walk, Way};

/// A global that the receiver lacks, or has otherwise.
pub(super) struct Missing {
    pub(super) function: String,
    pub(super) name: String,
    pub(super) reason: String,
    pub(super) remedy: String,
}

/// Looks at the functions of the main module that go by name, and at those that they call.
pub(super) fn look(walk: &Walk<'_>) -> PyResult<Vec<Missing>> {
    let mut found = Vec::new();
    let mut known = HashSet::new();
    let mut open: Vec<_> = walk
        .nodes
        .iter()
        .filter(|node| node.way == Way::Reference)
        .map(|node| node.object.clone())
        .collect();
    while let Some(function) = open.pop() {
        if !function.is_exact_instance_of::<PyFunction>()
            || !is_in_main(&function)
            || !known.insert(function.as_ptr() as usize)
        {
            continue;
        }
        let py = function.py();
        let names = function
            .getattr(intern!(py, "__globals__"))?
            .cast_into::<PyDict>()?;
        for name in used_globals(&function.getattr(intern!(py, "__code__"))?)? {
            let Some(value) = names.get_item(&name)? else {
                continue;
            };
            let name = name.to_string_lossy();
            let reason = match binding_in_main(py, &name)? {
                Binding::Bound => {
                    open.push(value);
                    continue;
                }
                Binding::Missing => format!(
                    "it uses {name}, which the main module sets where a child does not come along: \
                     under the guard, or while it runs"
                ),
                Binding::Rebound => format!(
                    "it uses {name}, which the main module sets again where a child does not come along: \
                     the child has the first value"
                ),
            };
            let place =
                definition(&function).map_or_else(String::new, |place| format!(" ({place})"));
            found.push(Missing {
                function: format!("{}{place}", name_of(&function)),
                remedy: format!(
                    "Pass {name} as an argument, or set it at the top of the module, outside of the guard"
                ),
                name: name.into_owned(),
                reason,
            });
        }
    }
    Ok(found)
}
