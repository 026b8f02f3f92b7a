//! What to say about a part: what it is, where that was defined, why it is refused.

use pyo3::exceptions::{
    PyAttributeError, PyMemoryError, PyNotImplementedError, PyOSError, PyRecursionError,
    PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyType};

use crate::intern;

use super::definitions::{module_of, name_of};
use super::parts::is_definition;

/// What kind of thing it is: `function f`, `class C`, `module.Class` of an instance.
pub(super) fn kind(object: &Bound<'_, PyAny>) -> String {
    if let Ok(class) = object.cast::<PyType>() {
        return format!("class {}", name_of(class.as_any()));
    }
    let class = object.get_type();
    let name = name_of(class.as_any());
    if matches!(
        name.as_str(),
        "function" | "builtin_function_or_method" | "builtin_function"
    ) {
        return format!("function {}", name_of(object));
    }
    let module = module_of(class.as_any());
    if matches!(module.as_str(), "builtins" | "__main__" | "__mp_main__") {
        return name;
    }
    format!("{module}.{name}")
}

/// File and line of the function, or of the class of the object, where they are Python's.
pub(super) fn definition(object: &Bound<'_, PyAny>) -> Option<String> {
    let py = object.py();
    let function = object
        .getattr(intern!(py, "__func__"))
        .unwrap_or_else(|_| object.clone());
    if let Ok(code) = function.getattr(intern!(py, "__code__")) {
        let file: String = code.getattr("co_filename").ok()?.extract().ok()?;
        let line: u32 = code.getattr("co_firstlineno").ok()?.extract().ok()?;
        return Some(format!("{file}:{line}"));
    }
    let class = match object.cast::<PyType>() {
        Ok(class) => class.clone(),
        Err(_) => object.get_type(),
    };
    let modules = py.import("sys").ok()?.getattr("modules").ok()?;
    let module = modules
        .get_item(class.getattr(intern!(py, "__module__")).ok()?)
        .ok()?;
    let file: String = module.getattr("__file__").ok()?.extract().ok()?;
    match first_line(&class) {
        Some(line) => Some(format!("{file}:{line}")),
        None => Some(file),
    }
}

fn first_line(class: &Bound<'_, PyType>) -> Option<u32> {
    let py = class.py();
    // Classes know it themselves since 3.13.
    if let Ok(line) = class.getattr("__firstlineno__") {
        return line.extract().ok();
    }
    let found = py
        .import("inspect")
        .and_then(|inspect| inspect.call_method1("getsourcelines", (class,)))
        .and_then(|found| found.get_item(1)?.extract());
    if let Ok(line) = found {
        return Some(line);
    }
    let own = class.getattr(intern!(py, "__dict__")).ok()?;
    let mut lines = Vec::new();
    for value in own.call_method0("values").ok()?.try_iter().ok()? {
        let value = value.ok()?;
        if value.is_exact_instance_of::<PyFunction>() {
            let code = value.getattr(intern!(py, "__code__")).ok()?;
            lines.push(code.getattr("co_firstlineno").ok()?.extract().ok()?);
        }
    }
    lines.into_iter().min()
}

/// The reason, as a sentence without its full stop.
pub(super) fn reason(error: &PyErr, py: Python<'_>) -> String {
    let text = error
        .value(py)
        .getattr("reason")
        .ok()
        .and_then(|reason| reason.extract::<String>().ok())
        .filter(|reason| !reason.is_empty());
    let text = text.unwrap_or_else(|| error.value(py).to_string());
    let text = text.trim().trim_end_matches('.');
    let class = error.get_type(py);
    let class = class
        .name()
        .map_or_else(|_| "an error".to_owned(), |name| name.to_string());
    if is_the_programs(error, py) {
        return format!("its own code raises {class}: {text}");
    }
    if text.is_empty() {
        return format!("pickling it raises {class}");
    }
    text.to_owned()
}

/// Whether the program's code raised it: a `__reduce__` or `__getstate__` of its own.
pub(super) fn is_the_programs(error: &PyErr, py: Python<'_>) -> bool {
    let mut trace = match error.traceback(py) {
        Some(trace) => trace.into_any(),
        None => return false,
    };
    while let Ok(next) = trace.getattr(intern!(py, "tb_next")) {
        if next.is_none() {
            break;
        }
        trace = next;
    }
    let frame = trace
        .getattr("tb_frame")
        .and_then(|frame| frame.getattr("f_globals"));
    let Ok(names) = frame.and_then(|names| Ok(names.cast_into::<PyDict>()?)) else {
        return false;
    };
    let name = names.get_item("__name__").ok().flatten();
    let Some(name) = name.and_then(|name| name.extract::<String>().ok()) else {
        return true;
    };
    !is_machinery(py, &name)
}

/// The standard library's own classes refuse in Python code, too (socket, ssl, tempfile, …).
fn is_machinery(py: Python<'_>, module: &str) -> bool {
    let top = module.split('.').next().unwrap_or_default();
    matches!(top, "cloudpickle" | "bequeath") || is_standard(py, module)
}

/// Whether a module belongs to the standard library.
pub(super) fn is_standard(py: Python<'_>, module: &str) -> bool {
    let top = module.split('.').next().unwrap_or_default();
    top != "__main__"
        && py
            .import("sys")
            .and_then(|sys| sys.getattr("stdlib_module_names"))
            .and_then(|names| names.contains(top))
            .unwrap_or(false)
}

/// Whether nobody's refusal but an accident of the machine or the program.
pub(super) fn is_left_alone(error: &PyErr, py: Python<'_>) -> bool {
    if error.is_instance_of::<PyRecursionError>(py)
        || error.is_instance_of::<PyMemoryError>(py)
        || error.is_instance_of::<PyOSError>(py)
    {
        return true;
    }
    let refusals = error.is_instance_of::<PyTypeError>(py)
        || error.is_instance_of::<PyAttributeError>(py)
        || error.is_instance_of::<PyRuntimeError>(py)
        || error.is_instance_of::<PyValueError>(py);
    !refusals && !is_pickling_error(error, py)
}

fn is_pickling_error(error: &PyErr, py: Python<'_>) -> bool {
    py.import("_pickle")
        .and_then(|module| module.getattr("PicklingError"))
        .is_ok_and(|class| error.is_instance(py, &class))
}

/// Which row of `exceptions.STANDARD` it is: what the standard library's pickler would have met.
pub(super) fn situation(object: &Bound<'_, PyAny>, error: &PyErr) -> &'static str {
    let py = object.py();
    if is_definition(object) {
        return if name_of(object).contains("<locals>") {
            "local"
        } else if is_found(object) {
            "found"
        } else {
            "missing"
        };
    }
    if error.is_instance_of::<PyNotImplementedError>(py) {
        "unimplemented"
    } else if error.is_instance_of::<PyRuntimeError>(py) {
        "inheritance"
    } else if error.is_instance_of::<PyTypeError>(py) {
        "unpicklable"
    } else if is_pickling_error(error, py) {
        "pickling"
    } else if error.is_instance_of::<PyAttributeError>(py) {
        "attribute"
    } else {
        "value"
    }
}

fn is_found(object: &Bound<'_, PyAny>) -> bool {
    super::definitions::by_name(object).is_ok()
}
