//! What the queue classes have in common: an engine queue, what this process closed of it, and the journeys of a message.
//!
//! First try attached to the interpreter; only who has to wait detaches, and comes back for signal handlers. Pickling is over before
//! the queue is touched, unpickling starts after the message left it: a `__reduce__` or `__setstate__` that uses the same queue, from this
//! or another thread or a signal handler, meets no lock of ours.

use std::cell::RefCell;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::OnceLock;
use std::time::Instant;

use bequeath_channel::{Error, Message, Payload, Queue};
use bequeath_os::Deadline;
use bequeath_sync::Never;
use pyo3::prelude::*;

use crate::blocking;
use crate::error::{EngineError, Result};
use crate::transfer::{self, scarcity, Purpose};

/// One queue as one Python object (and its reader and writer) sees it.
pub(crate) struct SharedQueue {
    pub(crate) queue: Queue,
    pub(crate) closed: AtomicBool,
    pub(crate) reader_closed: AtomicBool,
    pub(crate) writer_closed: AtomicBool,
    /// Made when first asked for.
    readiness: OnceLock<OwnedFd>,
    /// Who receives gets many messages: definitions travel once, apart from them.
    pub(crate) definitions_once: AtomicBool,
    /// Process that created the queue.
    pub(crate) creator: AtomicU32,
}

thread_local! {
    /// The last message of this thread, for the room of its payload.
    static SPARE: RefCell<Message> = RefCell::new(Message::default());
}

impl SharedQueue {
    pub(crate) fn new(queue: Queue, creator: u32) -> Self {
        Self {
            queue,
            closed: AtomicBool::new(false),
            reader_closed: AtomicBool::new(false),
            writer_closed: AtomicBool::new(false),
            readiness: OnceLock::new(),
            definitions_once: AtomicBool::new(false),
            creator: AtomicU32::new(creator),
        }
    }

    /// Sends an object; `wait` says how long to wait for room, if at all.
    pub(crate) fn put(
        &self,
        object: &Bound<'_, PyAny>,
        deadline: impl FnOnce() -> Deadline,
    ) -> PyResult<()> {
        let py = object.py();
        let mut pickled = self.dumps(object)?;
        Ok(self.send(py, pickled.outgoing(py), deadline)?)
    }

    /// Pickles an object for this queue; an error for lack of memory names the queue.
    pub(crate) fn dumps(&self, object: &Bound<'_, PyAny>) -> PyResult<transfer::Pickled> {
        scarcity::forget();
        let dumps = if self.definitions_once.load(Ordering::Relaxed) {
            transfer::dumps_once
        } else {
            transfer::dumps
        };
        dumps(object, Purpose::Message).map_err(|error| {
            match scarcity::behind(object.py(), &error) {
                Some((bytes, why)) => {
                    EngineError::from(self.queue.refused(bytes as u64, why)).into()
                }
                None => error,
            }
        })
    }

    pub(crate) fn send(
        &self,
        py: Python<'_>,
        message: bequeath_channel::Outgoing<'_>,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<()> {
        let mut prepared = self.queue.prepare(message)?;
        match self
            .queue
            .send_prepared(&mut prepared, Deadline::PAST, &mut Never)
        {
            Err(Error::Full) => {}
            sent => return Ok(sent?),
        }
        let deadline = deadline();
        if deadline == Deadline::PAST {
            return Err(Error::Full.into());
        }
        let began = Instant::now();
        let sent = blocking::wait(py, "queue", |signals| {
            self.queue.send_prepared(&mut prepared, deadline, signals)
        });
        sent.map_err(|error| self.explained(py, error, began))
    }

    /// Receives an object.
    pub(crate) fn get(
        &self,
        py: Python<'_>,
        deadline: impl FnOnce() -> Deadline,
    ) -> PyResult<Py<PyAny>> {
        let mut message = SPARE.try_with(|spare| spare.take()).unwrap_or_default();
        self.receive(py, &mut message, deadline)?;
        let object = transfer::load(py, &mut message);
        keep(message);
        object
    }

    /// Receives the bytes of a message as multiprocessing's readers know them: a pickle.
    pub(crate) fn get_bytes<'py>(
        &self,
        py: Python<'py>,
        deadline: impl FnOnce() -> Deadline,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut message = Message::default();
        self.receive(py, &mut message, deadline)?;
        transfer::portable_bytes(py, message)
    }

    fn receive(
        &self,
        py: Python<'_>,
        message: &mut Message,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<()> {
        match self.queue.recv_into(message, Deadline::PAST, &mut Never) {
            Err(Error::Empty) => {}
            received => return Ok(received?),
        }
        let deadline = deadline();
        if deadline == Deadline::PAST {
            return Err(Error::Empty.into());
        }
        let began = Instant::now();
        let received = blocking::wait(py, "queue", |signals| {
            self.queue.recv_into(message, deadline, signals)
        });
        received.map_err(|error| self.explained(py, error, began))
    }

    /// Who has waited in vain is told for what. (Who has not waited polls, and reads no texts.)
    #[cold]
    fn explained(&self, py: Python<'_>, error: EngineError, began: Instant) -> EngineError {
        let (class, how) = match &error {
            EngineError::Channel(Error::Full) => ("Full", "full"),
            EngineError::Channel(Error::Empty) => ("Empty", "empty"),
            _ => return error,
        };
        let Ok(account) = self.queue.account() else {
            return error;
        };
        let seconds = began.elapsed().as_secs_f64();
        let text = format!("still {how} after {seconds:.1} s: {account}");
        let raised = py
            .import("queue")
            .and_then(|module| module.getattr(class)?.call1((text,)));
        raised.map_or(error, |value| EngineError::Raised(PyErr::from_value(value)))
    }

    /// Whether a message comes before the deadline.
    pub(crate) fn poll(&self, py: Python<'_>, deadline: Deadline) -> Result<bool> {
        let mut result = self
            .queue
            .wait_message(Deadline::PAST, &mut Never)
            .map_err(EngineError::from);
        if deadline != Deadline::PAST && matches!(result, Err(EngineError::Channel(Error::Empty))) {
            result = blocking::wait(py, "queue", |signals| {
                self.queue.wait_message(deadline, signals)
            });
        }
        match result {
            Ok(()) => Ok(true),
            Err(EngineError::Channel(Error::Empty)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A descriptor that is readable while the queue is not empty.
    pub(crate) fn fileno(&self) -> Result<i32> {
        if let Some(fd) = self.readiness.get() {
            return Ok(fd.as_raw_fd());
        }
        let fd = self.queue.readiness()?;
        Ok(self.readiness.get_or_init(|| fd).as_raw_fd())
    }

    pub(crate) fn join(&self, py: Python<'_>) -> Result<()> {
        if self.queue.unfinished()? == 0 {
            return Ok(());
        }
        blocking::wait(py, "queue's tasks", |signals| {
            self.queue.join(Deadline::NEVER, signals)
        })
    }
}

/// Keeps the room of a small payload for this thread's next message.
fn keep(mut message: Message) {
    if matches!(message.payload, Payload::Inline(_)) {
        message.buffers.clear();
        message.references.clear();
        message.descriptors.clear();
        let _ = SPARE.try_with(|spare| spare.replace(message));
    }
}
