//! Types of the standard library and of numpy that programs send often: which of them a class is.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyList, PyModule, PyString, PyTuple, PyType};

use super::classes::{are_default, in_classes, is_method_of, Kind};
use super::look::Object;
use super::moments::Calendar;
use super::tables::Tables;
use super::version;
use crate::intern;
use crate::once::Once;

/// Their C code says what they reduce to, and runs no other.
const QUIET: [(&str, &str); 3] = [
    ("builtins", "slice"),
    ("datetime", "timezone"),
    ("numpy", "ndarray"),
];

/// Which of these types a class is, if it is one, untouched.
pub(super) fn kind(
    class: &Bound<'_, PyType>,
    instance: &Bound<'_, PyAny>,
) -> PyResult<Option<Kind>> {
    let py = class.py();
    let module = class.getattr(intern!(py, "__module__"))?;
    let (Ok(module), name) = (module.cast_into::<PyString>(), class.qualname()?) else {
        return Ok(None);
    };
    let (module, name) = (module.to_string(), name.to_string());
    let address = class.as_ptr() as usize;
    let found = match (module.as_str(), name.as_str()) {
        ("datetime", "date" | "time" | "datetime" | "timedelta") => {
            let moment = Calendar::look_up(py).and_then(|calendar| calendar.which(address));
            moment.map(Kind::Moment)
        }
        ("builtins", "complex") => Some(Kind::Complex),
        ("decimal", "Decimal") => {
            let from = py
                .import("_decimal")
                .and_then(|module| module.getattr("Decimal"));
            from.is_ok_and(|found| found.is(class))
                .then_some(Kind::Decimal)
        }
        ("builtins", "range") => Some(Kind::Range),
        ("collections", "deque") => Some(Kind::Deque),
        ("collections", "defaultdict") => Some(Kind::DefaultDict),
        ("collections", "OrderedDict") => {
            let from = py.import("_collections")?.getattr("OrderedDict");
            from.is_ok_and(|found| found.is(class))
                .then_some(Kind::OrderedDict)
        }
        ("collections", "Counter") => {
            is_method_of(class, intern!(py, "__reduce__"), "collections")?.then_some(Kind::Counter)
        }
        ("fractions", "Fraction") => fraction(class)?,
        ("uuid", "UUID") => uuid(class)?,
        ("pathlib" | "pathlib._local", _) => path(class, instance, &module)?,
        pair if QUIET.contains(&pair) => Some(Kind::AskQuietly),
        ("numpy" | "numpy.dtypes", _) if is_of_numpy(class)? => Some(Kind::AskQuietly),
        _ => None,
    };
    if found.is_none() {
        return Ok(None);
    }
    // Asked once, it has imported whatever it needs.
    if matches!(found, Some(Kind::AskQuietly)) {
        instance.call_method1(intern!(py, "__reduce_ex__"), (5,))?;
    }
    Ok(found.filter(|_| is_found(class, &module, &name)))
}

/// Whether a module has the class under that name: one of somebody else's can bear the same.
fn is_found(class: &Bound<'_, PyType>, module: &str, name: &str) -> bool {
    let tables = Tables::get(class.py());
    let module = tables.and_then(|tables| tables.modules.bind(class.py()).get_item(module));
    let real = module.and_then(|module| module.getattr(name));
    real.is_ok_and(|real| real.is(class))
}

/// Whether a class is `uuid.UUID`, untouched, seen without an instance.
pub(super) fn kind_of_uuid(class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    if class.qualname()? != "UUID" || !is_found(class, "uuid", "UUID") {
        return Ok(None);
    }
    uuid(class)
}

/// Data types and scalars that hold no objects.
fn is_of_numpy(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    let numpy = py.import("numpy")?;
    let from = |name: &str| -> PyResult<Bound<'_, PyAny>> { numpy.getattr(name) };
    Ok(class.is_subclass(&from("dtype")?)?
        || class.is_subclass(&from("number")?)?
        || class.is(&from("bool_")?))
}

/// Whether an object is numpy's class of data types, and the reducer registered for it numpy's own, which says its name.
pub(super) fn is_own_of_numpy(
    object: Object<'_, '_>,
    reducer: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let py = object.py();
    let text = |name: &Bound<'_, PyString>| -> PyResult<Option<String>> {
        let found = reducer.getattr_opt(name)?;
        Ok(found.and_then(|found| found.extract().ok()))
    };
    if !reducer.is_exact_instance_of::<PyFunction>()
        || text(intern!(py, "__name__"))?.as_deref() != Some("_DType_reduce")
        || text(intern!(py, "__module__"))?.is_none_or(|module| !module.starts_with("numpy."))
    {
        return Ok(false);
    }
    let Ok(modules) = Tables::get(py)?.modules.bind(py).cast::<PyDict>() else {
        return Ok(false);
    };
    let Some(numpy) = modules.get_item(intern!(py, "numpy"))? else {
        return Ok(false);
    };
    let Ok(numpy) = numpy.cast_into_exact::<PyModule>() else {
        return Ok(false);
    };
    let class = numpy.dict().get_item(intern!(py, "dtype"))?;
    Ok(class.is_some_and(|class| object.is(&class)))
}

fn default_reduction(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    are_default(
        class,
        &[
            intern!(py, "__reduce_ex__"),
            intern!(py, "__getattribute__"),
            intern!(py, "__getattr__"),
            intern!(py, "__class__"),
        ],
    )
}

fn slot_of(class: &Bound<'_, PyType>, name: &str) -> PyResult<Option<usize>> {
    let member = in_classes(class, &PyString::new(class.py(), name))?;
    Ok(member.and_then(|member| version::slot_offset(&member)))
}

fn fraction(class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    let py = class.py();
    if !default_reduction(class)? || !is_method_of(class, intern!(py, "__reduce__"), "fractions")? {
        return Ok(None);
    }
    let (upper, lower) = (
        slot_of(class, "_numerator")?,
        slot_of(class, "_denominator")?,
    );
    Ok(upper
        .zip(lower)
        .map(|(upper, lower)| Kind::Fraction([upper, lower])))
}

fn uuid(class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    let py = class.py();
    let own = default_reduction(class)?
        && are_default(class, &[intern!(py, "__reduce__")])?
        && in_classes(class, intern!(py, "__getnewargs__"))?.is_none()
        && is_method_of(class, intern!(py, "__getstate__"), "uuid")?
        && is_method_of(class, intern!(py, "__setstate__"), "uuid")?;
    if !own {
        return Ok(None);
    }
    let (number, safe) = (slot_of(class, "int")?, slot_of(class, "is_safe")?);
    Ok(number
        .zip(safe)
        .map(|(number, safe)| Kind::Uuid([number, safe])))
}

/// A path whose reduction is its class and a list of parts that it has; checked with one of them.
fn path(
    class: &Bound<'_, PyType>,
    path: &Bound<'_, PyAny>,
    module: &str,
) -> PyResult<Option<Kind>> {
    let py = class.py();
    if !default_reduction(class)? || !is_method_of(class, intern!(py, "__reduce__"), module)? {
        return Ok(None);
    }
    for name in ["_parts", "_raw_paths"] {
        let Some(offset) = slot_of(class, name)? else {
            continue;
        };
        let Some(parts) = version::slot(path.as_borrowed(), offset) else {
            continue;
        };
        let Ok(parts) = parts.cast_exact::<PyList>() else {
            continue;
        };
        let expected = PyTuple::new(py, [class.as_any(), parts.to_tuple().as_any()])?;
        if path.call_method0(intern!(py, "__reduce__"))?.eq(expected)? {
            return Ok(Some(Kind::Path(offset)));
        }
    }
    Ok(None)
}

/// What `uuid.UUID` says of numbers that nobody vouches for; nothing where its module no longer has it.
pub(super) fn unknown_safety(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    /// The enumeration and its member.
    static KNOWN: Once<(Py<PyAny>, Py<PyAny>)> = Once::new();
    let Ok(modules) = Tables::get(py)?.modules.bind(py).cast::<PyDict>() else {
        return Ok(None);
    };
    let module = modules.get_item(intern!(py, "uuid"))?;
    let Some(Ok(module)) = module.map(|module| module.cast_into_exact::<PyModule>()) else {
        return Ok(None);
    };
    let Some(safety) = module.dict().get_item(intern!(py, "SafeUUID"))? else {
        return Ok(None);
    };
    let (then, unknown) = KNOWN.get_or_try_init(py, || {
        let unknown = safety.getattr(intern!(py, "unknown"))?;
        Ok::<_, PyErr>((safety.clone().unbind(), unknown.unbind()))
    })?;
    Ok(safety.is(then).then(|| unknown.bind(py).clone()))
}
