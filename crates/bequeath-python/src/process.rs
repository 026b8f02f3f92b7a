#![allow(unsafe_code)]
//! Starting and watching processes, as `popen_*`, `spawn` and `forkserver` use it.
//!
//! # Safety invariants
//! A descriptor that Python names by number is only lent to the call that is being made; one that is
//! handed to Python as a number is Python's from then on.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bequeath_os::{Deadline, Errno};
use bequeath_process as engine;
use bequeath_process::{report, Command, OnParentDeath};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::packed::Packed;
use crate::template::Template;
use crate::{after_fork, session};

/// A started process: waited for, asked after and signalled by descriptor, never by number.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Child {
    child: Mutex<Option<Arc<engine::Child>>>,
    /// Others hold handles of it.
    handed_on: AtomicBool,
}

impl Child {
    pub(crate) fn new(child: engine::Child) -> Self {
        Self {
            child: Mutex::new(Some(Arc::new(child))),
            handed_on: AtomicBool::new(false),
        }
    }

    fn open(&self) -> PyResult<Arc<engine::Child>> {
        let child = self.child.lock().ok().and_then(|child| child.clone());
        child.ok_or_else(|| PyValueError::new_err("the child's descriptor is closed"))
    }
}

#[pymethods]
impl Child {
    /// The child that `os.fork()` has just made, and what was made for it before.
    #[staticmethod]
    fn forked(pid: u32, watch: &Watch) -> PyResult<Self> {
        after_fork::note_child(pid);
        let watch = watch.0.lock().ok().and_then(|mut watch| watch.take());
        let watch = watch.ok_or_else(|| PyValueError::new_err("watches another child"))?;
        engine::Child::forked(pid, watch)
            .map(Self::new)
            .map_err(raise)
    }

    #[getter]
    fn pid(&self) -> PyResult<u32> {
        Ok(self.open()?.pid())
    }

    /// Readable when the process has ended.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.open()?.as_fd().as_raw_fd())
    }

    /// The exit code (a signal's number negated), or None when it has not ended in `timeout` seconds.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<i32>> {
        let child = self.open()?;
        let deadline = deadline(timeout)?;
        // Detached also when it only looks: a template's child may have to be asked after.
        let status = uninterrupted(py, || py.detach(|| child.wait(deadline)))?;
        if let Some(status) = status {
            let handed_on = self.handed_on.load(Ordering::Relaxed);
            session::reaped(child.pid(), status.code(), handed_on);
        }
        Ok(status.map(engine::ExitStatus::code))
    }

    /// Sends a signal; false when the process is gone.
    fn signal(&self, signal: i32) -> PyResult<bool> {
        self.open()?.send_signal(signal).map_err(raise)
    }

    /// A handle of it goes to others, who may ask how it ended.
    fn hand_on(&self) {
        self.handed_on.store(true, Ordering::Relaxed);
    }

    /// Gives the descriptor back.
    fn close(&self) {
        if let Ok(mut child) = self.child.lock() {
            *child = None;
        }
    }
}

/// Made right before `os.fork()`, on the same thread, so that the child can be watched.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Watch(Mutex<Option<engine::Watch>>);

#[pymethods]
impl Watch {
    #[new]
    fn new() -> PyResult<Self> {
        let watch = engine::Watch::before_fork().map_err(raise)?;
        Ok(Self(Mutex::new(Some(watch))))
    }
}

/// The parent's side of a start that is not a fork: everything that the child is handed.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Launch {
    name: String,
    on_parent_death: Option<OnParentDeath>,
    payload: Vec<u8>,
    given: Vec<OwnedFd>,
    hurried: bool,
}

#[pymethods]
impl Launch {
    /// `head` is read before `body`. The descriptors, numbers of open ones, are duplicated here; the
    /// child finds them in the same order. `hurried` children are several that start together.
    #[new]
    #[pyo3(signature = (name, head, body, given, on_parent_death, hurried=false))]
    fn new(
        name: String,
        head: PyRef<'_, Packed>,
        body: PyRef<'_, Packed>,
        given: Vec<i32>,
        on_parent_death: Option<&str>,
        hurried: bool,
    ) -> PyResult<Self> {
        let payload = Payload::of([&head, &body]);
        let copies = [&head, &body]
            .into_iter()
            .flat_map(|packed| packed.open_descriptors());
        let mut all = copies
            .map(|fd| Ok(fd.try_clone_to_owned()?))
            .collect::<PyResult<Vec<_>>>()?;
        for number in given {
            all.push(duplicate(number)?);
        }
        Ok(Self {
            name,
            on_parent_death: tie(on_parent_death)?,
            payload: payload.encode()?,
            given: all,
            hurried,
        })
    }

    /// Runs a program. `arguments` is called with the number of the descriptor that the program reads
    /// the launch from, and returns its arguments.
    fn execute(
        &self,
        py: Python<'_>,
        path: Vec<u8>,
        arguments: &Bound<'_, PyAny>,
        templates: Vec<PyRef<'_, Template>>,
    ) -> PyResult<Child> {
        let doors = doors(&templates)?;
        drop(templates);
        self.run(py, path, arguments, &doors, false).map(Child::new)
    }
}

/// The ways to templates, duplicated, with their keys.
pub(crate) fn doors(templates: &[PyRef<'_, Template>]) -> PyResult<Vec<(u64, OwnedFd)>> {
    let open = templates
        .iter()
        .filter_map(|template| template.keyed_door());
    open.map(|(key, door)| Ok((key, duplicate(door)?)))
        .collect()
}

impl Launch {
    /// What a template is started with: the setup, and the door last.
    pub(crate) fn for_template(setup: &Packed, door: OwnedFd) -> PyResult<Self> {
        let payload = Payload {
            parts: [setup.content(), &[]],
            descriptors: [setup.open_descriptors().count(), 0],
        };
        let copies = setup
            .open_descriptors()
            .map(|fd| Ok(fd.try_clone_to_owned()?));
        let mut given = copies.collect::<PyResult<Vec<_>>>()?;
        given.push(door);
        Ok(Self {
            name: "bequeath".into(),
            on_parent_death: None,
            payload: payload.encode()?,
            given,
            hurried: false,
        })
    }

    pub(crate) fn run(
        &self,
        py: Python<'_>,
        path: Vec<u8>,
        arguments: &Bound<'_, PyAny>,
        doors: &[(u64, OwnedFd)],
        silent: bool,
    ) -> PyResult<engine::Child> {
        let mut launch = self.lent();
        launch.doors = doors
            .iter()
            .map(|(key, door)| (*key, door.as_fd()))
            .collect();
        let sealed = launch.seal().map_err(raise)?;
        let arguments: Vec<Bound<'_, PyAny>> = arguments.call1((sealed.number(),))?.extract()?;
        let arguments: Vec<OsString> = arguments.iter().map(os_string).collect::<PyResult<_>>()?;
        let mut command = Command::new(OsString::from_vec(path))
            .and_then(|command| command.arguments(arguments))
            .map_err(raise)?;
        let null = silent.then(bequeath_os::handover::null_device).transpose();
        let null = null.map_err(|error| raise(error.into()))?;
        if let Some(null) = &null {
            command = command.stdio([null.as_fd(); 3]);
        }
        py.detach(|| sealed.execute(command)).map_err(raise)
    }

    pub(crate) fn lent(&self) -> engine::Launch<'_> {
        engine::Launch {
            name: &self.name,
            on_parent_death: self.on_parent_death,
            payload: &self.payload,
            session: None,
            doors: Vec::new(),
            given: self.given.iter().map(AsFd::as_fd).collect(),
            hurried: self.hurried,
        }
    }
}

/// Two packed objects in one payload; their descriptors come first, and in this order.
struct Payload<'a> {
    parts: [&'a [u8]; 2],
    descriptors: [usize; 2],
}

impl<'a> Payload<'a> {
    fn of(packed: [&'a Packed; 2]) -> Self {
        Self {
            parts: packed.map(Packed::content),
            descriptors: packed.map(|packed| packed.open_descriptors().count()),
        }
    }

    fn encode(&self) -> PyResult<Vec<u8>> {
        let [head, body] = self.parts;
        let (mut bytes, needed) = (Vec::new(), 24 + head.len() + body.len());
        bytes.try_reserve_exact(needed).map_err(|_| {
            PyMemoryError::new_err(format!("no memory for a start of {needed} bytes"))
        })?;
        for number in [head.len(), self.descriptors[0], self.descriptors[1]] {
            bytes.extend_from_slice(&(number as u64).to_le_bytes());
        }
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(body);
        Ok(bytes)
    }

    fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        let mut numbers = [0; 3];
        for number in &mut numbers {
            let (word, rest) = bytes.split_first_chunk()?;
            *number = usize::try_from(u64::from_le_bytes(*word)).ok()?;
            bytes = rest;
        }
        let (head, body) = bytes.split_at_checked(numbers[0])?;
        Some(Self {
            parts: [head, body],
            descriptors: [numbers[1], numbers[2]],
        })
    }
}

/// The child's side: what its parent handed over.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Arrived {
    head: Py<PyBytes>,
    body: Py<PyBytes>,
    parent: Option<i32>,
    head_descriptors: Vec<i32>,
    body_descriptors: Vec<i32>,
    given: Vec<i32>,
    doors: Vec<(u64, i32)>,
}

#[pymethods]
impl Arrived {
    /// Takes over what the descriptor of this number tells. A child that was tied to a parent that is
    /// gone ends here.
    #[staticmethod]
    fn from_file(py: Python<'_>, number: u32) -> PyResult<Self> {
        let file = bequeath_os::handover::adopt_inherited(number).map_err(|e| raise(e.into()))?;
        let arrived = engine::Arrived::from_file(&file).map_err(raise)?;
        Self::take_over(py, arrived)
    }

    /// What is unpacked first, with `head_descriptors`.
    #[getter]
    fn head(&self, py: Python<'_>) -> Py<PyBytes> {
        self.head.clone_ref(py)
    }

    #[getter]
    fn head_descriptors(&self) -> Vec<i32> {
        self.head_descriptors.clone()
    }

    /// What is unpacked then, with `body_descriptors`.
    #[getter]
    fn body(&self, py: Python<'_>) -> Py<PyBytes> {
        self.body.clone_ref(py)
    }

    #[getter]
    fn body_descriptors(&self) -> Vec<i32> {
        self.body_descriptors.clone()
    }

    /// The other descriptors, in the order in which they were given; the caller owns them.
    #[getter]
    fn given(&self) -> Vec<i32> {
        self.given.clone()
    }

    /// Ways to templates: keys and descriptors; the caller owns them.
    #[getter]
    fn doors(&self) -> Vec<(u64, i32)> {
        self.doors.clone()
    }

    /// A descriptor that becomes readable when the parent has ended.
    #[getter]
    const fn parent(&self) -> Option<i32> {
        self.parent
    }
}

impl Arrived {
    pub(crate) fn take_over(py: Python<'_>, mut arrived: engine::Arrived) -> PyResult<Self> {
        arrived.hold_tie().map_err(raise)?;
        let malformed = || PyValueError::new_err("not what a start sends");
        let payload = Payload::decode(&arrived.payload).ok_or_else(malformed)?;
        let [head, body] = payload.descriptors;
        if head
            .checked_add(body)
            .is_none_or(|sum| sum > arrived.given.len())
        {
            return Err(malformed());
        }
        let mut numbers = arrived.given.into_iter().map(IntoRawFd::into_raw_fd);
        let doors = arrived
            .doors
            .into_iter()
            .map(|(key, door)| (key, door.into_raw_fd()));
        Ok(Self {
            head: PyBytes::new(py, payload.parts[0]).unbind(),
            body: PyBytes::new(py, payload.parts[1]).unbind(),
            parent: arrived.parent.map(|pidfd| pidfd.into_fd().into_raw_fd()),
            head_descriptors: numbers.by_ref().take(head).collect(),
            body_descriptors: numbers.by_ref().take(body).collect(),
            given: numbers.collect(),
            doors: doors.collect(),
        })
    }
}

/// A tie of a child that is about to be forked to this process; the child calls `hold`.
#[pyclass(module = "bequeath._engine")]
pub struct Tie {
    tie: Option<engine::Tie>,
    on_parent_death: OnParentDeath,
}

#[pymethods]
impl Tie {
    #[new]
    fn new(on_parent_death: &str) -> PyResult<Self> {
        let on_parent_death = tie(Some(on_parent_death))?.unwrap_or(OnParentDeath::Kill);
        let tie = engine::Tie::to_this_process().map_err(raise)?;
        Ok(Self {
            tie: Some(tie),
            on_parent_death,
        })
    }

    /// In the child: the parent's death ends this process from now on; it ends here if that has come.
    fn hold(&mut self) -> PyResult<()> {
        match self.tie.take() {
            Some(tie) => tie.hold(self.on_parent_death).map_err(raise),
            None => Ok(()),
        }
    }

    /// In the parent, after the fork.
    fn close(&mut self) {
        self.tie = None;
    }
}

/// The starter's end of a child's word on whether it could load what it was started with.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Report(Mutex<Option<report::Report>>);

#[pymethods]
impl Report {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(Mutex::new(Some(
            report::Report::new().map_err(raise)?,
        ))))
    }

    /// The child's end, to be handed to it; closed with `handed_over`.
    fn fileno(&self) -> PyResult<i32> {
        let report = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = report.as_ref().and_then(report::Report::child_end);
        end.map(|fd| fd.as_raw_fd())
            .ok_or_else(|| PyValueError::new_err("handed over already"))
    }

    /// The child has its end.
    fn handed_over(&self) {
        if let Some(report) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            report.handed_over();
        }
    }

    /// The child's word; empty when it ended without one, None when it did not come in time. Once.
    fn hear<'py>(&self, py: Python<'py>, timeout: f64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let report = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(report) = report else {
            return Ok(None);
        };
        let deadline = deadline(Some(timeout))?;
        let heard = uninterrupted(py, || py.detach(|| report.hear(deadline)))?;
        Ok(match heard {
            report::Heard::Packet(packet) => Some(PyBytes::new(py, &packet)),
            report::Heard::Nothing => Some(PyBytes::new(py, b"")),
            report::Heard::TooLate => None,
        })
    }
}

/// In the child: its word. False when nobody listens. Takes the descriptor over.
#[pyfunction]
pub fn tell_starter(child_end: i32, word: &[u8]) -> PyResult<bool> {
    Ok(report::tell(take(child_end)?.as_fd(), word))
}

/// What `ps` calls this process.
#[pyfunction]
#[pyo3(signature = (name, role=None))]
pub fn set_process_name(name: &str, role: Option<&str>) {
    engine::set_process_name(name);
    bequeath_shm::set_name(name);
    if let Some(role) = role.and_then(bequeath_shm::Role::named) {
        bequeath_shm::set_role(role);
    }
}

/// Ends this process with the C library's exit functions, but without taking the interpreter apart.
#[pyfunction]
pub fn exit_process(code: i32) {
    engine::template::tell_footprint();
    std::process::exit(code);
}

/// A new descriptor of this process, by which a child sees it end.
#[pyfunction]
pub fn open_this_process() -> PyResult<i32> {
    let pidfd = engine::watch::this_process().map_err(raise)?;
    Ok(pidfd.into_fd().into_raw_fd())
}

/// Python signal handlers run between two attempts.
pub(crate) fn uninterrupted<T>(
    py: Python<'_>,
    mut attempt: impl FnMut() -> engine::Result<T>,
) -> PyResult<T> {
    loop {
        match attempt() {
            Err(error) if error.is_interrupted() => py.check_signals()?,
            other => return other.map_err(raise),
        }
    }
}

pub(crate) fn deadline(timeout: Option<f64>) -> PyResult<Deadline> {
    match timeout {
        None => Ok(Deadline::NEVER),
        Some(seconds) if seconds.is_nan() => {
            Err(PyValueError::new_err("Invalid value NaN (not a number)"))
        }
        Some(seconds) if seconds <= 0.0 => Ok(Deadline::PAST),
        Some(seconds) => {
            Ok(Duration::try_from_secs_f64(seconds).map_or(Deadline::NEVER, Deadline::after))
        }
    }
}

fn tie(on_parent_death: Option<&str>) -> PyResult<Option<OnParentDeath>> {
    match on_parent_death {
        None => Ok(None),
        Some("terminate") => Ok(Some(OnParentDeath::Terminate)),
        Some("kill") => Ok(Some(OnParentDeath::Kill)),
        Some(other) => Err(PyValueError::new_err(format!("no such end: {other}"))),
    }
}

pub(crate) fn duplicate(number: i32) -> PyResult<OwnedFd> {
    if number < 0 {
        return Err(PyValueError::new_err("a descriptor cannot be negative"));
    }
    // SAFETY: not negative, and lent to the call that finds out whether it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    borrowed.try_clone_to_owned().map_err(PyErr::from)
}

/// Takes over a descriptor that Python names, and Python gives up.
pub(crate) fn take(number: i32) -> PyResult<OwnedFd> {
    let number = u32::try_from(number)
        .map_err(|_| PyValueError::new_err("a descriptor cannot be negative"))?;
    bequeath_os::handover::adopt_inherited(number).map_err(|error| raise(error.into()))
}

/// As `os.fsencode`: bytes as they are, text in the file system's encoding.
fn os_string(value: &Bound<'_, PyAny>) -> PyResult<OsString> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(OsString::from_vec(bytes.as_bytes().to_vec()));
    }
    value.extract()
}

/// The kernel made no process; EAGAIN by itself says nothing to whom it concerns.
pub(crate) fn no_process(errno: i32) -> PyErr {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let why = if errno == Errno::AGAIN.raw_os_error() {
        ": no more processes may be started (RLIMIT_NPROC, or pids.max of the control group)"
    } else {
        ""
    };
    PyOSError::new_err((errno, format!("{words}{why}")))
}

pub(crate) fn raise(error: engine::Error) -> PyErr {
    match error {
        engine::Error::Os(error) if matches!(error.call, "clone" | "fork") => {
            no_process(error.raw())
        }
        engine::Error::Os(error) => PyOSError::new_err((error.raw(), error.errno.to_string())),
        engine::Error::Fork { errno } => no_process(errno),
        engine::Error::ZeroByte { .. } | engine::Error::TooManyDescriptors { .. } => {
            PyValueError::new_err(error.to_string())
        }
        other => PyRuntimeError::new_err(other.to_string()),
    }
}
