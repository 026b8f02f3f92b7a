//! What `Pool.stats()` tells: what each worker has done and spent, and what waits.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::intern;

use super::driver::PoolDriver;
use super::member::Member;
use super::shared::now;

impl PoolDriver {
    pub(super) fn stats_now<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (members, waiting) = {
            let books = self.books();
            (books.members(), books.scheduler.waiting())
        };
        let workers = PyList::empty(py);
        for member in members {
            workers.append(stats_of(py, &member)?)?;
        }
        let stats = PyDict::new(py);
        stats.set_item("waiting", waiting)?;
        stats.set_item(
            "bytes_received",
            self.bytes_received.load(Ordering::Relaxed),
        )?;
        stats.set_item("workers", workers)?;
        Ok(stats)
    }
}

fn stats_of<'py>(py: Python<'py>, member: &Member) -> PyResult<Bound<'py, PyDict>> {
    let slate = &*member.slate;
    let seconds = |word: &AtomicU64| word.load(Ordering::Relaxed) as f64 / 1e9;
    let stats = PyDict::new(py);
    if let Some(started) = member.started.get() {
        let process = started.process.bind(py);
        stats.set_item("pid", process.getattr(intern!(py, "pid"))?)?;
        stats.set_item("name", process.getattr(intern!(py, "name"))?)?;
    }
    let ready = slate.ready();
    let start_up = (ready != 0).then(|| ready.saturating_sub(member.since) as f64 / 1e9);
    let at = slate.in_hand();
    stats.set_item("tasks", slate.done.load(Ordering::Relaxed))?;
    stats.set_item("busy", seconds(&slate.busy))?;
    stats.set_item("waiting", seconds(&slate.idle))?;
    stats.set_item("pickling", seconds(&slate.pickling))?;
    stats.set_item("start_up", start_up)?;
    stats.set_item("bytes_in", slate.received.load(Ordering::Relaxed))?;
    stats.set_item("bytes_out", slate.sent.load(Ordering::Relaxed))?;
    let at_task = at.map(|at| now().saturating_sub(at.since) as f64 / 1e9);
    stats.set_item("at_task_for", at_task)?;
    Ok(stats)
}
