//! How a call becomes tasks: it is entered in the books, the scheduler is told, and what follows is done in the
//! caller's thread.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use bequeath_pool::{Event, TaskIds};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::intern;
use crate::transfer;

use super::driver::PoolDriver;
use super::ending::without_settling;
use super::job::{Job, What};
use super::signalled;
use super::stream::ResultStream;

impl PoolDriver {
    /// The number of its first task.
    pub(super) fn enter(
        &self,
        py: Python<'_>,
        sink: &Bound<'_, PyAny>,
        tasks: TaskIds,
        timeout: Option<f64>,
        held: Mutex<Vec<transfer::Definition>>,
        what: What,
    ) -> PyResult<u64> {
        let limit = timeout.map(nanoseconds).transpose()?;
        let first = tasks.start;
        let job = Job {
            tasks: tasks.clone(),
            sink: sink.clone().unbind(),
            stream: sink
                .cast::<ResultStream>()
                .ok()
                .map(|sink| sink.clone().unbind()),
            asks: sink.hasattr(intern!(py, "_begin"))?,
            timeout,
            untold: AtomicU64::new(tasks.end - tasks.start),
            held,
            what,
        };
        let mut steps = Vec::new();
        {
            let mut books = self.books();
            books.enter(Arc::new(job));
            let event = Event::Submitted {
                tasks,
                timeout: limit,
            };
            books.note(event, &mut steps);
        }
        if self.is_left_off_here() {
            steps = without_settling(steps);
        }
        self.carry_out(py, steps);
        if limit.is_some() {
            self.wake();
        }
        if self.is_finished() {
            // The thread that settles is gone; whoever comes first of the two settles.
            self.settle_left(py);
        }
        signalled::raise()?;
        Ok(first)
    }
}

/// What the scheduler reckons with; nothing is less than zero.
///
/// # Errors
/// It is not a number.
pub fn nanoseconds(seconds: f64) -> PyResult<u64> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
    }
    Ok((seconds.max(0.0) * 1e9) as u64)
}
