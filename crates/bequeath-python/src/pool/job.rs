//! Calls that tasks belong to: one `apply`, or a whole `map` whose elements are pickled as workers take them.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bequeath_pool::{TaskId, TaskIds};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::error::EngineError;
use crate::intern;
use crate::transfer::{self, Definition, Purpose};

use super::driver::PoolDriver;
use super::member::{is_unreachable, Member};
use super::share::noting;
use super::stream::ResultStream;
use super::task_label::{Shape, TaskLabel};
use super::wire::Parcel;

/// A call, and who wants to know what came of it.
pub struct Job {
    pub tasks: TaskIds,
    /// Has `_set(index, (success, value))`, as multiprocessing's results do.
    pub sink: Py<PyAny>,
    /// The same, if it is one of ours that needs no call.
    pub stream: Option<Py<ResultStream>>,
    /// It also has `_begin(index)`, which may say that nobody wants the result any more.
    pub asks: bool,
    pub timeout: Option<f64>,
    /// Definitions that its messages name, until all have been answered.
    pub held: Mutex<Vec<Definition>>,
    /// How many tasks the sink has not been told of. Who settles what may be told in another order.
    pub untold: AtomicU64,
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
        /// What the pickle names.
        needs: Vec<u64>,
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

    /// Pickles a task and sends it to a worker; false when that cannot be reached now. (The next attempt sends the
    /// same bytes. A call with handles or buffers, which went with the attempt, is pickled anew, as after a death.)
    ///
    /// # Errors
    /// Whatever pickling raises; the session's lack of memory.
    pub fn send(
        &self,
        py: Python<'_>,
        task: TaskId,
        to: &Member,
        driver: &PoolDriver,
    ) -> PyResult<bool> {
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
                    &self.held,
                    PARTS,
                )?,
            },
            What::Many { .. } => match self.pickle_elements(py, task, to)? {
                Some(parcel) => parcel,
                None => return Ok(false),
            },
        };
        let stays = parcel.is_bytes();
        let sent = self.send_parcel(py, &mut parcel, to, driver)?;
        if let (What::One { parcel: kept, .. }, false, true) = (&self.what, sent, stays) {
            *lock(kept) = Some(parcel);
        }
        Ok(sent)
    }

    fn send_parcel(
        &self,
        py: Python<'_>,
        parcel: &mut Parcel,
        to: &Member,
        driver: &PoolDriver,
    ) -> PyResult<bool> {
        for &number in &parcel.needs {
            if !to.knows(number) {
                let object = driver.shared(py, number)?;
                if !self.define(to, number, object.bind(py), "shared")? {
                    return Ok(false);
                }
            }
        }
        reached(to.send(parcel))
    }

    /// None when its receiver cannot be sent the function now.
    fn pickle_elements(
        &self,
        py: Python<'_>,
        task: TaskId,
        to: &Member,
    ) -> PyResult<Option<Parcel>> {
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
        if !to.knows(definition) && !self.define(to, definition, function.bind(py), "function")? {
            return Ok(None);
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
        let held = &self.held;
        let pickled = if shape == Shape::Item {
            pickle(&object, label, held, &format_args!("iterable[{first}]"))
        } else {
            pickle(&object, label, held, &format_args!("iterable[{first}:]"))
        };
        pickled.map(Some)
    }

    fn define(
        &self,
        to: &Member,
        definition: u64,
        object: &Bound<'_, PyAny>,
        called: &str,
    ) -> PyResult<bool> {
        let label = TaskLabel {
            task: 0,
            shape: Shape::Definition,
            definition,
        };
        let mut parcel = pickle(object, label, &self.held, &called)?;
        reached(to.define(definition, &mut parcel))
    }

    /// Keeps what came back from a worker that had not begun it, for the next one.
    pub fn keep(&self, message: bequeath_channel::Message, label: TaskLabel) {
        if let What::One { parcel, needs, .. } = &self.what {
            let again = Parcel::again(message, &label.encode(), needs.clone());
            *lock(parcel) = Some(again);
        }
    }

    /// Gives the sink what came of a task; harmless if it is done twice.
    ///
    /// # Errors
    /// What the sink raises.
    pub fn tell(
        &self,
        py: Python<'_>,
        task: TaskId,
        outcome: &Result<Bound<'_, PyAny>, Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let sink = self.sink.bind(py);
        if let Some(stream) = &self.stream {
            let outcome = match outcome {
                Ok(value) => Ok(value.clone().unbind()),
                Err(error) => Err(error.clone().unbind()),
            };
            return ResultStream::put(stream.bind(py), self.index(task), outcome);
        }
        let (Ok(value) | Err(value)) = outcome;
        let (first, end) = self.range(task);
        match &self.what {
            What::Many {
                values: Some(values),
                chunk,
                star,
                ..
            } => match outcome {
                Ok(value) if *chunk == 1 && !star => values.bind(py).set_item(first, value),
                Ok(value) => values.bind(py).set_slice(first, end, value),
                Err(error) => sink
                    .call_method1(intern!(py, "_fail"), (error,))
                    .map(|_| ()),
            },
            _ => {
                let arguments = (self.index(task), (outcome.is_ok(), value));
                sink.call_method1(intern!(py, "_set"), arguments)
                    .map(|_| ())
            }
        }
    }

    /// Tells a sink whose results went into a list that they are all there.
    ///
    /// # Errors
    /// What the sink raises.
    pub fn tell_all_set(&self, py: Python<'_>) -> PyResult<()> {
        if let What::Many {
            values: Some(_), ..
        } = &self.what
        {
            let sink = self.sink.bind(py);
            sink.call_method0(intern!(py, "_all_set"))?;
        }
        Ok(())
    }

    /// The sink was told of one task more; whether of all.
    pub fn is_told(&self) -> bool {
        self.untold.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

/// Whether it was sent.
fn reached(sent: Result<(), EngineError>) -> PyResult<bool> {
    if is_unreachable(&sent) {
        return Ok(false);
    }
    sent?;
    Ok(true)
}

/// What the parts of a call are called.
pub const PARTS: &str = "(function, args, kwargs)";

/// Pickles one call, whose parts are called so.
///
/// # Errors
/// Whatever pickling raises.
pub fn pickle_call(
    function: &Bound<'_, PyAny>,
    arguments: &Bound<'_, PyTuple>,
    keywords: &Bound<'_, PyAny>,
    task: TaskId,
    held: &Mutex<Vec<Definition>>,
    called: &str,
) -> PyResult<Parcel> {
    let call = (function, arguments, keywords).into_pyobject(function.py())?;
    let label = TaskLabel {
        task,
        shape: Shape::Call,
        definition: 0,
    };
    pickle(&call, label, held, &called)
}

fn pickle(
    object: &Bound<'_, PyAny>,
    label: TaskLabel,
    held: &Mutex<Vec<Definition>>,
    root: &dyn Display,
) -> PyResult<Parcel> {
    let pickled = noting(|| transfer::dumps_once_as(object, Purpose::Message, root));
    let (mut pickled, needs) = pickled?;
    let definitions = pickled.take_definitions();
    if !definitions.is_empty() {
        lock(held).extend(definitions);
    }
    let mut parcel = Parcel::new(object.py(), pickled, &label.encode());
    parcel.needs = needs;
    Ok(parcel)
}

fn lock<T>(parcel: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    parcel.lock().unwrap_or_else(PoisonError::into_inner)
}
