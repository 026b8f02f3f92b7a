//! Code objects: as bytes that only the same version of Python runs, and what their functions use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCode, PyDict, PyString, PyTuple, PyWeakrefReference};

use super::super::tables::unpickling_error;
use super::super::version::LOAD_GLOBAL_SHIFT;
use super::definitions::ByIdentity;
use super::tables::Tables;
use crate::intern;
use crate::once::Once;

/// What is the same for every function of a code object.
pub(super) struct Form {
    pub(super) bytes: Py<PyBytes>,
    /// The global names that this code and the code inside it read or write.
    pub(super) globals: Vec<Py<PyString>>,
    /// The names that may be those of attributes, for submodules reached through packages.
    pub(super) attributes: Vec<Py<PyString>>,
    pub(super) name: Py<PyAny>,
    /// What a new function of this code has.
    pub(super) qualname: Py<PyAny>,
    pub(super) doc: Py<PyAny>,
}

static FORMS: Mutex<Option<ByIdentity<Arc<Form>>>> = Mutex::new(None);

/// The form of a code object, worked out once.
pub(super) fn form(code: &Bound<'_, PyAny>) -> PyResult<Arc<Form>> {
    let known = {
        let mut forms = FORMS.lock().unwrap_or_else(PoisonError::into_inner);
        let form = forms.as_mut().and_then(|forms| forms.get(code));
        form.map(|form| Arc::clone(form))
    };
    if let Some(form) = known {
        return Ok(form);
    }
    let form = Arc::new(work_out(code)?);
    let weak = PyWeakrefReference::new(code)?;
    FORMS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert_default()
        .set(weak, code.as_ptr() as usize, Arc::clone(&form));
    Ok(form)
}

fn work_out(code: &Bound<'_, PyAny>) -> PyResult<Form> {
    let py = code.py();
    let tables = Tables::get(py)?;
    let bytes = tables.marshal_dumps.bind(py).call1((code,))?;
    let mut names = Names::default();
    names.gather(code)?;
    // A function without anything else tells what it would be called if nobody had changed it.
    let cells = code.getattr(intern!(py, "co_freevars"))?.len()?;
    let cells = if cells == 0 {
        py.None().into_bound(py)
    } else {
        let cell = tables.cell.bind(py);
        let cells = (0..cells)
            .map(|_| cell.call0())
            .collect::<PyResult<Vec<_>>>()?;
        PyTuple::new(py, cells)?.into_any()
    };
    let arguments = (code, PyDict::new(py), py.None(), py.None(), cells);
    let plain = tables.function.bind(py).call1(arguments)?;
    Ok(Form {
        bytes: bytes.cast_into::<PyBytes>()?.unbind(),
        globals: names.globals,
        attributes: names.all,
        name: plain.getattr(intern!(py, "__name__"))?.unbind(),
        qualname: plain.getattr(intern!(py, "__qualname__"))?.unbind(),
        doc: plain.getattr(intern!(py, "__doc__"))?.unbind(),
    })
}

#[derive(Default)]
struct Names {
    globals: Vec<Py<PyString>>,
    all: Vec<Py<PyString>>,
}

impl Names {
    fn gather(&mut self, code: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = code.py();
        let names = code
            .getattr(intern!(py, "co_names"))?
            .cast_into::<PyTuple>()?;
        let steps = code.getattr(intern!(py, "co_code"))?;
        let steps = steps.cast::<PyBytes>()?.as_bytes();
        let opcodes = opcodes(py)?;
        let mut extended = 0;
        for step in steps.chunks_exact(2) {
            let argument = extended << 8 | usize::from(step[1]);
            extended = 0;
            match opcodes[usize::from(step[0])] {
                Names::NONE => {}
                Names::EXTENDED => extended = argument,
                shift => {
                    if let Ok(name) = names.get_item(argument >> shift) {
                        add(&mut self.globals, &name)?;
                    }
                }
            }
        }
        for name in &names {
            add(&mut self.all, &name)?;
        }
        for constant in code.getattr(intern!(py, "co_consts"))?.try_iter()? {
            let constant = constant?;
            if constant.is_exact_instance_of::<PyCode>() {
                self.gather(&constant)?;
            }
        }
        Ok(())
    }

    const NONE: u8 = u8::MAX;
    const EXTENDED: u8 = u8::MAX - 1;
}

fn add(names: &mut Vec<Py<PyString>>, name: &Bound<'_, PyAny>) -> PyResult<()> {
    // Names of code are interned.
    if !names.iter().any(|known| known.is(name)) {
        names.push(name.clone().cast_into::<PyString>()?.unbind());
    }
    Ok(())
}

/// By opcode: by how many bits its argument is shifted to be the index of a global name.
fn opcodes(py: Python<'_>) -> PyResult<&[u8; 256]> {
    static OPCODES: Once<[u8; 256]> = Once::new();
    OPCODES.get_or_try_init(py, || {
        let mut table = [Names::NONE; 256];
        let by_name = py.import("opcode")?.getattr("opmap")?;
        let mut set = |name: &str, meaning: u8| -> PyResult<()> {
            if by_name.contains(name)? {
                let opcode: usize = by_name.get_item(name)?.extract()?;
                if let Some(place) = table.get_mut(opcode) {
                    *place = meaning;
                }
            }
            Ok(())
        };
        set("EXTENDED_ARG", Names::EXTENDED)?;
        set("LOAD_GLOBAL", LOAD_GLOBAL_SHIFT)?;
        for name in [
            "STORE_GLOBAL",
            "DELETE_GLOBAL",
            "LOAD_NAME",
            "LOAD_FROM_DICT_OR_GLOBALS",
        ] {
            set(name, 0)?;
        }
        Ok(table)
    })
}

/// The version whose code this process runs: major, minor, and the number that `.pyc` files begin with.
pub(super) fn version(py: Python<'_>) -> PyResult<u32> {
    static VERSION: Once<u32> = Once::new();
    VERSION
        .get_or_try_init(py, || {
            let magic = py
                .import("_frozen_importlib_external")?
                .getattr("MAGIC_NUMBER")?;
            let magic: [u8; 4] = magic.extract()?;
            let python = py.version_info();
            Ok(u32::from(python.major) << 24
                | u32::from(python.minor) << 16
                | u32::from(u16::from_le_bytes([magic[0], magic[1]])))
        })
        .copied()
}

/// The same as an object.
pub(super) fn version_object(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static OBJECT: Once<Py<PyAny>> = Once::new();
    let object = OBJECT.get_or_try_init(py, || {
        Ok::<_, PyErr>(version(py)?.into_pyobject(py)?.into_any().unbind())
    })?;
    Ok(object.bind(py))
}

/// Code that arrived lately: the same function comes again and again.
static ARRIVED: Mutex<Option<ByBytes>> = Mutex::new(None);

type ByBytes = HashMap<Box<[u8]>, Py<PyAny>>;

const MOST_KEPT: usize = 512;
const LARGEST_KEPT: usize = 16 << 10;

/// Makes a code object of bytes of the same version of Python.
#[pyfunction]
pub fn rebuild_code<'py>(
    py: Python<'py>,
    version: u32,
    code: &Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyAny>> {
    let bytes = code.as_bytes();
    let own = self::version(py)?;
    if version != own {
        return Err(other_version(py, version, own));
    }
    let known = {
        let arrived = ARRIVED.lock().unwrap_or_else(PoisonError::into_inner);
        arrived
            .as_ref()
            .and_then(|arrived| arrived.get(bytes))
            .map(|code| code.clone_ref(py))
    };
    if let Some(known) = known {
        return Ok(known.into_bound(py));
    }
    let made = Tables::get(py)?.marshal_loads.bind(py).call1((code,))?;
    if !made.is_exact_instance_of::<PyCode>() {
        return Err(unpickling_error(py, "these bytes are no code object"));
    }
    if bytes.len() <= LARGEST_KEPT {
        // What falls out is dropped when the table is free again.
        let old = {
            let mut arrived = ARRIVED.lock().unwrap_or_else(PoisonError::into_inner);
            let arrived = arrived.get_or_insert_default();
            let old = (arrived.len() >= MOST_KEPT).then(|| std::mem::take(arrived));
            arrived.insert(bytes.into(), made.clone().unbind());
            old
        };
        drop(old);
    }
    Ok(made)
}

fn other_version(py: Python<'_>, version: u32, own: u32) -> PyErr {
    let name = |version: u32| format!("Python {}.{}", version >> 24, version >> 16 & 0xff);
    let (theirs, ours) = (name(version), name(own));
    let same = if theirs == ours {
        " (another build of it, with other bytecode)"
    } else {
        ""
    };
    unpickling_error(
        py,
        format!(
            "a function was pickled by value by {theirs}{same}, and its code does not run on {ours}: \
             read it with the same version, or let it go by reference (define it in a module that both can import)"
        ),
    )
}
