//! The worker's side: take a task, do it, answer, until told to end.
//!
//! # If a peer dies
//! A worker that is killed leaves in its slate which task it had begun. What it had only taken is not lost
//! either: the parent knows what it sent. The parent's death ends workers, as it does all daemonic children.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bequeath_channel::{Error, Message, Queue};
use bequeath_os::Deadline;
use bequeath_pool::{Interrupts, Signal};
use bequeath_shm::{Handle, Slate};
use bequeath_sync::Never;
use pyo3::exceptions::{PySystemExit, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyFunction, PyList, PyString, PyTuple, PyType};

use crate::blocking;
use crate::error::EngineError;
use crate::intern;
use crate::transfer::{self, Purpose};

use super::answer_label::{AnswerLabel, Verdict};
use super::shared::{now, Bell};
use super::task_label::{Shape, TaskLabel};
use super::unheard::malformed;
use super::wire::Parcel;

/// What a worker is handed at its start: the way to its tasks and from its results.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Seat {
    pub(super) worker: u32,
    pub(super) max_tasks: u64,
    pub(super) tasks: Queue,
    pub(super) definitions: Queue,
    pub(super) results: Queue,
    pub(super) slate: Handle<Slate>,
    pub(super) bell: Handle<Bell>,
    pub(super) bell_fd: OwnedFd,
    pub(super) stack: OwnedFd,
    pub(super) interrupts: Interrupts,
    /// Functions by their numbers, as far as they have arrived.
    pub(super) known: Mutex<HashMap<u64, Py<PyAny>>>,
}

#[pymethods]
impl Seat {
    /// Says that tasks may come.
    fn ready(&self, py: Python<'_>) -> PyResult<()> {
        self.slate.set_ready(now());
        self.tell(py, Verdict::Ready)
    }

    /// Says that the initializer raised; `packed` is the exception.
    fn not_ready(&self, packed: &Bound<'_, PyAny>) -> PyResult<()> {
        self.answer(packed, 0, Verdict::NotReady, 0)
    }

    /// Does tasks until told to end, or until there were enough.
    fn work(&self, py: Python<'_>) -> PyResult<()> {
        let mut message = Message::default();
        let mut done = 0;
        while done < self.max_tasks {
            let waited = now();
            let lacking = self.take(py, &mut message)?;
            let taken = now();
            add(&self.slate.idle, taken.saturating_sub(waited));
            let Some(label) = TaskLabel::take(&mut message) else {
                return Err(malformed());
            };
            if label.shape == Shape::Stop {
                return Ok(());
            }
            // What was meant for the task before shall not meet this one.
            py.check_signals()?;
            self.run(py, &mut message, label, lacking)?;
            done += 1;
        }
        Ok(())
    }

    /// What the handler of SIGINT asks: "task" when the parent wants the task in hand to stop, "stale" when
    /// it wanted one to stop that is over, "busy" or "idle" when the signal is not the parent's.
    fn interrupt(&self) -> &'static str {
        let in_hand = self.slate.in_hand().map(|one| one.task);
        match self
            .interrupts
            .signalled(self.slate.take_unwanted(), in_hand)
        {
            Signal::Task => "task",
            Signal::Stale => "stale",
            Signal::Busy => "busy",
            Signal::Idle => "idle",
        }
    }

    /// The descriptor of a file for the last stack.
    fn stack_fileno(&self) -> i32 {
        self.stack.as_raw_fd()
    }

    /// What the parent sent under a number.
    fn sent<'py>(&self, py: Python<'py>, number: u64) -> PyResult<Bound<'py, PyAny>> {
        self.definition(py, number)
    }

    /// The worker's number in its pool.
    #[getter]
    fn worker(&self) -> u32 {
        self.worker
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, seat) = (slf.py(), slf.get());
        let handles = [
            seat.tasks.handle(),
            seat.definitions.handle(),
            seat.results.handle(),
            seat.slate.erase(),
            seat.bell.erase(),
        ];
        let handles = handles.iter().map(|handle| transfer::export(slf, handle));
        let handles = handles.collect::<PyResult<Vec<usize>>>()?;
        let descriptors = [
            transfer::export_descriptor(seat.bell_fd.as_raw_fd())?,
            transfer::export_descriptor(seat.stack.as_raw_fd())?,
        ];
        let rebuild = py
            .import(intern!(py, "bequeath._engine"))?
            .getattr(intern!(py, "rebuild_seat"))?;
        let arguments = (seat.worker, seat.max_tasks, handles, descriptors);
        Ok((rebuild, arguments).into_pyobject(py)?.into_any())
    }
}

/// Rebuilds what `Seat.__reduce__` took apart.
///
/// # Errors
/// What the transfer refuses.
#[pyfunction]
pub fn rebuild_seat(
    worker: u32,
    max_tasks: u64,
    handles: [usize; 5],
    descriptors: [usize; 2],
) -> PyResult<Seat> {
    let [bell_fd, stack] = descriptors;
    let [tasks, definitions, results, slate, bell_word] = handles;
    let queue = |token| -> PyResult<Queue> {
        let handle = transfer::import(token)?;
        Ok(Queue::from_handle(&handle).map_err(EngineError::from)?)
    };
    let slate = transfer::import(slate)?;
    let bell_word = transfer::import(bell_word)?;
    Ok(Seat {
        worker,
        max_tasks,
        tasks: queue(tasks)?,
        definitions: queue(definitions)?,
        results: queue(results)?,
        slate: slate.downcast().map_err(EngineError::from)?,
        bell: bell_word.downcast().map_err(EngineError::from)?,
        bell_fd: crate::process::take(transfer::import_descriptor(bell_fd)?)?,
        stack: crate::process::take(transfer::import_descriptor(stack)?)?,
        interrupts: Interrupts::default(),
        known: Mutex::default(),
    })
}

impl Seat {
    /// The next message of the parent, and why it is not complete, if so.
    fn take(&self, py: Python<'_>, message: &mut Message) -> PyResult<Option<PyErr>> {
        let taken = self
            .tasks
            .recv_into(message, Deadline::PAST, &mut Never)
            .map_err(EngineError::from);
        let taken = match taken {
            Err(EngineError::Channel(Error::Empty)) => blocking::wait(py, "task", |signals| {
                self.tasks.recv_into(message, Deadline::NEVER, signals)
            }),
            taken => taken,
        };
        match taken {
            // It would be the next for ever, for whoever is started instead: it is its task's error.
            Err(EngineError::Channel(
                error @ (Error::NoRoomForDescriptors { .. } | Error::DescriptorsLost),
            )) => {
                let error = PyErr::from(EngineError::from(error));
                let received = self.tasks.recv_without_descriptors(message);
                received.map_err(EngineError::from)?;
                Ok(Some(error))
            }
            taken => Ok(taken.map(|()| None)?),
        }
    }

    fn run(
        &self,
        py: Python<'_>,
        message: &mut Message,
        label: TaskLabel,
        lacking: Option<PyErr>,
    ) -> PyResult<()> {
        let slate = &*self.slate;
        add(&slate.received, message.payload.len() as u64);
        let began = now();
        slate.at_task(label.task, began, || {
            let is_marked = slate.is_unwanted(label.task) && slate.take_unwanted().is_some();
            let outcome = if self.interrupts.precedes(label.task, is_marked) {
                Err(PyValueError::new_err("interrupted before it began"))
            } else if let Some(error) = lacking {
                Err(error)
            } else {
                let worker = std::process::id();
                let outcome = self.call(py, message, label);
                if std::process::id() != worker {
                    // The task forked, and this is the other one: it ends as a process of its own does.
                    return Err(outcome.err().unwrap_or_else(|| PySystemExit::new_err(())));
                }
                outcome
            };
            self.answer_outcome(py, outcome, label, began)
        })
    }

    fn answer_outcome(
        &self,
        py: Python<'_>,
        outcome: PyResult<Bound<'_, PyAny>>,
        label: TaskLabel,
        began: u64,
    ) -> PyResult<()> {
        let slate = &*self.slate;
        let called = now();
        add(&slate.done, 1);
        // The parent's interrupt may come in the last moment: then it is of no use, and not an answer.
        match outcome {
            Ok(value) => {
                self.interrupts.take();
                self.answer_value(&value, label.task, began)?;
            }
            Err(_) if self.interrupts.take() => {
                let none = py.None();
                self.answer(none.bind(py), label.task, Verdict::Interrupted, began)?;
            }
            Err(error) => self.answer_error(py, error, label.task, began)?,
        }
        add(&slate.pickling, now().saturating_sub(called));
        Ok(())
    }

    fn call<'py>(
        &self,
        py: Python<'py>,
        message: &mut Message,
        label: TaskLabel,
    ) -> PyResult<Bound<'py, PyAny>> {
        let loading = now();
        let function = match label.shape {
            Shape::Call => None,
            _ => Some(self.definition(py, label.definition)?),
        };
        if let Some(function) = &function {
            self.name(function);
        }
        let object = transfer::load(py, message)?.into_bound(py);
        let loaded = now();
        add(&self.slate.pickling, loaded.saturating_sub(loading));
        let value = match (label.shape, function) {
            (Shape::Item, Some(function)) => function.call1((object,)),
            (Shape::Items, Some(function)) => each(&object, |argument| function.call1((argument,))),
            (Shape::Arguments, Some(function)) => each(&object, |arguments| {
                match arguments.cast_exact::<PyTuple>() {
                    Ok(arguments) => function.call1(arguments.clone()),
                    Err(_) => function.call1(
                        arguments
                            .try_iter()?
                            .collect::<PyResult<Vec<_>>>()
                            .and_then(|all| PyTuple::new(py, all))?,
                    ),
                }
            }),
            (Shape::Call, _) => {
                let call = object.cast_exact::<PyTuple>()?;
                let function = call.get_item(0)?;
                self.name(&function);
                let (arguments, keywords) = (call.get_item(1)?, call.get_item(2)?);
                let keywords = keywords.cast_into::<PyDict>()?;
                let keywords = (!keywords.is_empty()).then_some(&keywords);
                drop(object);
                function.call(arguments.cast::<PyTuple>()?.clone(), keywords)
            }
            _ => Err(malformed()),
        };
        add(&self.slate.busy, now().saturating_sub(loaded));
        value
    }

    /// Tells onlookers what is called. Nothing of the user's runs for it.
    fn name(&self, function: &Bound<'_, PyAny>) {
        let py = function.py();
        let named = if function.is_exact_instance_of::<PyFunction>()
            || function.is_exact_instance_of::<PyCFunction>()
            || function.is_exact_instance_of::<PyType>()
        {
            function.getattr(intern!(py, "__qualname__")).ok()
        } else {
            None
        };
        if let Some(name) = named.as_ref().and_then(|name| name.cast::<PyString>().ok()) {
            if let Ok(name) = name.to_str() {
                return self.slate.name_function(name);
            }
        }
        if let Ok(name) = function.get_type().name() {
            self.slate.name_function(&name.to_string_lossy());
        }
    }

    /// What was sent under a number; it is there, since it was sent before whatever names it.
    fn definition<'py>(&self, py: Python<'py>, number: u64) -> PyResult<Bound<'py, PyAny>> {
        if let Some(known) = self.known().get(&number) {
            return Ok(known.bind(py).clone());
        }
        let mut message = Message::default();
        loop {
            let received = self
                .definitions
                .recv_into(&mut message, Deadline::PAST, &mut Never);
            received.map_err(EngineError::from)?;
            let label = TaskLabel::take(&mut message).ok_or_else(malformed)?;
            if label.shape == Shape::Stop {
                let forgotten = self.known().remove(&label.definition);
                drop(forgotten);
                continue;
            }
            let loaded = transfer::load(py, &mut message);
            let wanted = label.definition == number;
            match loaded {
                Ok(value) => {
                    let former = self.known().insert(label.definition, value.clone_ref(py));
                    drop(former);
                    if wanted {
                        return Ok(value.into_bound(py));
                    }
                }
                Err(error) if wanted => {
                    // Each task of this function says so.
                    let raising = py
                        .import(intern!(py, "bequeath._pool_worker"))?
                        .call_method1(intern!(py, "raising"), (error.value(py),))?;
                    self.known().insert(number, raising.clone().unbind());
                    return Err(error);
                }
                Err(_) => {}
            }
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Py<PyAny>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer_value(&self, value: &Bound<'_, PyAny>, task: u64, began: u64) -> PyResult<()> {
        match self.answer(value, task, Verdict::Returned, began) {
            Ok(()) => Ok(()),
            Err(refused) => self.answer_refused(value, refused, task, began),
        }
    }

    fn answer_error(&self, py: Python<'_>, error: PyErr, task: u64, began: u64) -> PyResult<()> {
        let value = error.value(py);
        if let Some(trace) = error.traceback(py) {
            value.setattr(intern!(py, "__traceback__"), trace)?;
        }
        let worker = py.import(intern!(py, "bequeath._pool_worker"))?;
        let packed = worker.call_method1(intern!(py, "pack"), (value,))?;
        match self.answer(&packed, task, Verdict::Raised, began) {
            Ok(()) => Ok(()),
            Err(refused) => self.answer_refused(value, refused, task, began),
        }
    }

    /// Says what could not be sent, and why; in short if there is no room for all of that.
    fn answer_refused(
        &self,
        value: &Bound<'_, PyAny>,
        refused: PyErr,
        task: u64,
        began: u64,
    ) -> PyResult<()> {
        let py = value.py();
        let worker = py.import(intern!(py, "bequeath._pool_worker"))?;
        let say = |short: bool| {
            let arguments = (refused.value(py), value, short);
            let better = worker.call_method1(intern!(py, "cannot_send"), arguments)?;
            self.answer(&better, task, Verdict::Raised, began)
        };
        say(false).or_else(|_| say(true))
    }

    fn answer(
        &self,
        object: &Bound<'_, PyAny>,
        task: u64,
        verdict: Verdict,
        began: u64,
    ) -> PyResult<()> {
        let pickled = transfer::dumps(object, Purpose::Message)?;
        let label = AnswerLabel {
            task,
            worker: self.worker,
            verdict,
            took: now().saturating_sub(began),
        };
        self.send(
            object.py(),
            Parcel::new(object.py(), pickled, &label.encode()),
        )
    }

    fn tell(&self, py: Python<'_>, verdict: Verdict) -> PyResult<()> {
        let label = AnswerLabel {
            task: 0,
            worker: self.worker,
            verdict,
            took: 0,
        };
        self.send(py, Parcel::bare(&label.encode()))
    }

    fn send(&self, py: Python<'_>, mut parcel: Parcel) -> PyResult<()> {
        add(&self.slate.sent, parcel.len() as u64);
        let mut prepared = self
            .results
            .prepare(parcel.outgoing())
            .map_err(EngineError::from)?;
        let sent = self
            .results
            .send_prepared(&mut prepared, Deadline::PAST, &mut Never);
        match sent {
            // Descriptors that the kernel has no room for until the parent takes some.
            Err(Error::Full) => blocking::wait(py, "pool's results", |signals| {
                self.results
                    .send_prepared(&mut prepared, Deadline::NEVER, signals)
            })?,
            sent => sent.map_err(EngineError::from)?,
        }
        self.bell.ring(self.bell_fd.as_fd());
        Ok(())
    }
}

/// The results of all elements.
fn each<'py>(
    chunk: &Bound<'py, PyAny>,
    mut call: impl FnMut(Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let results = PyList::empty(chunk.py());
    for element in chunk.cast_exact::<PyTuple>()?.iter() {
        results.append(call(element)?)?;
    }
    Ok(results.into_any())
}

/// Only the worker's main thread writes: no read-modify-write is needed.
fn add(word: &AtomicU64, amount: u64) {
    let sum = word.load(Ordering::Relaxed).wrapping_add(amount);
    word.store(sum, Ordering::Relaxed);
}
