//! bequeath's pickler: CPython's objects over the byte format of `bequeath-pickle`.
//!
//! * `save` walks an object graph and writes it: `strings`, `containers`, `sets` and `names` what these say, `dispatch` all
//!   that is of no exact builtin type: by `reduce`, which writes a `reduction`, or unasked as `instances`, `scalars` and
//!   `collections`. `stop` is why a walk ends before its end.
//! * `identities` remembers what was written.
//! * `allow` is what a restricted reader may use.
//! * `build` makes objects of what is read, from memory or a `file`, with what `objects` has; `attributes` gives them their
//!   state, `find` follows names, and a `failure` becomes an exception.
//! * `room` is what a thread uses again from one pickle to the next, for transfers too, whose `policy` is asked for objects.
//! * `notes` says in an error where it arose, `handles` what has no place in plain bytes.
//! * `pickler` and `unpickler` are the classes that programs use; the functions are here, and `small` is before the one
//!   that is called most.
//! * `value` takes functions and classes apart that a receiver cannot import.
//! * `classes` knows what can be written without running code, `plain` and `library` how.
//! * `look` reads objects without counting references, `moments` those of `datetime`, `buffers` what lies in buffers; `depth`
//!   ends a walk in time; `tables` and `version` hold what CPython registers and lays out.

mod allow;
mod attributes;
mod buffers;
mod build;
mod classes;
mod collections;
mod containers;
mod depth;
mod dispatch;
mod failure;
mod file;
mod find;
mod handles;
mod identities;
mod instances;
mod library;
mod look;
mod moments;
mod names;
mod notes;
mod objects;
mod pickler;
mod plain;
mod policy;
mod reduce;
mod reduction;
mod room;
mod save;
mod scalars;
mod sets;
mod small;
mod stop;
mod strings;
mod tables;
mod unpickler;
pub(crate) mod value;
mod version;

use bequeath_pickle::{Slice, HIGHEST_PROTOCOL};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use failure::Failure;
use objects::Objects;

pub(crate) use handles::refusal_of_handle;
pub(crate) use look::new_bytes;
pub(crate) use policy::Policy;
pub(crate) use reduction::Reduced;
pub(crate) use room::{give_back, read_transfer, spare_bytes, write_full, write_pure, Written};
pub(crate) use small::quicken;
pub(crate) use version::{code_position, position_table, Position, ASKS_FOR_NOTHING};

pub use pickler::{Pickler, PicklerMemoProxy};
pub use unpickler::{Unpickler, UnpicklerMemoProxy};

/// Fetches what later pickles need, so that they work while the interpreter ends.
///
/// # Errors
/// When the standard library is broken.
pub(crate) fn make_ready(py: Python<'_>) -> PyResult<()> {
    tables::Tables::get(py).map(|_| ())
}

/// What `protocol=None` means.
const DEFAULT_PROTOCOL: u8 = if cfg!(Py_3_14) { 5 } else { 4 };

/// A protocol as callers give it: none, or negative for the newest.
#[inline]
pub(crate) fn protocol_of(protocol: Option<&Bound<'_, PyAny>>) -> PyResult<u8> {
    let Some(protocol) = protocol.filter(|protocol| !protocol.is_none()) else {
        return Ok(DEFAULT_PROTOCOL);
    };
    let number = protocol.as_borrowed();
    let number = match look::is_int(number).then(|| look::small_int(number)) {
        Some(Some(number)) => number,
        _ => protocol.extract()?,
    };
    if number < 0 {
        return Ok(HIGHEST_PROTOCOL);
    }
    match u8::try_from(number) {
        Ok(number) if number <= HIGHEST_PROTOCOL => Ok(number),
        _ => Err(PyValueError::new_err(format!(
            "pickle protocol must be <= {HIGHEST_PROTOCOL}"
        ))),
    }
}

/// The pickle of an object, as bytes.
#[pyfunction]
#[pyo3(signature = (obj, protocol=None, *, fix_imports=true, buffer_callback=None, by_value=false))]
pub fn dumps<'py>(
    obj: &Bound<'py, PyAny>,
    protocol: Option<&Bound<'py, PyAny>>,
    fix_imports: bool,
    buffer_callback: Option<Bound<'py, PyAny>>,
    by_value: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let protocol = protocol_of(protocol)?;
    let hooks = pickler::hooks(protocol, fix_imports, buffer_callback, by_value)?;
    let mut beside = Vec::new();
    let bytes = room::write(obj, protocol, true, &hooks, Some(&mut beside))?;
    if beside.is_empty() {
        return look::new_bytes(obj.py(), &bytes);
    }
    buffers::joined(obj.py(), &bytes, &beside)
}

/// Writes the pickle of an object to a file.
#[pyfunction]
#[pyo3(signature = (obj, file, protocol=None, *, fix_imports=true, buffer_callback=None, by_value=false))]
pub fn dump<'py>(
    obj: &Bound<'py, PyAny>,
    file: &Bound<'py, PyAny>,
    protocol: Option<&Bound<'py, PyAny>>,
    fix_imports: bool,
    buffer_callback: Option<Bound<'py, PyAny>>,
    by_value: bool,
) -> PyResult<()> {
    let protocol = protocol_of(protocol)?;
    let mut hooks = pickler::hooks(protocol, fix_imports, buffer_callback, by_value)?;
    hooks.write = Some(pickler::write_method(file)?);
    room::write(obj, protocol, true, &hooks, None).map(drop)
}

/// The object that a pickle says; what follows the pickle is ignored.
#[pyfunction]
#[pyo3(signature = (data, /, *, fix_imports=true, encoding="ASCII", errors="strict", buffers=None, allow=None))]
pub fn loads<'py>(
    data: &Bound<'py, PyAny>,
    fix_imports: bool,
    encoding: &str,
    errors: &str,
    buffers: Option<&Bound<'py, PyAny>>,
    allow: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut objects = unpickler::objects(data.py(), fix_imports, encoding, errors, buffers, allow)?;
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return read(bytes.as_bytes(), &mut objects);
    }
    // A copy, since code that runs while it is read may change what is not bytes.
    let bytes = buffers::copied(data)?;
    read(bytes.as_bytes(), &mut objects)
}

fn read<'py>(bytes: &[u8], objects: &mut Objects<'py>) -> PyResult<Bound<'py, PyAny>> {
    room::with_decoder(&mut Slice::new(bytes), objects).map_err(|Failure(error)| error)
}

/// The object that a pickle in a file says; the file stands behind the pickle then.
#[pyfunction]
#[pyo3(signature = (file, *, fix_imports=true, encoding="ASCII", errors="strict", buffers=None, allow=None))]
pub fn load<'py>(
    file: &Bound<'py, PyAny>,
    fix_imports: bool,
    encoding: &str,
    errors: &str,
    buffers: Option<&Bound<'py, PyAny>>,
    allow: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut source = file::File::of(file)?;
    let mut objects = unpickler::objects(file.py(), fix_imports, encoding, errors, buffers, allow)?;
    let loaded = room::with_decoder(&mut source, &mut objects);
    let settled = source.settle();
    let loaded = loaded.map_err(|Failure(error)| error)?;
    settled?;
    Ok(loaded)
}
