//! Templates, as `forkserver` uses them: the starter's side and the template's own.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use bequeath_channel::board;
use bequeath_process as engine;
use bequeath_process::state::Environment;
use bequeath_process::template::{self, Answer, Cleanliness};
use bequeath_shm::Session;
use pyo3::exceptions::{PyConnectionError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::packed::Packed;
use crate::process::{doors, raise, take, Arrived, Child, Launch};

/// A process that children are forked from, as those who start children through it hold it.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Template {
    key: u64,
    /// Empty after `leave`.
    template: RwLock<Option<template::Template>>,
    /// If this process started it.
    process: Option<engine::Child>,
}

#[pymethods]
impl Template {
    /// Starts one: a program that reads its launch as an exec'ed child does, and finds the door first
    /// among its given descriptors.
    #[staticmethod]
    fn start(
        py: Python<'_>,
        key: u64,
        setup: PyRef<'_, Packed>,
        path: Vec<u8>,
        arguments: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let (door, inside) = template::Template::make_door().map_err(raise)?;
        let launch = Launch::for_template(&setup, inside)?;
        let process = launch.run(py, path, arguments, &[], true)?;
        drop(launch);
        let template = template::Template::through(door).map_err(raise)?;
        Ok(Self {
            key,
            template: RwLock::new(Some(template)),
            process: Some(process),
        })
    }

    /// One that somebody else of the tree started, through its door; takes the descriptor over.
    #[staticmethod]
    fn through(key: u64, door: i32) -> PyResult<Self> {
        let template = template::Template::through(take(door)?).map_err(raise)?;
        Ok(Self {
            key,
            template: RwLock::new(Some(template)),
            process: None,
        })
    }

    /// What it has in common with those who use it.
    #[getter]
    const fn key(&self) -> u64 {
        self.key
    }

    /// Its process id, if this process started it.
    #[getter]
    fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(engine::Child::pid)
    }

    /// The number of the way to it.
    fn door(&self) -> PyResult<i32> {
        self.with(|template| Ok(template.door().as_raw_fd()))
    }

    /// What it has told since this was last asked.
    fn notes(&self) -> Vec<String> {
        self.with(|template| Ok(template.take_notes()))
            .unwrap_or_default()
    }

    /// Whether it is still there.
    fn is_alive(&self) -> bool {
        let alive = self
            .with(|template| Ok(template.is_alive()))
            .unwrap_or(false);
        if let (false, Some(process)) = (alive, &self.process) {
            // Reaped, so that no zombie is left.
            let _ = process.wait(bequeath_os::Deadline::after(Duration::from_secs(1)));
        }
        alive
    }

    /// A child, or the reason why this template cannot serve. ConnectionError: it is gone.
    fn ask<'py>(
        &self,
        py: Python<'py>,
        launch: &Launch,
        templates: Vec<PyRef<'py, Self>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let doors = doors(&templates)?;
        drop(templates);
        let mut raised = None;
        let mut interrupted = || {
            let checked = Python::attach(|py| py.check_signals());
            raised = checked.err();
            raised.is_some()
        };
        let answer = py.detach(|| {
            let template = self.template.read().unwrap_or_else(PoisonError::into_inner);
            let template = template.as_ref().ok_or(engine::Error::TemplateGone)?;
            let mut launch = launch.lent();
            launch.doors = doors
                .iter()
                .map(|(key, door)| (*key, door.as_fd()))
                .collect();
            template.start(&launch, &mut interrupted)
        });
        match (answer, raised) {
            (_, Some(error)) => Err(error),
            (Ok(Answer::Child(child)), None) => Ok(Bound::new(py, Child::new(child))?.into_any()),
            (Ok(Answer::Refused(reason)), None) => Ok(reason.into_pyobject(py)?.into_any()),
            (Err(engine::Error::TemplateGone), None) => {
                Err(PyConnectionError::new_err("the template is gone"))
            }
            (Err(error), None) => Err(raise(error)),
        }
    }

    /// Lets go of it, and if it ends with that, waits until it has ended.
    fn leave(&self, py: Python<'_>, patience: f64) -> PyResult<()> {
        let patience = Duration::try_from_secs_f64(patience)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        py.detach(|| {
            let template = self
                .template
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let Some(template) = template else { return };
            // A template that does not answer in time is left to notice by itself.
            let ends = template.leave(patience).unwrap_or(false);
            if let (true, Some(process)) = (ends, &self.process) {
                let _ = process.wait(bequeath_os::Deadline::after(patience));
            }
        });
        Ok(())
    }
}

impl Template {
    pub(crate) fn keyed_door(&self) -> Option<(u64, i32)> {
        self.door().ok().map(|door| (self.key, door))
    }

    fn with<T>(&self, act: impl FnOnce(&template::Template) -> PyResult<T>) -> PyResult<T> {
        let template = self.template.read().unwrap_or_else(PoisonError::into_inner);
        match template.as_ref() {
            Some(template) => act(template),
            None => Err(PyConnectionError::new_err("the template is gone")),
        }
    }
}

/// A number for what a template must have in common with those who use it: `parts`, and the variables
/// that are read only once (with `loaded`, also those that libraries read).
#[pyfunction]
pub fn template_key(parts: &[u8], loaded: bool) -> u64 {
    let environment = Environment::current();
    let mut all = vec![parts];
    all.extend(environment.read_once(loaded));
    template::key(&all)
}

/// Whether a template's child can be made what an exec'ed one would be: procfs tells what that is.
#[pyfunction]
pub fn can_compare_states() -> bool {
    engine::state::can_capture()
}

/// For a template that execs itself again: everything is laid ready, and stays open, for the program
/// that is told the number.
#[pyfunction]
pub fn lay_ready(setup: PyRef<'_, Packed>, door: i32) -> PyResult<i32> {
    let launch = Launch::for_template(&setup, take(door)?)?;
    let number = launch
        .lent()
        .seal()
        .and_then(engine::launch::Sealed::leave_open);
    // Open for the rest of this program: so are the copies that `launch` owns.
    std::mem::forget(launch);
    number.map_err(raise)
}

/// What this process has running or open beside its memory.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Leftovers(Cleanliness);

#[pymethods]
impl Leftovers {
    #[new]
    fn new() -> Self {
        Self(Cleanliness::observe())
    }

    /// Nothing but these descriptors, as when a program has just begun.
    #[staticmethod]
    fn of_a_start_with(descriptors: Vec<i32>) -> Self {
        Self(Cleanliness::of_a_start_with(&descriptors))
    }

    /// What came since; None when nothing did. `names` has better names for threads than the kernel.
    fn since(&self, names: HashMap<u32, String>) -> Option<String> {
        self.0.difference(&Cleanliness::observe(), &names)
    }
}

/// A template's child is about to end: what memory it used is made ready for those that come after it.
#[pyfunction]
pub fn tell_footprint() {
    template::tell_footprint();
}

/// Lets libraries end those of their threads that would not survive a fork.
#[pyfunction]
pub fn run_fork_handlers() -> PyResult<()> {
    bequeath_os::leftovers::run_fork_handlers().map_err(|error| raise(error.into()))
}

/// Gathers this process's memory into huge pages, where it nearly fills them. Says how many bytes.
#[pyfunction]
pub fn gather_memory(py: Python<'_>) -> usize {
    py.detach(|| {
        bequeath_os::huge_pages::give_back_freed();
        bequeath_os::huge_pages::gather()
    })
}

/// Gives back what loading modules has freed: each fork would copy what stands for it.
#[pyfunction]
pub fn give_back_freed_memory(py: Python<'_>) {
    py.detach(bequeath_os::huge_pages::give_back_freed);
}

/// The template's own books.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct TemplateServer(Mutex<Option<template::Server>>);

/// Something to fork for: a child that somebody waits for, or one that waits for the next request.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Work(Mutex<Option<template::Work>>);

#[pymethods]
impl TemplateServer {
    /// Serves those who come through the door; takes the descriptor over.
    #[new]
    fn new(door: i32, loaded: bool) -> PyResult<Self> {
        let server = template::Server::new(take(door)?, loaded).map_err(raise)?;
        Ok(Self(Mutex::new(Some(server))))
    }

    /// What to fork for next; None when nobody is left who could ask. With `has_more`, a rest comes in
    /// the next pause.
    fn next_work(&self, py: Python<'_>, has_more: bool) -> PyResult<Option<Work>> {
        loop {
            let work = self.with(|server| server.next_work(has_more))?;
            match work {
                Err(error) if error.is_interrupted() => py.check_signals()?,
                Err(error) => return Err(raise(error)),
                Ok(work) => return Ok(work.map(|work| Work(Mutex::new(Some(work))))),
            }
        }
    }

    /// Books the child that was forked for this.
    fn forked(&self, work: &Work, pid: u32) -> PyResult<()> {
        let work = work.take()?;
        self.with(|server| match work {
            template::Work::Child(request) => server.started(request, pid),
            template::Work::Spare(seat) => server.seated(seat, pid),
            template::Work::Rest => {}
        })
    }

    /// There was no fork.
    fn failed(&self, work: &Work, errno: i32) -> PyResult<()> {
        let work = work.take()?;
        self.with(|server| match work {
            template::Work::Child(request) => server.failed(request, errno),
            template::Work::Spare(_) => server.dismiss_spare(),
            template::Work::Rest => {}
        })
    }

    /// In a trial: lets go of the template's descriptors.
    fn become_trial(&self) -> PyResult<()> {
        template::leave_template(self.leave()?, &own_descriptors()).map_err(raise)
    }

    /// Before the fork of a trial.
    fn before_fork(&self) -> PyResult<()> {
        self.with(|server| server.before_fork())?.map_err(raise)
    }

    /// Watches the trial that was forked; its end brings a rest.
    fn watch_trial(&self, pid: u32) -> PyResult<()> {
        self.with(|server| server.watch_trial(pid))?.map_err(raise)
    }

    /// Whether the trial still runs.
    fn is_trying(&self) -> PyResult<bool> {
        self.with(|server| server.is_trying())
    }

    /// More was loaded: a child that was forked ahead has not got it.
    fn renew_spare(&self) -> PyResult<()> {
        self.with(template::Server::renew_spare)
    }

    /// What was loaded read these variables (or the whole environment) and asked for the working
    /// directory: starters must agree in it.
    fn depend_on(&self, variables: Vec<Vec<u8>>, environment: bool, folder: bool) -> PyResult<()> {
        let here = folder.then(bequeath_os::attributes::working_directory);
        let here = here.transpose().map_err(|error| raise(error.into()))?;
        let directory = here.map(|fd| bequeath_os::memfd::identity(fd.as_fd()));
        let what = template::Dependence {
            variables: variables.into_iter().collect(),
            environment,
            directory: directory.transpose().map_err(|error| raise(error.into()))?,
        };
        self.with(|server| server.depend_on(what))
    }

    /// Tells this to everybody who starts children here.
    fn note(&self, text: &str) -> PyResult<()> {
        self.with(|server| server.note(text))
    }

    /// This template must not be forked from.
    fn refuse_all(&self, reason: &str) -> PyResult<()> {
        self.with(|server| server.refuse_all(reason))
    }

    /// In the child: becomes what its starter is, as after an exec; a spare one waits until there is a
    /// starter. Returns what is left for Python to do, or None when the template has ended.
    fn become_child(&self, py: Python<'_>, work: &Work) -> PyResult<Option<Becoming>> {
        let server = self.leave()?;
        let own = own_descriptors();
        let done = match work.take()? {
            template::Work::Child(request) => request.become_child(server, &own).map(Some),
            template::Work::Spare(seat) => seat.wait(server.into_knowledge(), &own),
            template::Work::Rest => Ok(None),
        };
        let Some(mut become_) = done.map_err(raise)? else {
            return Ok(None);
        };
        let (ignore, heed) = (become_.ignore, become_.heed);
        let environment = become_.environment.take();
        let (arrived, last_step) = become_.split();
        Ok(Some(Becoming {
            arrived: Py::new(py, Arrived::take_over(py, arrived)?)?,
            environment,
            ignore: signals_in(ignore),
            heed: signals_in(heed),
            last_step: Mutex::new(Some(last_step)),
        }))
    }
}

/// The descriptors of the template's membership, which are its children's: same session, same mapping.
fn own_descriptors() -> Vec<i32> {
    let session = Session::current();
    let arena = session
        .as_ref()
        .and_then(|session| session.descriptor().ok());
    let mut own: Vec<i32> = arena.iter().map(AsRawFd::as_raw_fd).collect();
    own.extend(board::numbers().into_iter().flatten());
    own
}

#[pymethods]
impl Work {
    /// Whether there is nothing to fork for, and time for what can wait.
    #[getter]
    fn is_rest(&self) -> bool {
        let work = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*work, Some(template::Work::Rest))
    }

    /// Whether nobody waits for this child yet.
    #[getter]
    fn is_ahead(&self) -> bool {
        let work = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*work, Some(template::Work::Spare(_)))
    }
}

impl Work {
    fn take(&self) -> PyResult<template::Work> {
        let work = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        work.ok_or_else(|| PyRuntimeError::new_err("this was done already"))
    }
}

impl TemplateServer {
    fn leave(&self) -> PyResult<template::Server> {
        let server = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        server.ok_or_else(|| PyRuntimeError::new_err("the server has gone"))
    }

    fn with<T>(&self, act: impl FnOnce(&mut template::Server) -> T) -> PyResult<T> {
        let mut server = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        server
            .as_mut()
            .map(act)
            .ok_or_else(|| PyRuntimeError::new_err("the server has gone"))
    }
}

/// A template's child on its way to being its starter's.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Becoming {
    #[pyo3(get)]
    arrived: Py<Arrived>,
    /// Signals to ignore.
    #[pyo3(get)]
    ignore: Vec<i32>,
    /// Signals to ignore no longer.
    #[pyo3(get)]
    heed: Vec<i32>,
    environment: Option<Environment>,
    last_step: Mutex<Option<template::LastStep>>,
}

#[pymethods]
impl Becoming {
    /// The environment to have, as bytes; None when it is the template's.
    fn environment<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(environment) = &self.environment else {
            return Ok(None);
        };
        let dict = PyDict::new(py);
        for entry in environment.entries() {
            let Some(equals) = entry.iter().skip(1).position(|byte| *byte == b'=') else {
                continue;
            };
            let (name, value) = entry.split_at(equals + 1);
            // The first of two entries counts, as for getenv.
            let name = PyBytes::new(py, name);
            if !dict.contains(&name)? {
                dict.set_item(name, PyBytes::new(py, &value[1..]))?;
            }
        }
        Ok(Some(dict))
    }

    /// The last step: waits until the starter has heard of this process, from when on signals arrive as it
    /// wanted it. False when there is no starter any more: this process must end at once.
    fn go_ahead(&self) -> PyResult<bool> {
        let step = self
            .last_step
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        step.map_or(Ok(true), |step| step.take().map_err(raise))
    }
}

fn signals_in(mask: u64) -> Vec<i32> {
    (1..=64)
        .filter(|signal| mask >> (signal - 1) & 1 != 0)
        .collect()
}
