//! What to do about an object that cannot cross: the smallest change that helps, in a sentence.

use pyo3::prelude::*;
use pyo3::types::PyType;

use super::definitions::{module_of, name_of};
use super::parts::is_definition;
use super::walk::Rules;

/// Module, how the name of the type begins, what helps.
const BY_NAME: [(&str, &str, &str); 23] = [
    (
        "_thread",
        "lock",
        "Use `bequeath.Lock()`, which crosses, or leave it out of the state and make a new one in the child",
    ),
    (
        "_thread",
        "RLock",
        "Use `bequeath.RLock()`, which crosses, or leave it out of the state and make a new one in the child",
    ),
    (
        "threading",
        "",
        "Use the object of the same name of `bequeath`, which crosses, or make a new one in the child",
    ),
    ("queue", "", "Use `bequeath.Queue()`, which crosses"),
    ("_queue", "", "Use `bequeath.SimpleQueue()`, which crosses"),
    ("_thread", "_local", "Make the thread-local object in the child"),
    ("sqlite3", "", "Open the database in the child, from its path"),
    ("_ssl", "", "Make the context in the child"),
    ("ssl", "", "Hand over the plain socket and wrap it in the child"),
    ("_asyncio", "", "Futures and tasks belong to one event loop: hand over the result"),
    ("asyncio", "", "Futures, tasks and loops belong to one process: hand over the result"),
    ("concurrent.futures", "", "Hand over the result, or make the executor in the child"),
    ("weakref", "", "Hand over the object itself"),
    ("_contextvars", "", "Hand over the values"),
    ("select", "", "Make it in the child and register the descriptors there"),
    ("_io", "", "Hand over a file that has a descriptor, or its content"),
    ("mmap", "", "Use `bequeath.RawArray` or map the file in the child"),
    ("re", "", "Hand over the pattern"),
    (
        "builtins",
        "generator",
        "A running computation cannot move: hand over its results (a list), or the function and its arguments",
    ),
    (
        "builtins",
        "async_generator",
        "A running computation cannot move: hand over its results (a list), or the function and its arguments",
    ),
    (
        "builtins",
        "coroutine",
        "A running computation cannot move: hand over its results (a list), or the function and its arguments",
    ),
    (
        "builtins",
        "memoryview",
        "Hand over the object behind the view, or `bytes(view)`",
    ),
    ("builtins", "module", "Pass the module's name and import it in the child"),
];

const AS_TEXT: &str = "Hand over its text (`traceback.format_exception`)";

const HANDLE: &str =
    "Pass it as an argument of a Process, or put it into a queue or connection, which carry it";

/// What helps, for this object; `holder` is the attribute that holds it and the class that has the attribute.
pub(super) fn remedy(
    object: &Bound<'_, PyAny>,
    error: &PyErr,
    holder: Option<(&str, &str)>,
    rules: Rules,
) -> String {
    let py = object.py();
    if rules.strict && super::reason::situation(object, error) == "inheritance" {
        return "Pass it as an argument of the Process that needs it".to_owned();
    }
    let own = error
        .value(py)
        .getattr("remedy")
        .and_then(|remedy| remedy.extract::<String>());
    if let Ok(remedy) = own {
        if !remedy.is_empty() {
            return remedy;
        }
    }
    if is_definition(object) {
        return if rules.strict {
            "Define it at the top of its module, outside of functions and of the guard".to_owned()
        } else if rules.transfer {
            "Define it at the top of a module that the child can import, or use a plain function or class, which \
             crosses by value"
                .to_owned()
        } else {
            "Define it at the top of a module and pass that name; or `bequeath.pickle.dumps(..., by_value=True)`"
                .to_owned()
        };
    }
    let class = object.get_type();
    let name = name_of(class.as_any());
    if matches!(name.as_str(), "frame" | "traceback") {
        return AS_TEXT.to_owned();
    }
    for base in class.mro().iter() {
        if let Some(text) = base.cast::<PyType>().ok().and_then(by_name) {
            return text.to_owned();
        }
    }
    if super::reason::situation(object, error) == "inheritance" {
        return HANDLE.to_owned();
    }
    if super::reason::is_the_programs(error, py) {
        return format!("Mend the `__reduce__` or `__getstate__` of {name}, which raises");
    }
    match holder {
        Some((class, attribute)) => format!(
            "Leave `{attribute}` out of the state of {class} (`__getstate__`) and make it anew in the child"
        ),
        None => "Leave it out of the state (`__getstate__`) and make it anew in the child, or give its class a \
                 `__reduce__`"
            .to_owned(),
    }
}

fn by_name(class: &Bound<'_, PyType>) -> Option<&'static str> {
    let (own_module, own_name) = (module_of(class.as_any()), name_of(class.as_any()));
    BY_NAME
        .iter()
        .find(|(module, name, _)| {
            let at_home = own_module == *module
                || own_module
                    .strip_prefix(module)
                    .is_some_and(|rest| rest.starts_with('.'));
            at_home && own_name.starts_with(name) && (*module != "builtins" || own_name == *name)
        })
        .map(|(_, _, text)| *text)
}
