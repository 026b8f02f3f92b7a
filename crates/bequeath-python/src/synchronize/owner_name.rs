//! The names that multiprocessing's `repr` gives to a lock's owner.

use bequeath_sync::owner::exited_in_order;
use bequeath_sync::{Holder, ProcessId};
use pyo3::prelude::*;

use crate::intern;

/// Who holds a lock, seen from here.
pub(super) enum Seen {
    Free,
    /// This thread.
    Me,
    OtherThread,
    OtherProcess,
    Dead(String),
}

impl Seen {
    pub(super) fn of(owner: Option<ProcessId>, killed: Option<Holder>, mine: bool) -> Self {
        match owner {
            None => Self::Free,
            Some(_) if mine => Self::Me,
            Some(owner) if owner == ProcessId::current() => Self::OtherThread,
            Some(owner) if killed.is_some() => Self::dead(owner, "killed"),
            Some(owner) if !owner.is_dead() => Self::OtherProcess,
            Some(owner) if exited_in_order(owner) => Self::dead(owner, "exited"),
            Some(owner) => Self::dead(owner, "killed"),
        }
    }

    fn dead(owner: ProcessId, how: &str) -> Self {
        Self::Dead(format!("process {} ({how})", owner.pid()))
    }

    pub(super) fn name(&self, py: Python<'_>) -> PyResult<String> {
        Ok(match self {
            Self::Free => "None".to_owned(),
            Self::Me => my_name(py)?,
            Self::OtherThread => "SomeOtherThread".to_owned(),
            Self::OtherProcess => "SomeOtherProcess".to_owned(),
            Self::Dead(name) => name.clone(),
        })
    }
}

/// The process's name, with the thread's unless it is the main one.
fn my_name(py: Python<'_>) -> PyResult<String> {
    let process = py
        .import(intern!(py, "bequeath.process"))?
        .call_method0(intern!(py, "current_process"))?;
    let thread = py
        .import(intern!(py, "threading"))?
        .call_method0(intern!(py, "current_thread"))?;
    let mut name: String = process.getattr(intern!(py, "name"))?.extract()?;
    let thread: String = thread.getattr(intern!(py, "name"))?.extract()?;
    if thread != "MainThread" {
        name.push('|');
        name.push_str(&thread);
    }
    Ok(name)
}

/// The name of an object's class, for `repr`.
pub(super) fn class_name(object: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(object.get_type().name()?.to_string())
}
