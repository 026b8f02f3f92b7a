//! Objects to messages and back: the one place where the bindings pickle.
//!
//! Exact `int`, `float`, `bool`, `None`, `str` and `bytes` are encoded here; everything else is pickled, into a buffer that the thread
//! uses again. What runs nobody's code is written at once; otherwise, a *transfer* is open on this thread meanwhile: native
//! objects and the facade's reducers hand in what does not fit into bytes (references to shared objects, descriptors,
//! large buffers) and get a small number that stands for it in the pickle. While it is rebuilt they hand the number back.

mod apart;
mod arrived;
mod buffers;
mod dumps;
mod loads;
mod open;
mod policy;
pub(crate) mod scarcity;
mod sealed;
mod trial;

use crate::once::Once;
use bequeath_shm::Session;
use pyo3::prelude::*;

use crate::intern;

pub use apart::rebuild_definition;
#[allow(unused_imports)]
// the name of what `Pickled::take_definitions` returns, for who holds them
pub use apart::Definition;
pub(crate) use dumps::dumps_within;
pub use dumps::{dumps, dumps_once, dumps_once_as, dumps_portable, transfer_dumps, Pickled};
pub use loads::{load, loads, portable_bytes};
pub(crate) use open::own_descriptors;
pub use open::{
    check, export, export_descriptor, goes_outside, import, import_descriptor, refusal,
    transfer_active, transfer_is_start, transfer_load, Purpose,
};
pub use sealed::{rebuild_sealed, Sealed};
pub use trial::set_auditor;
pub(crate) use trial::{strictly, trial};

pub use bequeath_channel::kind;

/// The facade's part of pickling; remembered, since nothing can be imported any more when the interpreter ends.
fn facade(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static FACADE: Once<Py<PyAny>> = Once::new();
    let module = FACADE.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("bequeath._transfer")?.into_any().unbind())
    })?;
    Ok(module.bind(py))
}

/// Fetches what later transfers need, so that they work while the interpreter ends.
///
/// # Errors
/// When the package is broken.
pub fn make_ready(py: Python<'_>) -> PyResult<()> {
    facade(py)?;
    crate::pickle::make_ready(py)?;
    is_strict(py).map(|_| ())
}

pub(crate) fn is_strict(py: Python<'_>) -> PyResult<bool> {
    if trial::is_strict_here() {
        return Ok(true);
    }
    static SETTINGS: Once<Py<PyAny>> = Once::new();
    SETTINGS
        .get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("bequeath._settings")?.into_any().unbind())
        })?
        .bind(py)
        .getattr(intern!(py, "strict"))?
        .extract()
}

pub(crate) fn current_session(py: Python<'_>) -> PyResult<Session> {
    crate::session::current(py)
}

pub(crate) fn shm_error(error: bequeath_shm::Error) -> PyErr {
    crate::error::EngineError::from(error).into()
}
