//! Type aliases, and bounds and defaults of type parameters, as the syntax of 3.12 makes them: a function works them out
//! when they are first asked for, and it may name what it belongs to.
//!
//! So what is made is made first, with a [stand-in](stand_in) for each function, and the functions follow as its state. Only
//! the interpreter's own instructions make such objects.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use super::super::look;
use super::super::reduction::Reduction;
use super::super::version::late_functions;
use super::definitions::{self, Id};
use super::tables::{Callables, Tables};
use super::variables::come_from;
use crate::intern;
use crate::once::{look_up, Once};

/// Which parts of an object are worked out late, and under which names their functions are known.
type Parts<'py> = Vec<(
    Bound<'py, PyString>,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
)>;

/// The reduction of a type variable or alias of which a part is worked out late; nothing for others.
pub(super) fn reduce<'py>(
    object: &Bound<'py, PyAny>,
    kind: &str,
    id: Option<&Bound<'py, PyBytes>>,
) -> PyResult<Option<Reduction<'py>>> {
    let py = object.py();
    let functions = late_functions(object, kind)?;
    if functions.is_empty() {
        return Ok(None);
    }
    let state = PyDict::new(py);
    let mut parts: Parts<'py> = Vec::new();
    for (part, function) in functions {
        let function = told(&function)?;
        let part = PyString::new(py, part);
        let names = ["__module__", "__name__", "__qualname__"].map(|name| function.getattr(name));
        let [module, name, qualname] = names;
        state.set_item(&part, &function)?;
        parts.push((part, module?, name?, qualname?));
    }
    let parameters = match kind {
        "TypeAliasType" => Some(object.getattr(intern!(py, "__type_params__"))?),
        _ => None,
    };
    let name = object.getattr(intern!(py, "__name__"))?;
    let module = object.getattr_opt(intern!(py, "__module__"))?;
    let arguments = (id, kind, name, module, parameters, parts).into_pyobject(py)?;
    let callables = Callables::get(py)?;
    Ok(Some(Reduction::call_and_set(
        callables.late.bind(py).clone(),
        arguments,
        state.into_any(),
        Some(callables.set_late.bind(py).clone()),
    )))
}

/// Makes a type variable or alias whose parts are told later, or finds it.
#[pyfunction]
pub fn rebuild_late<'py>(
    id: Option<Id>,
    kind: &str,
    name: &Bound<'py, PyString>,
    module: Option<Bound<'py, PyAny>>,
    parameters: Option<Bound<'py, PyTuple>>,
    parts: Parts<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = name.py();
    if let Some(known) = id.and_then(|id| definitions::find(py, &id)) {
        return Ok(known);
    }
    if !name.is_exact_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("a name is text"));
    }
    let mut made = None;
    let mut default = None;
    for (part, module, name_of_function, qualname) in parts {
        let function = stand_in(py)?;
        function.setattr(intern!(py, "__module__"), module)?;
        function.setattr(intern!(py, "__name__"), name_of_function)?;
        function.setattr(intern!(py, "__qualname__"), qualname)?;
        match (kind, part.to_str()?) {
            ("TypeAliasType", "value") => {
                let make = instruction(py, &ALIAS)?;
                made = Some(make.call1((name, &parameters, function))?);
            }
            ("TypeVar", "bound") => made = Some(instruction(py, &BOUND)?.call1((name, function))?),
            ("TypeVar", "constraints") => {
                made = Some(instruction(py, &CONSTRAINTS)?.call1((name, function))?);
            }
            ("TypeVar" | "ParamSpec" | "TypeVarTuple", "default") => default = Some(function),
            _ => return Err(PyTypeError::new_err("no part that is worked out late")),
        }
    }
    let made = match (made, kind) {
        (Some(made), _) => made,
        // Not by a call, which would give them no default for ever.
        (None, "TypeVar") => instruction(py, &TYPE)?.call1((name,))?,
        (None, "ParamSpec") => instruction(py, &PARAMETERS)?.call1((name,))?,
        (None, "TypeVarTuple") => instruction(py, &TYPES)?.call1((name,))?,
        (None, _) => return Err(PyTypeError::new_err("no kind of type variable")),
    };
    if let Some(default) = default {
        instruction(py, &DEFAULT)?.call1((&made, default))?;
    }
    come_from(&made, id, module)?;
    Ok(made)
}

/// Tells what was just made how to work its parts out.
#[pyfunction]
pub fn set_late<'py>(object: &Bound<'py, PyAny>, state: &Bound<'py, PyDict>) -> PyResult<()> {
    let py = object.py();
    let kind = object.get_type().name()?;
    for (part, function) in late_functions(object, kind.to_str()?)? {
        let Some(wanted) = state.get_item(part)? else {
            continue;
        };
        if let Some(cell) = cell_of(&function)? {
            // What was here already keeps what it was told.
            if contents(&cell)?.is_none() {
                cell.setattr(intern!(py, "cell_contents"), wanted)?;
            }
        }
    }
    Ok(())
}

fn stand_in(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static MAKE: Once<Py<PyAny>> = Once::new();
    let make = MAKE.get_or_try_init(py, || look_up(py, "bequeath._late", "stand_in"))?;
    make.bind(py).call0()
}

/// The cell of a stand-in; nothing for other functions.
fn cell_of<'py>(function: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    static CODE: Once<Py<PyAny>> = Once::new();
    let py = function.py();
    let own = CODE.get_or_try_init(py, || {
        let code = stand_in(py)?.getattr(intern!(py, "__code__"))?;
        Ok::<_, PyErr>(code.unbind())
    })?;
    if !function.getattr(intern!(py, "__code__"))?.is(own) {
        return Ok(None);
    }
    let cells = function.getattr(intern!(py, "__closure__"))?;
    cells.get_item(0).map(Some)
}

/// What a stand-in was told.
fn contents<'py>(cell: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(look::cell_contents(cell)?.filter(|told| !told.is_none()))
}

/// The function that a stand-in was told, or the function itself.
fn told<'py>(function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let wanted = match cell_of(function)? {
        Some(cell) => contents(&cell)?,
        None => None,
    };
    Ok(wanted.unwrap_or_else(|| function.clone()))
}

/// An instruction of the interpreter, called as a function.
struct Instruction {
    name: &'static str,
    /// A function of as many arguments as it takes.
    of: &'static std::ffi::CStr,
    /// The opcode, and where the numbers behind it are told.
    call: (&'static str, &'static str),
    /// It wants its arguments as a tuple.
    takes_tuple: bool,
    function: Once<Py<PyAny>>,
}

impl Instruction {
    const fn new(name: &'static str, of: &'static std::ffi::CStr, takes_tuple: bool) -> Self {
        Self {
            name,
            of,
            call: ("CALL_INTRINSIC_1", "_intrinsic_1_descs"),
            takes_tuple,
            function: Once::new(),
        }
    }

    const fn of_one(name: &'static str) -> Self {
        Self::new(name, c"lambda a: (a,)", false)
    }

    const fn of_two(name: &'static str) -> Self {
        let mut made = Self::new(name, c"lambda a, b: (a, b)", false);
        made.call = ("CALL_INTRINSIC_2", "_intrinsic_2_descs");
        made
    }
}

static ALIAS: Instruction =
    Instruction::new("INTRINSIC_TYPEALIAS", c"lambda a, b, c: (a, b, c)", true);
static TYPE: Instruction = Instruction::of_one("INTRINSIC_TYPEVAR");
static PARAMETERS: Instruction = Instruction::of_one("INTRINSIC_PARAMSPEC");
static TYPES: Instruction = Instruction::of_one("INTRINSIC_TYPEVARTUPLE");
static BOUND: Instruction = Instruction::of_two("INTRINSIC_TYPEVAR_WITH_BOUND");
static CONSTRAINTS: Instruction = Instruction::of_two("INTRINSIC_TYPEVAR_WITH_CONSTRAINTS");
static DEFAULT: Instruction = Instruction::of_two("INTRINSIC_SET_TYPEPARAM_DEFAULT");

/// The function whose code makes a tuple of its arguments, changed to do what the instruction does with them.
fn instruction<'py>(
    py: Python<'py>,
    instruction: &'static Instruction,
) -> PyResult<&'py Bound<'py, PyAny>> {
    let function = instruction.function.get_or_try_init(py, || {
        let opcodes = py.import("opcode")?;
        let by_name = opcodes.getattr("opmap")?;
        let opcode = |name: &str| -> PyResult<u8> { by_name.get_item(name)?.extract() };
        let (call, numbers) = instruction.call;
        let numbers = opcodes.getattr(numbers)?;
        let number: u8 = numbers
            .call_method1("index", (instruction.name,))?
            .extract()?;
        let call = [opcode(call)?, number];
        let code = py.eval(instruction.of, None, None)?.getattr("__code__")?;
        let mut steps: Vec<u8> = code.getattr("co_code")?.extract()?;
        let makes_tuple = opcode("BUILD_TUPLE")?;
        let at = steps.chunks(2).position(|step| step[0] == makes_tuple);
        let at = at.ok_or_else(|| PyTypeError::new_err("no tuple is made"))? * 2;
        let at = if instruction.takes_tuple {
            at + 2..at + 2
        } else {
            at..at + 2
        };
        steps.splice(at, call);
        let keywords = PyDict::new(py);
        keywords.set_item("co_code", PyBytes::new(py, &steps))?;
        let code = code.call_method("replace", (), Some(&keywords))?;
        let function = Tables::get(py)?.function.bind(py);
        Ok::<_, PyErr>(function.call1((code, PyDict::new(py)))?.unbind())
    })?;
    Ok(function.bind(py))
}
