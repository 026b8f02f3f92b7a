//! Parts of functions and classes that pickle knows nothing of: which there are, and how cells, code and modules cross.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString, PyTuple, PyType};

use super::super::identities::ByAddress;
use super::super::look;
use super::super::reduction::Reduction;
use super::tables::{Callables, Tables};
use super::variables::{self, Variable};
use super::{code, descriptors, home, namespace, views, To};
use crate::intern;

/// Types whose objects have a reduction here.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Cell,
    Code,
    Module,
    Property,
    /// `classmethod` and `staticmethod`.
    Wrapped,
    MappingProxy,
    Descriptor,
    /// A method of a type of the interpreter: pickle knows these itself.
    Wrapper,
    Method,
    Cached,
    CachedProperty,
    PartialMethod,
    View(View),
    WeakReference,
    WeakSet,
    WeakMapping,
    MemoryView,
    /// A file of text, which may be one of the interpreter's own.
    Text,
    Mark,
    Variable(Variable),
}

#[derive(Clone, Copy)]
pub(super) enum View {
    Keys,
    Values,
    Items,
}

struct Parts {
    by_type: ByAddress<Part>,
    /// How many modules were loaded when the types of optional ones were last looked for.
    loaded: usize,
}

static PARTS: Mutex<Option<Parts>> = Mutex::new(None);

/// What part an object is, by its exact type.
pub(super) fn of(kind: &Bound<'_, PyType>) -> PyResult<Option<Part>> {
    let py = kind.py();
    let modules = Tables::get(py)?.modules.bind(py).len()?;
    {
        let parts = PARTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parts) = parts.as_ref().filter(|parts| parts.loaded == modules) {
            return Ok(parts.by_type.get(&(kind.as_ptr() as usize)).copied());
        }
    }
    let by_type = look_up(py)?;
    let part = by_type.get(&(kind.as_ptr() as usize)).copied();
    let loaded = Tables::get(py)?.modules.bind(py).len()?;
    *PARTS.lock().unwrap_or_else(PoisonError::into_inner) = Some(Parts { by_type, loaded });
    Ok(part)
}

fn look_up(py: Python<'_>) -> PyResult<ByAddress<Part>> {
    let mut parts = ByAddress::default();
    let mut add = |kind: &Bound<'_, PyAny>, part: Part| {
        parts.insert(kind.as_ptr() as usize, part);
    };
    let tables = Tables::get(py)?;
    let modules = tables.modules.bind(py);
    let types = py.import("types")?;
    let types = types.as_any();
    let builtins = py.import("builtins")?;
    for (module, name, part) in [
        (types, "CellType", Part::Cell),
        (types, "CodeType", Part::Code),
        (types, "ModuleType", Part::Module),
        (types, "MappingProxyType", Part::MappingProxy),
        (types, "GetSetDescriptorType", Part::Descriptor),
        (types, "MemberDescriptorType", Part::Descriptor),
        (types, "ClassMethodDescriptorType", Part::Descriptor),
        (types, "WrapperDescriptorType", Part::Wrapper),
        (types, "MethodDescriptorType", Part::Wrapper),
        (types, "MethodType", Part::Method),
        (builtins.as_any(), "memoryview", Part::MemoryView),
        (builtins.as_any(), "property", Part::Property),
        (builtins.as_any(), "classmethod", Part::Wrapped),
        (builtins.as_any(), "staticmethod", Part::Wrapped),
    ] {
        add(&module.getattr(name)?, part);
    }
    add(tables.weak_reference.bind(py), Part::WeakReference);
    // Views are of types that have no name.
    let ordered = py.import("collections")?.getattr("OrderedDict")?.call0()?;
    for dict in [PyDict::new(py).into_any(), ordered] {
        for (method, view) in [
            ("keys", View::Keys),
            ("values", View::Values),
            ("items", View::Items),
        ] {
            let view_of = dict.call_method0(method)?;
            add(view_of.get_type().as_any(), Part::View(view));
        }
    }
    // Modules that nobody loads for us: without them there are no objects of these types.
    for (module, name, part) in [
        ("functools", "_lru_cache_wrapper", Part::Cached),
        ("functools", "cached_property", Part::CachedProperty),
        ("functools", "partialmethod", Part::PartialMethod),
        ("_weakrefset", "WeakSet", Part::WeakSet),
        ("weakref", "WeakKeyDictionary", Part::WeakMapping),
        ("weakref", "WeakValueDictionary", Part::WeakMapping),
        ("typing", "TypeVar", Part::Variable(Variable::Type)),
        ("typing", "ParamSpec", Part::Variable(Variable::Parameters)),
        ("typing", "TypeVarTuple", Part::Variable(Variable::Types)),
        ("typing", "TypeAliasType", Part::Variable(Variable::Alias)),
        ("typing", "NewType", Part::Variable(Variable::New)),
        ("_io", "TextIOWrapper", Part::Text),
        (
            "typing",
            "ParamSpecArgs",
            Part::Variable(Variable::Arguments),
        ),
        (
            "typing",
            "ParamSpecKwargs",
            Part::Variable(Variable::Keywords),
        ),
    ] {
        let found = modules.get_item(module).or_else(|missing| match module {
            // Since 3.12 the syntax of type parameters makes variables without it.
            "typing" => py.import("_typing").map(Bound::into_any),
            _ => Err(missing),
        });
        if let Ok(module) = found {
            if let Some(kind) = module.getattr_opt(name)? {
                add(&kind, part);
            }
        }
    }
    if let Ok(dataclasses) = modules.get_item("dataclasses") {
        // Marks that are compared by identity.
        for name in ["MISSING", "KW_ONLY", "_FIELD", "_HAS_DEFAULT_FACTORY"] {
            if let Some(mark) = dataclasses.getattr_opt(name)? {
                add(mark.get_type().as_any(), Part::Mark);
            }
        }
    }
    Ok(parts)
}

pub(super) type Reduced<'py> = PyResult<Option<Reduction<'py>>>;

/// A call with these arguments.
pub(super) fn call<'py, A>(callable: &Bound<'py, PyAny>, arguments: A) -> Reduced<'py>
where
    A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
    PyErr: From<A::Error>,
{
    let py = callable.py();
    let arguments = arguments.into_pyobject(py)?;
    Ok(Some(Reduction::call(callable.clone(), arguments)))
}

/// A call without arguments, and one that gives what was made its state.
fn made_and_set<'py>(
    make: &Bound<'py, PyAny>,
    state: Bound<'py, PyAny>,
    set: &Bound<'py, PyAny>,
) -> Reduced<'py> {
    let nothing = PyTuple::empty(make.py());
    let set = Some(set.clone());
    let made = Reduction::call_and_set(make.clone(), nothing, state, set);
    Ok(Some(made))
}

/// The reduction of a part; nothing where pickle's own way is right.
pub(super) fn reduce<'py>(object: &Bound<'py, PyAny>, part: Part, to: To) -> Reduced<'py> {
    let py = object.py();
    let tables = Tables::get(py)?;
    let callables = Callables::get(py)?;
    let kind = object.get_type().into_any();
    match part {
        Part::Cell => cell(object, callables),
        Part::Code => {
            let form = code::form(object)?;
            let version = code::version_object(py)?;
            call(callables.code.bind(py), (version, form.bytes.bind(py)))
        }
        Part::Module => module(object, tables, callables),
        Part::Property => descriptors::property(object, &kind),
        Part::Wrapped => call(&kind, (object.getattr(intern!(py, "__func__"))?,)),
        Part::MappingProxy => views::mapping_proxy(object, tables),
        Part::Descriptor => descriptors::of_interpreter(object, tables),
        Part::Wrapper => Ok(None),
        Part::Method => descriptors::method(object, tables),
        Part::Cached => descriptors::cached(object, to, callables),
        Part::PartialMethod => descriptors::partial_method(object, kind),
        Part::CachedProperty => descriptors::cached_property(object, kind),
        Part::View(view) => views::of_dict(object, view, tables, callables),
        Part::WeakReference => views::weak_reference(object, callables),
        Part::WeakSet => views::weak_set(object, &kind),
        Part::WeakMapping => call(&kind, (py.get_type::<PyDict>().call1((object,))?,)),
        Part::MemoryView => views::memory_view(object),
        Part::Text => standard_stream(object, tables),
        Part::Mark => mark(object, tables),
        Part::Variable(variable) => variables::reduce(object, variable, to),
    }
}

/// What is this interpreter's standard input or output is the reader's there.
pub(super) fn standard_stream<'py>(object: &Bound<'py, PyAny>, tables: &Tables) -> Reduced<'py> {
    let py = object.py();
    let sys = py.import(intern!(py, "sys"))?;
    for name in [
        intern!(py, "stdin"),
        intern!(py, "stdout"),
        intern!(py, "stderr"),
        intern!(py, "__stdin__"),
        intern!(py, "__stdout__"),
        intern!(py, "__stderr__"),
    ] {
        if sys
            .getattr_opt(name)?
            .is_some_and(|stream| stream.is(object))
        {
            return call(tables.getattr.bind(py), (sys, name));
        }
    }
    Ok(None)
}

fn cell<'py>(object: &Bound<'py, PyAny>, callables: &Callables) -> Reduced<'py> {
    let py = object.py();
    let make = callables.cell.bind(py);
    let Some(contents) = look::cell_contents(object)? else {
        return call(make, ());
    };
    if let Some(class) = views::class_of_dict(&contents)? {
        // The cell through which annotations see the names of their class.
        let set = callables.class_cell.bind(py);
        return made_and_set(make, class, set);
    }
    // The contents follow as state: a function in its own closure refers to the cell by then.
    let state = PyTuple::new(py, [contents])?;
    let set = callables.set_cell.bind(py);
    made_and_set(make, state.into_any(), set)
}

fn module<'py>(object: &Bound<'py, PyAny>, tables: &Tables, callables: &Callables) -> Reduced<'py> {
    let py = object.py();
    let name = object.getattr(intern!(py, "__name__"))?;
    let Ok(text) = name.cast::<PyString>() else {
        return Ok(None);
    };
    let text = text.to_str()?;
    let there = tables.modules.bind(py).get_item(&name).ok();
    let is_there = there.is_some_and(|there| there.is(object));
    if home::is_main(text) && is_there {
        return call(callables.main.bind(py), PyTuple::empty(py));
    }
    if is_there && home::is_shared(object, text)? {
        return call(tables.import_module.bind(py), (name,));
    }
    let dict = object.cast::<PyModule>()?.dict();
    namespace::stands_for(&dict, object);
    let state = dict.copy()?;
    for name in ["__builtins__", "__loader__", "__spec__"] {
        if state.contains(name)? {
            state.del_item(name)?;
        }
    }
    let arguments = PyTuple::new(py, [name])?;
    let make = callables.module.bind(py);
    let set = callables.set_module.bind(py);
    let set = Some(set.clone());
    let made = Reduction::call_and_set(make.clone(), arguments, state.into_any(), set);
    Ok(Some(made))
}

fn mark<'py>(object: &Bound<'py, PyAny>, tables: &Tables) -> Reduced<'py> {
    let py = object.py();
    let module = tables.modules.bind(py).get_item("dataclasses")?;
    let names = module.getattr(intern!(py, "__dict__"))?;
    for (name, value) in names.cast::<PyDict>()? {
        if value.is(object) {
            return call(tables.getattr.bind(py), (module, name));
        }
    }
    Ok(None)
}
