//! The process's session: made when the first object, start or fork needs it, shared by all that
//! come after, left in order at exit.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use bequeath_shm::{HeldBy, Options, Session};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::before_exec;
use crate::error::EngineError;
use crate::pool::Bell;

/// Two threads' first objects make one session.
static MAKING: Mutex<()> = Mutex::new(());

/// The session of this process, made now if there is none.
///
/// # Errors
/// OSError or MemoryError when there can be none.
pub fn current(py: Python<'_>) -> PyResult<Session> {
    if let Some(session) = Session::current() {
        return Ok(session);
    }
    let session = make()?;
    before_exec::listen(py);
    Ok(session)
}

/// Any member may be the one that gives back what a dead process had, also of a kind that it never used itself.
fn register_kinds() {
    bequeath_channel::register_kinds();
    bequeath_shm::register_kind::<Bell>();
}

fn make() -> PyResult<Session> {
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(session) = Session::current() {
        return Ok(session);
    }
    register_kinds();
    let session = Session::create(&Options::default()).map_err(EngineError::from)?;
    bequeath_channel::board::create().map_err(EngineError::from)?;
    register_kinds();
    session.set_current();
    Ok(session)
}

/// Joins the session whose arena this descriptor is; for a process that its parent started. Joining
/// the session that the process is in already is nothing.
///
/// # Errors
/// RuntimeError when the process is in another session or must not join this one.
pub fn join(descriptor: OwnedFd) -> PyResult<()> {
    join_first(descriptor)?;
    Python::attach(before_exec::listen);
    Ok(())
}

fn join_first(descriptor: OwnedFd) -> PyResult<()> {
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(session) = Session::current() {
        let mine = session.descriptor().map_err(EngineError::from)?;
        let same = bequeath_os::memfd::identity(mine).map_err(EngineError::from)?
            == bequeath_os::memfd::identity(&descriptor).map_err(EngineError::from)?;
        return if same {
            Ok(())
        } else {
            Err(PyRuntimeError::new_err(
                "this process is in another session already",
            ))
        };
    }
    register_kinds();
    Session::attach(descriptor)
        .map_err(EngineError::from)?
        .set_current();
    register_kinds();
    Ok(())
}

/// A child is dead, with this exit code: what it held is given back. Others may ask for the code of a child that was
/// `handed_on`. To be called with nothing held.
pub fn reaped(pid: u32, code: i32, handed_on: bool) {
    if let Some(session) = Session::current() {
        if handed_on {
            session.note_end(pid, code);
        } else {
            session.note_death(pid, code);
        }
        session.reap_pid(pid);
    }
}

/// Figures of this process's session, or None before there is one.
#[pyfunction]
pub fn session_info(py: Python<'_>) -> PyResult<Option<Bound<'_, PyDict>>> {
    let Some(session) = Session::current() else {
        return Ok(None);
    };
    let usage = session.usage().map_err(EngineError::from)?;
    let dict = PyDict::new(py);
    dict.set_item("id", format!("{:032x}", session.id()))?;
    dict.set_item(
        "fd",
        session.descriptor().map_err(EngineError::from)?.as_raw_fd(),
    )?;
    dict.set_item("used", usage.used)?;
    dict.set_item("limit", usage.limit)?;
    dict.set_item("size", usage.size)?;
    dict.set_item("warm", usage.warm)?;
    dict.set_item("members", usage.members)?;
    dict.set_item("references", usage.references)?;
    dict.set_item("places", usage.places)?;
    Ok(Some(dict))
}

/// Changes the session's memory budget, for all its processes.
#[pyfunction]
pub fn session_set_limit(py: Python<'_>, bytes: u64) -> PyResult<()> {
    current(py)?.set_limit(bytes);
    Ok(())
}

/// The arena's descriptor, which stays the session's: duplicate it to hand it to another program.
#[pyfunction]
pub fn session_descriptor(py: Python<'_>) -> PyResult<i32> {
    let session = current(py)?;
    let number = session.descriptor().map_err(EngineError::from)?.as_raw_fd();
    Ok(number)
}

/// Joins the session whose arena the descriptor is; the number is taken over.
#[pyfunction]
pub fn session_attach(descriptor: i32) -> PyResult<()> {
    let number =
        u32::try_from(descriptor).map_err(|_| PyValueError::new_err("negative descriptor"))?;
    join(bequeath_os::handover::adopt_inherited(number).map_err(EngineError::from)?)
}

/// Bytes of pages that the arena has, bytes of them that nothing accounts for, and where some of those are.
#[pyfunction]
pub fn session_audit(py: Python<'_>) -> PyResult<(u64, i64, Vec<u64>)> {
    let audit = current(py)?.audit().map_err(EngineError::from)?;
    let unaccounted = audit.unaccounted();
    Ok((audit.used, unaccounted, audit.stray))
}

/// One line for each place of the arena in use, objects with their kinds and counts: for tests and bug reports.
#[pyfunction]
pub fn session_places(py: Python<'_>) -> PyResult<Vec<String>> {
    let census = current(py)?.census().map_err(EngineError::from)?;
    let used = census
        .places
        .iter()
        .filter(|place| !matches!(place.held_by, HeldBy::Free { .. }));
    Ok(used.map(|place| format!("{place:?}")).collect())
}

/// Gives back what dead processes of the session held; returns how many were found.
#[pyfunction]
pub fn session_scavenge(py: Python<'_>) -> usize {
    Session::current().map_or(0, |session| py.detach(|| session.scavenge()))
}

/// This process ends in order: its locks stay held in the eyes of others.
#[pyfunction]
pub fn session_leave() {
    if let Some(session) = Session::current() {
        session.leave_in_order();
    }
}
