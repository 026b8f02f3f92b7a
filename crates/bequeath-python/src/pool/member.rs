//! What the parent knows of a worker.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bequeath_channel::{Error, Message, Queue};
use bequeath_os::Deadline;
use bequeath_pool::{Interrupts, WorkerId};
use bequeath_shm::{Handle, Reference, Session, Slate};
use bequeath_sync::{Interrupt, Interrupted, Never};
use pyo3::prelude::*;

use crate::error::{EngineError, Result};
use crate::intern;

use super::shared::{now, Bell};
use super::task_label::{Shape, TaskLabel};
use super::wire::Parcel;

/// Its process, once it has one.
pub struct Started {
    pub process: Py<PyAny>,
    /// Readable when it has ended; a stand-in for a process has none.
    pub sentinel: Option<OwnedFd>,
}

/// How a process is to be ended that is only being started.
const TERMINATE: u8 = 1;
const KILL: u8 = 2;

/// More of a stack nobody reads.
const LONGEST_STACK: usize = 1 << 14;

/// For so long a queue may be in somebody's hands. They need microseconds, unless they were stopped there.
pub const PATIENCE_WITH_THE_STOPPED: Duration = Duration::from_millis(30);

/// Does not wait for those who were stopped in the middle of an operation.
#[derive(Default)]
pub struct Briefly(Option<Deadline>);

impl Interrupt for Briefly {
    fn check(&mut self) -> std::result::Result<(), Interrupted> {
        let until = *self
            .0
            .get_or_insert_with(|| Deadline::after(PATIENCE_WITH_THE_STOPPED));
        if until.is_past() {
            Err(Interrupted)
        } else {
            Ok(())
        }
    }
}

/// Whether it failed because nothing can be sent to the worker now: it was stopped with the queue in its hands, or
/// the kernel has no room for more descriptors until it takes some.
pub fn is_unreachable<T>(sent: &Result<T>) -> bool {
    matches!(
        sent,
        Err(EngineError::Channel(Error::Interrupted | Error::Full))
    )
}

/// A worker as the parent has it.
pub struct Member {
    pub id: WorkerId,
    pub tasks: Queue,
    pub definitions: Queue,
    pub slate: Handle<Slate>,
    /// Where it writes its Python stack when a fault ends it.
    stack: OwnedFd,
    pub started: OnceLock<Started>,
    /// When its start began.
    pub since: u64,
    /// Which functions it was sent.
    known: Mutex<HashSet<u64>>,
    wanted_end: AtomicU8,
    /// Its end was told to the scheduler.
    pub gone: AtomicBool,
}

impl Member {
    pub fn new(session: &Session, id: WorkerId, pool: Reference) -> Result<Self> {
        Ok(Self {
            id,
            tasks: Queue::create(session, None)?,
            definitions: Queue::create(session, None)?,
            slate: session.create_object(|slate: &Slate| slate.set_pool(pool))?,
            stack: bequeath_os::memfd::create(c"bequeath-stack", 0)?,
            started: OnceLock::new(),
            since: now(),
            known: Mutex::default(),
            wanted_end: AtomicU8::new(0),
            gone: AtomicBool::new(false),
        })
    }

    /// Sends a task; see [`is_unreachable`].
    pub fn send(&self, parcel: &mut Parcel) -> Result<()> {
        send(&self.tasks, parcel, &mut Briefly::default())
    }

    pub fn knows(&self, definition: u64) -> bool {
        self.known().contains(&definition)
    }

    /// Sends a definition, unless another thread has. It is there before anybody knows that it is.
    pub fn define(&self, definition: u64, parcel: &mut Parcel) -> Result<()> {
        let mut known = self.known();
        if !known.contains(&definition) {
            send(&self.definitions, parcel, &mut Briefly::default())?;
            known.insert(definition);
        }
        Ok(())
    }

    /// The worker may forget a definition; it hears of it before the next one.
    pub fn undefine(&self, definition: u64) {
        if self.known().remove(&definition) {
            let label = TaskLabel {
                task: 0,
                shape: Shape::Stop,
                definition,
            };
            // Not worth an error: it would only save memory.
            let mut parcel = Parcel::bare(&label.encode());
            let _ = send(&self.definitions, &mut parcel, &mut Briefly::default());
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells it to end when it comes to this.
    pub fn retire(&self) -> Result<()> {
        let label = TaskLabel {
            task: 0,
            shape: Shape::Stop,
            definition: 0,
        };
        send(&self.tasks, &mut Parcel::bare(&label.encode()), &mut Never)
    }

    /// Takes back the oldest task that it has not taken.
    ///
    /// # Errors
    /// As [`send`](Self::send): some may be left.
    pub fn take_back(&self) -> Result<Option<(TaskLabel, Message)>> {
        let mut message = Message::default();
        let mut briefly = Briefly::default();
        match self
            .tasks
            .recv_into(&mut message, Deadline::PAST, &mut briefly)
        {
            Ok(()) => Ok(TaskLabel::take(&mut message).map(|label| (label, message))),
            Err(Error::Empty) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What it wrote when a fault ended it.
    pub fn last_stack(&self) -> Option<String> {
        let file = File::from(self.stack.try_clone().ok()?);
        let mut text = vec![0; LONGEST_STACK];
        let length = file.read_at(&mut text, 0).ok()?;
        text.truncate(length);
        (length > 0).then(|| String::from_utf8_lossy(&text).into_owned())
    }

    pub fn sentinel(&self) -> Option<BorrowedFd<'_>> {
        self.started.get()?.sentinel.as_ref().map(AsFd::as_fd)
    }

    /// It has a process now; what was wanted of that meanwhile is done.
    pub fn set_started(&self, py: Python<'_>, process: &Bound<'_, PyAny>) -> PyResult<()> {
        let sentinel = match process.getattr_opt(intern!(py, "sentinel"))? {
            Some(number) => Some(crate::process::duplicate(number.extract()?)?),
            None => None,
        };
        let process = process.clone().unbind();
        let _ = self.started.set(Started { process, sentinel });
        match self.wanted_end.load(Ordering::SeqCst) {
            0 => Ok(()),
            KILL => self.call(py, "kill"),
            _ => self.call(py, "terminate"),
        }
    }

    pub fn terminate(&self, py: Python<'_>) -> PyResult<()> {
        self.wanted_end.fetch_max(TERMINATE, Ordering::SeqCst);
        self.call(py, "terminate")
    }

    pub fn kill(&self, py: Python<'_>) -> PyResult<()> {
        self.wanted_end.fetch_max(KILL, Ordering::SeqCst);
        self.call(py, "kill")
    }

    /// Interrupts it if it is at this task; it finds out itself.
    pub fn interrupt(&self, py: Python<'_>, task: u64) -> PyResult<()> {
        self.slate.do_not_want(task);
        self.call(py, "interrupt")
    }

    fn call(&self, py: Python<'_>, what: &str) -> PyResult<()> {
        match self.started.get() {
            Some(started) => started.process.bind(py).call_method0(what).map(|_| ()),
            None => Ok(()),
        }
    }
}

fn send(queue: &Queue, parcel: &mut Parcel, interrupt: &mut dyn Interrupt) -> Result<()> {
    let mut prepared = queue.prepare(parcel.outgoing())?;
    queue
        .send_prepared(&mut prepared, Deadline::PAST, interrupt)
        .map_err(EngineError::from)
}

/// What a new worker is handed.
pub fn seat(
    member: &Member,
    results: &Queue,
    bell: &Handle<Bell>,
    bell_fd: BorrowedFd<'_>,
    max_tasks: Option<u64>,
) -> Result<super::Seat> {
    let again = |queue: &Queue| Queue::from_handle(&queue.handle());
    Ok(super::Seat {
        worker: member.id,
        max_tasks: max_tasks.unwrap_or(u64::MAX),
        tasks: again(&member.tasks)?,
        definitions: again(&member.definitions)?,
        results: again(results)?,
        slate: member.slate.clone(),
        bell: bell.clone(),
        bell_fd: bequeath_os::memfd::duplicate(bell_fd)?,
        stack: bequeath_os::memfd::duplicate(member.stack.as_fd())?,
        interrupts: Interrupts::default(),
        known: Mutex::default(),
    })
}
