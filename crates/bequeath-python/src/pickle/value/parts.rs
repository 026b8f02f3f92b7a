//! Parts of functions and classes that pickle knows nothing of: cells, code, descriptors, modules, views, weak references.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString, PyTuple, PyType};

use super::super::identities::ByAddress;
use super::super::look;
use super::super::reduction::Reduction;
use super::code;
use super::home::{self, Home};
use super::namespace;
use super::tables::{Callables, Tables};
use super::variables::{self, Variable};
use super::To;
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

type Reduced<'py> = PyResult<Option<Reduction<'py>>>;

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
        Part::Property => {
            let [get, set, delete, doc] = [
                intern!(py, "fget"),
                intern!(py, "fset"),
                intern!(py, "fdel"),
                intern!(py, "__doc__"),
            ]
            .map(|name| object.getattr(name));
            call(&kind, (get?, set?, delete?, doc?))
        }
        Part::Wrapped => call(&kind, (object.getattr(intern!(py, "__func__"))?,)),
        Part::MappingProxy => mapping_proxy(object, tables),
        Part::Descriptor => {
            let class = object.getattr(intern!(py, "__objclass__"))?;
            let name = object.getattr(intern!(py, "__name__"))?;
            if object
                .get_type()
                .is(tables.class_method_descriptor.bind(py))
            {
                // Looked up on its class it would be bound.
                let get = class
                    .getattr(intern!(py, "__dict__"))?
                    .getattr(intern!(py, "__getitem__"))?;
                return call(&get, (name,));
            }
            call(tables.getattr.bind(py), (class, name))
        }
        Part::Wrapper => Ok(None),
        Part::Method => method(object, tables),
        Part::Cached => cached(object, to, callables),
        Part::PartialMethod => {
            // Not by its attributes: since 3.14 it cannot be made without its function.
            let mut arguments = vec![kind, object.getattr("func")?];
            for argument in object.getattr("args")?.try_iter()? {
                arguments.push(argument?);
            }
            let keywords = object.getattr("keywords")?.cast_into::<PyDict>()?;
            let partial = py.import("functools")?.getattr("partial")?;
            let arguments = PyTuple::new(py, arguments)?;
            call(&partial.call(arguments, Some(&keywords))?, ())
        }
        Part::CachedProperty => {
            let own = object
                .getattr(intern!(py, "__dict__"))?
                .call_method0(intern!(py, "copy"))?
                .cast_into::<PyDict>()?;
            for name in ["func", "lock"] {
                if own.contains(name)? {
                    own.del_item(name)?;
                }
            }
            let arguments = PyTuple::new(py, [object.getattr("func")?])?;
            let made = Reduction::call_and_set(kind, arguments, own.into_any(), None);
            Ok(Some(made))
        }
        Part::View(view) => {
            let (code, of) = of_view(object, view, tables)?;
            call(callables.view.bind(py), (code, of))
        }
        Part::WeakReference => {
            if !object.getattr("__callback__")?.is_none() {
                return Err(PyTypeError::new_err(
                    "a weak reference with a callback cannot cross: the callback belongs to this process",
                ));
            }
            let target = object.call0()?;
            call(callables.weak.bind(py), (target,))
        }
        Part::WeakSet => {
            let items = pyo3::types::PyList::empty(py);
            for item in object.try_iter()? {
                items.append(item?)?;
            }
            call(&kind, (items,))
        }
        Part::WeakMapping => {
            let items = py.get_type::<PyDict>().call1((object,))?;
            call(&kind, (items,))
        }
        Part::MemoryView => memory_view(object),
        Part::Text => standard_stream(object, tables),
        Part::Mark => mark(object, tables),
        Part::Variable(variable) => variables::reduce(object, variable, to),
    }
}

/// A view of a copy of the bytes, with the same items where a view of bytes can have them.
fn memory_view<'py>(object: &Bound<'py, PyAny>) -> Reduced<'py> {
    let py = object.py();
    let kind = object.get_type().into_any();
    let bytes = object.call_method0(intern!(py, "tobytes"))?;
    let format = object.getattr(intern!(py, "format"))?;
    let shape = object.getattr(intern!(py, "shape"))?;
    let plain = format.extract::<&str>()? == "B" && shape.len()? == 1;
    if !plain {
        let view = kind.call1((&bytes,))?;
        let cast = view.getattr(intern!(py, "cast"))?;
        if cast.call1((&format, &shape)).is_ok() {
            return call(&cast, (format, shape));
        }
    }
    call(&kind, (bytes,))
}

/// What is this interpreter's standard input or output is the reader's there.
fn standard_stream<'py>(object: &Bound<'py, PyAny>, tables: &Tables) -> Reduced<'py> {
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
    if let Some(class) = class_of_dict(&contents)? {
        // The cell through which annotations see the names of their class.
        let set = callables.class_cell.bind(py);
        return made_and_set(make, class, set);
    }
    // The contents follow as state: a function in its own closure refers to the cell by then.
    let state = PyTuple::new(py, [contents])?;
    let set = callables.set_cell.bind(py);
    made_and_set(make, state.into_any(), set)
}

/// The class whose attributes a dict holds: since 3.13 a cell `__classdict__` may hold it itself.
fn class_of_dict<'py>(dict: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = dict.py();
    let Ok(dict) = dict.cast_exact::<PyDict>() else {
        return Ok(None);
    };
    if !dict.contains(intern!(py, "__module__"))? {
        return Ok(None);
    }
    owner(dict.as_any(), Tables::get(py)?)
}

pub(super) fn referent<'py>(
    object: &Bound<'py, PyAny>,
    tables: &Tables,
) -> PyResult<Bound<'py, PyAny>> {
    tables
        .referents
        .bind(object.py())
        .call1((object,))?
        .get_item(0)
}

/// The class that has this very dict of attributes.
fn owner<'py>(mapping: &Bound<'py, PyAny>, tables: &Tables) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = mapping.py();
    let Ok(dict) = mapping.cast::<PyDict>() else {
        return Ok(None);
    };
    let is_owner = |class: &Bound<'py, PyAny>| -> PyResult<bool> {
        Ok(class.is_instance_of::<PyType>() && {
            let proxy = class.getattr(intern!(py, "__dict__"))?;
            referent(&proxy, tables)?.is(mapping)
        })
    };
    for value in dict.values() {
        if let Some(Part::Descriptor | Part::Wrapper) = of(&value.get_type())? {
            let class = value.getattr(intern!(py, "__objclass__"))?;
            if is_owner(&class)? {
                return Ok(Some(class));
            }
        }
    }
    if !dict.contains(intern!(py, "__module__"))? {
        return Ok(None);
    }
    // A class without a descriptor of its own: whoever refers to it.
    let garbage = py.import("gc")?;
    let holders = garbage.call_method1("get_referrers", (mapping,))?;
    for holder in holders.try_iter()? {
        let holder = holder?;
        if is_owner(&holder)? {
            return Ok(Some(holder));
        }
    }
    Ok(None)
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

fn mapping_proxy<'py>(object: &Bound<'py, PyAny>, tables: &Tables) -> Reduced<'py> {
    let py = object.py();
    // The mapping itself, so that it is still shared with whoever else has it.
    let mapping = referent(object, tables)?;
    if let Some(class) = owner(&mapping, tables)? {
        return call(tables.vars.bind(py), (class,));
    }
    call(object.get_type().as_any(), (mapping,))
}

fn method<'py>(object: &Bound<'py, PyAny>, tables: &Tables) -> Reduced<'py> {
    let py = object.py();
    let function = object.getattr(intern!(py, "__func__"))?;
    let instance = object.getattr(intern!(py, "__self__"))?;
    // By name where that leads back, so that the receiver's own definition is used.
    if let Some(name) = function.getattr_opt(intern!(py, "__name__"))? {
        if let Ok(name) = name.cast::<PyString>() {
            let found = instance.getattr_opt(name).ok().flatten();
            if found.is_some_and(|found| found.eq(object).unwrap_or(false)) {
                return call(tables.getattr.bind(py), (instance, name));
            }
        }
    }
    call(tables.method.bind(py), (function, instance))
}

fn cached<'py>(object: &Bound<'py, PyAny>, to: To, callables: &Callables) -> Reduced<'py> {
    let py = object.py();
    if let Home::Shared = home::of(object, to)? {
        return Ok(None);
    }
    let settings = object.call_method0("cache_parameters")?;
    let make = callables.cached.bind(py);
    call(
        make,
        (
            object.getattr(intern!(py, "__wrapped__"))?,
            settings.get_item("maxsize")?,
            settings.get_item("typed")?,
        ),
    )
}

/// Which view, and of what. (`mapping` came with 3.10; it is a proxy of the dict.)
fn of_view<'py>(
    object: &Bound<'py, PyAny>,
    view: View,
    tables: &Tables,
) -> PyResult<(&'static str, Bound<'py, PyAny>)> {
    let dict = referent(&object.getattr("mapping")?, tables)?;
    let name = match view {
        View::Keys => "keys",
        View::Values => "values",
        View::Items => "items",
    };
    Ok((name, dict))
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
