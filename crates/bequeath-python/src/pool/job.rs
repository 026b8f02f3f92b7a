//! Calls that tasks belong to: one `apply`, or a whole `map` whose elements are pickled as workers take them.

use std::sync::{Mutex, PoisonError};

use bequeath_pool::{TaskId, TaskIds};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::intern;
use crate::transfer::{self, Purpose};

use super::member::Member;
use super::wire::{Parcel, Shape, TaskLabel};

/// A call, and who wants to know what came of it.
pub struct Job {
    pub tasks: TaskIds,
    /// Has `_set(index, (success, value))`, as multiprocessing's results do.
    pub sink: Py<PyAny>,
    /// It also has `_begin(index)`, which may say that nobody wants the result any more.
    pub asks: bool,
    pub timeout: Option<f64>,
    pub what: What,
}

pub enum What {
    /// One call with its arguments.
    One {
        index: u64,
        function: Py<PyAny>,
        arguments: Py<PyTuple>,
        keywords: Py<PyAny>,
        /// Pickled in the caller, until it is sent.
        parcel: Mutex<Option<Parcel>>,
    },
    /// One function for all elements of a sequence that nobody else changes.
    Many {
        function: Py<PyAny>,
        elements: Py<PyAny>,
        length: usize,
        /// Elements per task.
        chunk: usize,
        /// Elements are tuples of arguments.
        star: bool,
        /// Where results go, if not to the sink one by one.
        values: Option<Py<PyList>>,
    },
}

impl Job {
    /// The place of a task's result.
    pub fn index(&self, task: TaskId) -> u64 {
        match &self.what {
            What::One { index, .. } => *index,
            What::Many { .. } => task - self.tasks.start,
        }
    }

    /// Which elements a task is about.
    pub fn range(&self, task: TaskId) -> (usize, usize) {
        match &self.what {
            What::One { .. } => (0, 1),
            What::Many { length, chunk, .. } => {
                let first = (task - self.tasks.start) as usize * chunk;
                (first.min(*length), (first + chunk).min(*length))
            }
        }
    }

    /// The number under which workers keep the function.
    pub fn definition(&self) -> Option<u64> {
        match &self.what {
            What::One { .. } => None,
            What::Many { .. } => Some(self.tasks.start + 1),
        }
    }

    /// Pickles a task and sends it to a worker.
    ///
    /// # Errors
    /// Whatever pickling raises; the session's lack of memory.
    pub fn send(&self, py: Python<'_>, task: TaskId, to: &Member) -> PyResult<()> {
        let mut parcel = match &self.what {
            What::One {
                function,
                arguments,
                keywords,
                parcel,
                ..
            } => match lock(parcel).take() {
                Some(parcel) => parcel,
                None => pickle_call(
                    function.bind(py),
                    arguments.bind(py),
                    keywords.bind(py),
                    task,
                )?,
            },
            What::Many { .. } => self.pickle_elements(py, task, to)?,
        };
        Ok(to.send(&mut parcel)?)
    }

    fn pickle_elements(&self, py: Python<'_>, task: TaskId, to: &Member) -> PyResult<Parcel> {
        let What::Many {
            function,
            elements,
            chunk,
            star,
            ..
        } = &self.what
        else {
            unreachable!("one call has no elements");
        };
        let definition = self.tasks.start + 1;
        if !to.knows(definition) {
            let pickled = transfer::dumps(function.bind(py), Purpose::Message)?;
            let label = TaskLabel {
                task: 0,
                shape: Shape::Definition,
                definition,
            };
            to.define(definition, &mut Parcel::new(py, pickled, &label.encode()))
                .map_err(PyErr::from)?;
        }
        let (first, end) = self.range(task);
        let elements = elements.bind(py);
        let (object, shape) = if *chunk == 1 && !star {
            (elements.get_item(first)?, Shape::Item)
        } else {
            let elements = elements.cast::<pyo3::types::PySequence>()?;
            let chunk = elements.get_slice(first, end)?.to_tuple()?;
            let shape = if *star {
                Shape::Arguments
            } else {
                Shape::Items
            };
            (chunk.into_any(), shape)
        };
        let label = TaskLabel {
            task,
            shape,
            definition,
        };
        let pickled = transfer::dumps(&object, Purpose::Message)?;
        Ok(Parcel::new(py, pickled, &label.encode()))
    }

    /// Keeps what came back from a worker that had not begun it, for the next one.
    pub fn keep(&self, message: bequeath_channel::Message, label: TaskLabel) {
        if let What::One { parcel, .. } = &self.what {
            *lock(parcel) = Some(Parcel::again(message, &label.encode()));
        }
    }

    /// Gives the sink what came of a task; `last` if this was the last one.
    ///
    /// # Errors
    /// What the sink raises.
    pub fn complete(
        &self,
        py: Python<'_>,
        task: TaskId,
        last: bool,
        outcome: Result<Bound<'_, PyAny>, Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let sink = self.sink.bind(py);
        let What::Many {
            values: Some(values),
            chunk,
            star,
            ..
        } = &self.what
        else {
            let (success, value) = match outcome {
                Ok(value) => (true, value),
                Err(error) => (false, error),
            };
            let arguments = (self.index(task), (success, value));
            return sink
                .call_method1(intern!(py, "_set"), arguments)
                .map(|_| ());
        };
        let (first, end) = self.range(task);
        match outcome {
            Ok(value) if *chunk == 1 && !star => values.bind(py).set_item(first, value)?,
            Ok(value) => values.bind(py).set_slice(first, end, &value)?,
            Err(error) => {
                sink.call_method1(intern!(py, "_fail"), (error,))?;
            }
        }
        if last {
            sink.call_method0(intern!(py, "_all_set"))?;
        }
        Ok(())
    }
}

/// Pickles one call.
///
/// # Errors
/// Whatever pickling raises.
pub fn pickle_call(
    function: &Bound<'_, PyAny>,
    arguments: &Bound<'_, PyTuple>,
    keywords: &Bound<'_, PyAny>,
    task: TaskId,
) -> PyResult<Parcel> {
    let py = function.py();
    let call = (function, arguments, keywords).into_pyobject(py)?;
    let pickled = transfer::dumps(&call, Purpose::Message)?;
    let label = TaskLabel {
        task,
        shape: Shape::Call,
        definition: 0,
    };
    Ok(Parcel::new(py, pickled, &label.encode()))
}

fn lock(parcel: &Mutex<Option<Parcel>>) -> std::sync::MutexGuard<'_, Option<Parcel>> {
    parcel.lock().unwrap_or_else(PoisonError::into_inner)
}
