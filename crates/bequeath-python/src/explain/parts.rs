//! What pickle would save inside an object, each part with its step of the path.

use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyComplex, PyDict, PyEllipsis, PyFloat, PyFrozenSet, PyFunction,
    PyInt, PyList, PyModule, PyNotImplemented, PySet, PyString, PyTuple, PyType,
};

use crate::intern;

use super::definitions;
use super::path::Step;
use super::walk::{Rules, Way};

/// A part and the step to it.
pub(super) type Part<'py> = (Step<'py>, Bound<'py, PyAny>);

/// An object taken apart.
pub(super) struct Expanded<'py> {
    pub(super) way: Way,
    /// Bytes of the object's own, without its parts.
    pub(super) size: u64,
    pub(super) parts: Vec<Part<'py>>,
    /// It raised, perhaps because of a part.
    pub(super) pending: Option<PyErr>,
}

impl<'py> Expanded<'py> {
    pub(super) fn refused() -> Self {
        Self {
            way: Way::Refused,
            size: 0,
            parts: Vec::new(),
            pending: None,
        }
    }

    pub(super) fn new(way: Way, size: u64, parts: Vec<Part<'py>>) -> Self {
        Self {
            way,
            size,
            parts,
            pending: None,
        }
    }
}

/// The protocol of every transfer.
pub(super) const PROTOCOL: u8 = 5;

/// What a value takes that has no parts; nothing for everything else.
pub(super) fn atom(object: &Bound<'_, PyAny>) -> Option<u64> {
    if let Ok(text) = object.cast_exact::<PyString>() {
        let len = text.to_str().map_or(0, str::len) as u64;
        return Some(len + if len < 256 { 3 } else { 6 });
    }
    if let Ok(value) = object.cast_exact::<PyInt>() {
        return Some(match value.extract::<i64>() {
            Ok(0..=0xff) => 2,
            Ok(0x100..=0xffff) => 3,
            Ok(value) if i32::try_from(value).is_ok() => 5,
            Ok(_) => 10,
            Err(_) => bits(value) / 8 + 3,
        });
    }
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return Some(bytes.as_bytes().len() as u64 + 3);
    }
    if let Ok(bytes) = object.cast_exact::<PyByteArray>() {
        return Some(bytes.len() as u64 + 10);
    }
    if object.is_exact_instance_of::<PyFloat>() {
        return Some(9);
    }
    if object.is_none() || object.is_exact_instance_of::<PyBool>() {
        return Some(1);
    }
    if object.is_exact_instance_of::<PyComplex>() {
        return Some(43);
    }
    let py = object.py();
    let nameless =
        object.is(PyEllipsis::get(py).as_any()) || object.is(PyNotImplemented::get(py).as_any());
    nameless.then_some(12)
}

fn bits(value: &Bound<'_, PyInt>) -> u64 {
    value
        .call_method0(intern!(value.py(), "bit_length"))
        .and_then(|bits| bits.extract())
        .unwrap_or(64)
}

/// Whether it is a function or a class.
pub(super) fn is_definition(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<PyFunction>() || object.is_instance_of::<PyType>()
}

/// Descriptors that an object holds, and a file's buffers: the object is what the program knows.
pub(super) fn stands_for_its_owner(object: &Bound<'_, PyAny>, owner: &Bound<'_, PyAny>) -> bool {
    let home = |object: &Bound<'_, PyAny>| definitions::module_of(object.get_type().as_any());
    let name = object.get_type().name();
    let is_descriptor = name.is_ok_and(|name| name == "DupFd");
    (is_descriptor && home(object).starts_with("bequeath."))
        || (home(object) == "_io" && home(owner) == "_io")
}

/// Takes an object apart.
///
/// # Errors
/// Why it cannot cross, of whatever class its own refusal is.
pub(super) fn expand<'py>(object: &Bound<'py, PyAny>, rules: Rules) -> PyResult<Expanded<'py>> {
    if let Some(size) = atom(object) {
        return Ok(Expanded::new(Way::Value, size, Vec::new()));
    }
    if let Ok(list) = object.cast_exact::<PyList>() {
        return Ok(container(list.iter(), 4));
    }
    if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        return Ok(container(tuple.iter(), if tuple.len() < 4 { 2 } else { 3 }));
    }
    if let Ok(dict) = object.cast_exact::<PyDict>() {
        let mut parts = Vec::new();
        for (key, value) in dict.iter() {
            key_and_value(&mut parts, key, value);
        }
        return Ok(Expanded::new(Way::Value, 4, parts));
    }
    if let Ok(set) = object.cast_exact::<PySet>() {
        return Ok(members(set.iter()));
    }
    if let Ok(set) = object.cast_exact::<PyFrozenSet>() {
        return Ok(members(set.iter()));
    }
    if is_definition(object) {
        return definitions::expand(object, rules);
    }
    if !rules.transfer && !rules.strict {
        if let Some(refusal) = crate::pickle::refusal_of_handle(object.as_borrowed()) {
            return Err(refusal);
        }
    }
    instance(object, rules)
}

fn container<'py>(items: impl Iterator<Item = Bound<'py, PyAny>>, size: u64) -> Expanded<'py> {
    let parts = items
        .enumerate()
        .map(|(index, item)| (Step::Index(index), item))
        .collect();
    Expanded::new(Way::Value, size, parts)
}

fn members<'py>(items: impl Iterator<Item = Bound<'py, PyAny>>) -> Expanded<'py> {
    Expanded::new(
        Way::Value,
        4,
        items.map(|item| (Step::Member, item)).collect(),
    )
}

fn key_and_value<'py>(
    parts: &mut Vec<Part<'py>>,
    key: Bound<'py, PyAny>,
    value: Bound<'py, PyAny>,
) {
    parts.push((Step::KeyItself(key.clone()), key.clone()));
    parts.push((Step::Key(key), value));
}

/// An object that says by itself, or by a reducer that somebody registered, what it is made of.
fn instance<'py>(object: &Bound<'py, PyAny>, rules: Rules) -> PyResult<Expanded<'py>> {
    let before = crate::transfer::transfer_load();
    let reduced = ask(object, rules)?;
    // A pool hands in nothing itself: what it is reached by does, among its parts.
    let is_handle = crate::transfer::transfer_load() != before
        || object
            .get_type()
            .hasattr(intern!(object.py(), "_bequeath_handle"))?;
    let way = if is_handle {
        Way::Handle
    } else if object.is_instance_of::<PyModule>() {
        Way::Reference
    } else {
        Way::Value
    };
    if reduced.is_instance_of::<PyString>() {
        definitions::by_name(object)?;
        return Ok(Expanded::new(Way::Reference, 20, Vec::new()));
    }
    let reduced = checked(&reduced)?;
    if way == Way::Reference {
        return Ok(Expanded::new(way, 20, Vec::new()));
    }
    let mut parts = Vec::new();
    let mut size = 6;
    if let Some(known) = well_known(object)? {
        parts = known;
        size += 24;
    } else {
        arguments(object, &reduced, &mut parts)?;
    }
    if let Some(state) = optional(&reduced, 2) {
        state_parts(object, &state, &mut parts)?;
    }
    if let Some(items) = optional(&reduced, 3) {
        for (index, item) in items.try_iter()?.enumerate() {
            parts.push((Step::Index(index), item?));
        }
    }
    if let Some(pairs) = optional(&reduced, 4) {
        for pair in pairs.try_iter()? {
            let (key, value) = pair?.extract()?;
            key_and_value(&mut parts, key, value);
        }
    }
    if let Some(setter) = optional(&reduced, 5) {
        parts.push((Step::words("'s setter of state"), setter));
    }
    if let Some(bytes) = out_of_band(object) {
        size += bytes;
    }
    Ok(Expanded {
        way,
        size,
        parts,
        pending: None,
    })
}

/// What a `PickleBuffer` holds.
fn out_of_band(object: &Bound<'_, PyAny>) -> Option<u64> {
    let py = object.py();
    if object.get_type().name().ok()? != "PickleBuffer" {
        return None;
    }
    let raw = object.call_method0(intern!(py, "raw")).ok()?;
    raw.getattr(intern!(py, "nbytes")).ok()?.extract().ok()
}

/// In the pickler's order: reducers of the transfer, `copyreg`'s, the object's own.
fn ask<'py>(object: &Bound<'py, PyAny>, rules: Rules) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    if out_of_band(object).is_some() {
        // Written by the pickler itself.
        return Ok((
            py.get_type::<PyBytes>(),
            PyTuple::new(py, [PyBytes::new(py, b"")])?,
        )
            .into_pyobject(py)?
            .into_any());
    }
    if rules.transfer {
        if let Some(reduced) = crate::reduction::reduce(object)? {
            return reduced.into_value(py);
        }
    }
    if rules.portable {
        let registered = py
            .import(intern!(py, "bequeath.reduction"))?
            .getattr(intern!(py, "ForkingPickler"))?
            .getattr(intern!(py, "_extra_reducers"))?
            .call_method1(intern!(py, "get"), (object.get_type(),))?;
        if !registered.is_none() {
            return registered.call1((object,));
        }
    }
    let registered = py
        .import(intern!(py, "copyreg"))?
        .getattr(intern!(py, "dispatch_table"))?
        .call_method1(intern!(py, "get"), (object.get_type(),))?;
    if !registered.is_none() {
        return registered.call1((object,));
    }
    object.call_method1(intern!(py, "__reduce_ex__"), (PROTOCOL,))
}

fn checked<'py>(reduced: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = reduced.py();
    let wrong = |what: &str| {
        let text = format!("its __reduce__ returns {what}");
        py.import(intern!(py, "_pickle"))
            .and_then(|module| module.getattr(intern!(py, "PicklingError")))
            .and_then(|class| class.call1((text,)))
            .map_or_else(|error| error, PyErr::from_value)
    };
    let Ok(tuple) = reduced.cast::<PyTuple>() else {
        return Err(wrong("neither a string nor a tuple"));
    };
    if !(2..=6).contains(&tuple.len()) {
        return Err(wrong("a tuple that does not have two to six items"));
    }
    if !tuple.get_item(0)?.is_callable() {
        return Err(wrong("a tuple whose first item cannot be called"));
    }
    if tuple.get_item(1)?.cast::<PyTuple>().is_err() {
        return Err(wrong("arguments that are no tuple"));
    }
    Ok(tuple.clone())
}

fn optional<'py>(reduced: &Bound<'py, PyTuple>, at: usize) -> Option<Bound<'py, PyAny>> {
    reduced.get_item(at).ok().filter(|item| !item.is_none())
}

/// Methods and partials, whose parts have names of their own.
fn well_known<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Vec<Part<'py>>>> {
    let py = object.py();
    let kind = object.get_type();
    if kind.is(&method_type(py)?) {
        let owner = object.getattr(intern!(py, "__self__"))?;
        return Ok(Some(vec![(Step::attribute(py, "__self__"), owner)]));
    }
    if !kind.is(&py
        .import(intern!(py, "functools"))?
        .getattr(intern!(py, "partial"))?)
    {
        return Ok(None);
    }
    let mut parts = vec![(Step::attribute(py, "func"), object.getattr("func")?)];
    for (index, part) in object.getattr("args")?.try_iter()?.enumerate() {
        parts.push((Step::words(format!(".args[{index}]")), part?));
    }
    let keywords = object.getattr("keywords")?.cast_into::<PyDict>()?;
    for (name, part) in keywords.iter() {
        parts.push((
            Step::words(format!(".keywords[{}]", super::path::short(&name))),
            part,
        ));
    }
    Ok(Some(parts))
}

fn method_type(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import(intern!(py, "types"))?
        .getattr(intern!(py, "MethodType"))
}

/// The call that makes it: what is called, and with what.
fn arguments<'py>(
    object: &Bound<'py, PyAny>,
    reduced: &Bound<'py, PyTuple>,
    parts: &mut Vec<Part<'py>>,
) -> PyResult<()> {
    let py = object.py();
    let callable = reduced.get_item(0)?;
    let arguments = reduced.get_item(1)?.cast_into::<PyTuple>()?;
    let name = callable
        .getattr_opt(intern!(py, "__name__"))?
        .and_then(|name| name.extract::<String>().ok())
        .unwrap_or_default();
    let mut rest: Vec<Bound<'py, PyAny>> = arguments.iter().collect();
    if matches!(name.as_str(), "__newobj__" | "__newobj_ex__") && !rest.is_empty() {
        parts.push((Step::words("'s class"), rest.remove(0)));
        if name == "__newobj_ex__" && rest.len() == 2 {
            let (given, keywords) = (rest.remove(0), rest.remove(0));
            for (index, part) in given.try_iter()?.enumerate() {
                let part = part?;
                parts.push((step_to(object, &part, index), part));
            }
            if let Ok(keywords) = keywords.cast::<PyDict>() {
                for (key, value) in keywords.iter() {
                    parts.push((
                        Step::words(format!("'s part {}", super::path::short(&key))),
                        value,
                    ));
                }
            }
            return Ok(());
        }
    } else if callable.is(object.get_type()) {
        parts.push((Step::words("'s class"), callable));
    } else {
        parts.push((Step::words("'s constructor"), callable));
    }
    for (index, part) in rest.into_iter().enumerate() {
        parts.push((step_to(object, &part, index), part));
    }
    Ok(())
}

/// Attributes under which objects have what their constructor was given.
const LIKELY: [&str; 11] = [
    "buffer",
    "raw",
    "__self__",
    "__func__",
    "__wrapped__",
    "fget",
    "fset",
    "fdel",
    "default_factory",
    "func",
    "args",
];

/// An argument by the name under which the object has it, as far as that can be seen.
fn step_to<'py>(object: &Bound<'py, PyAny>, part: &Bound<'py, PyAny>, index: usize) -> Step<'py> {
    let py = object.py();
    if atom(part).is_some() {
        return Step::Index(index);
    }
    if let Ok(tuple) = object.cast::<PyTuple>() {
        let at = tuple.iter().position(|item| item.is(part));
        if let Some(at) = at {
            let field = object
                .getattr("_fields")
                .and_then(|names| names.get_item(at))
                .and_then(|name| Ok(name.cast_into::<PyString>()?));
            return field.map_or(Step::Index(at), Step::Attribute);
        }
    }
    if object.is_instance_of::<pyo3::exceptions::PyBaseException>() {
        return Step::words(format!(".args[{index}]"));
    }
    if let Ok(own) = object.getattr(intern!(py, "__dict__")) {
        if let Ok(own) = own.cast::<PyDict>() {
            for (name, value) in own.iter() {
                if let (true, Ok(name)) = (value.is(part), name.cast_into::<PyString>()) {
                    return Step::Attribute(name);
                }
            }
        }
    }
    // Other classes' attributes may be anything, and run anything.
    let home = definitions::module_of(object.get_type().as_any());
    if !super::reason::is_standard(py, &home) {
        return Step::words(format!("'s part {index}"));
    }
    for name in LIKELY {
        if object.getattr(name).is_ok_and(|value| value.is(part)) {
            return Step::attribute(py, name);
        }
    }
    Step::words(format!("'s part {index}"))
}

fn state_parts<'py>(
    object: &Bound<'py, PyAny>,
    state: &Bound<'py, PyAny>,
    parts: &mut Vec<Part<'py>>,
) -> PyResult<()> {
    let halves = match state.cast_exact::<PyTuple>() {
        Ok(both) if both.len() == 2 && both.get_item(1)?.is_instance_of::<PyDict>() => {
            vec![both.get_item(0)?, both.get_item(1)?]
        }
        _ => vec![state.clone()],
    };
    for half in halves {
        let Ok(dict) = half.cast_exact::<PyDict>() else {
            if !half.is_none() {
                parts.push((Step::words("'s state"), half));
            }
            continue;
        };
        let mut named = Vec::new();
        for (key, value) in dict.iter() {
            match key.clone().cast_into::<PyString>() {
                Ok(name) => {
                    parts.push((Step::words(""), key));
                    named.push((Step::Attribute(name), value));
                }
                Err(_) => key_and_value(&mut named, key, value),
            }
        }
        if is_process(object) {
            in_the_words_of_process(object.py(), &mut named);
        }
        parts.append(&mut named);
    }
    Ok(())
}

fn is_process(object: &Bound<'_, PyAny>) -> bool {
    let py = object.py();
    let base = || -> PyResult<bool> {
        let modules = py
            .import(intern!(py, "sys"))?
            .getattr(intern!(py, "modules"))?;
        let module = modules.get_item(intern!(py, "bequeath.process"))?;
        object.is_instance(&module.getattr(intern!(py, "BaseProcess"))?)
    };
    base().unwrap_or(false)
}

/// `Process(target=…, args=…, kwargs=…)`, these first.
fn in_the_words_of_process<'py>(py: Python<'py>, parts: &mut [Part<'py>]) {
    for (step, _) in parts.iter_mut() {
        if let Step::Attribute(name) = step {
            let public = match &*name.to_string_lossy() {
                "_target" => "target",
                "_args" => "args",
                "_kwargs" => "kwargs",
                _ => continue,
            };
            *step = Step::attribute(py, public);
        }
    }
    parts.sort_by_key(|(step, _)| match step {
        Step::Attribute(name) => !matches!(&*name.to_string_lossy(), "target" | "args" | "kwargs"),
        _ => true,
    });
}
