//! What a fork makes of this process's share in the session: hooks for `os.register_at_fork`.
//!
//! Registered when the engine is imported, before the hooks of those who import us: the one before
//! the fork runs last of theirs, the ones after it first.

use std::cell::{Cell, RefCell};

use bequeath_shm::{Announced, ForkTicket, Session};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::{process, session};

thread_local! {
    /// The fork that this thread is doing; in the child this thread is the one that lives on.
    static TICKET: RefCell<Option<(Session, ForkTicket)>> = const { RefCell::new(None) };
    /// The last child that this thread forked, whose number the hooks are not told.
    static ANNOUNCED: Cell<Option<Announced>> = const { Cell::new(None) };
}

/// Registers the hooks with the interpreter.
///
/// # Errors
/// What `os.register_at_fork` raises.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let hooks = PyDict::new(py);
    hooks.set_item("before", wrap_pyfunction!(session_before_fork, module)?)?;
    hooks.set_item(
        "after_in_parent",
        wrap_pyfunction!(session_after_fork_in_parent, module)?,
    )?;
    hooks.set_item(
        "after_in_child",
        wrap_pyfunction!(session_after_fork_in_child, module)?,
    )?;
    py.import("os")?
        .call_method("register_at_fork", (), Some(&hooks))?;
    let leave = wrap_pyfunction!(session::session_leave, module)?;
    py.import("atexit")?.call_method1("register", (leave,))?;
    Ok(())
}

/// Makes the session if there is none yet (two children of one process share it), and counts what
/// this process holds once more. A fork cannot be refused from here: without a ticket the child
/// counts for itself.
#[pyfunction]
fn session_before_fork(py: Python<'_>) {
    let Ok(session) = session::current(py) else {
        return;
    };
    // What goes wrong there goes wrong again, and is told, where something is sent.
    let _ = crate::pickle::value::name_typed_in(py);
    if let Ok(ticket) = session.before_fork() {
        TICKET.with_borrow_mut(|place| *place = Some((session, ticket)));
    }
}

#[pyfunction]
fn session_after_fork_in_parent() {
    if let Some((session, ticket)) = TICKET.take() {
        ANNOUNCED.set(Some(ticket.announced()));
        session.after_fork_parent_unknown(ticket);
    }
}

#[pyfunction]
fn session_after_fork_in_child() {
    // What belongs to the parent alone is let go of first.
    bequeath_process::tie::after_fork_in_child();
    bequeath_process::watch::after_fork_in_child();
    if let Some((session, ticket)) = TICKET.take() {
        // An expired ticket: the session has joined anew, which is all that can be done.
        let _ = session.after_fork_child(ticket);
    } else if let Some(session) = Session::current() {
        let _ = session.join_forked_child();
    }
}

/// The fork that this thread tried just now failed with this error number: gives back what was counted for the
/// child, and raises what there is to say.
#[pyfunction]
pub fn fork_failed(py: Python<'_>, errno: Option<i32>) -> PyResult<()> {
    if let (Some(announced), Some(session)) = (ANNOUNCED.take(), Session::current()) {
        py.detach(|| session.no_child(announced));
    }
    Err(process::no_process(errno.unwrap_or(0)))
}

/// The child that this thread forked just now has this number.
pub fn note_child(pid: u32) {
    if let (Some(announced), Some(session)) = (ANNOUNCED.take(), Session::current()) {
        session.note_child(announced, pid);
    }
}
