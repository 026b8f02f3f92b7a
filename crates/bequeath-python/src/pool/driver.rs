//! `PoolDriver`: a pool's workers and the calls that they work on, as the facade sees them.
//!
//! Any thread submits, cancels and ends; what follows is done in that thread where it can be, a task goes right into
//! its worker's queue. Results are heard by the one thread that calls `run`.
//!
//! # After fork
//! The workers are the parent's: in a forked child everything but looking is refused.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bequeath_channel::Queue;
use bequeath_os::eventfd::EventFd;
use bequeath_os::Deadline;
use bequeath_pool::{Escalation, Event, OnDeath, Policy, Scheduler};
use bequeath_shm::Handle;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::blocking;
use crate::error::EngineError;
use crate::intern;
use crate::transfer;

use super::act::Later;
use super::baton::Baton;
use super::books::Books;
use super::ending::Ending;
use super::job::{pickle_call, What, PARTS};
use super::lease::Lease;
use super::member::Member;
use super::share::{Shared, Shares};
use super::shared::Bell;
use super::signalled;
use super::submission::nanoseconds;
use super::waking::Waking;

/// The worker that died last.
#[derive(Clone)]
pub struct Dead {
    pub member: Arc<Member>,
    pub exitcode: Option<i32>,
    /// How long it had been at its task.
    pub seconds: Option<f64>,
}

/// Drives a pool's workers. `hooks` is asked for processes and exceptions.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct PoolDriver {
    pub(super) hooks: Py<PyAny>,
    books: Mutex<Books>,
    pub(super) results: Queue,
    pub(super) bell: Handle<Bell>,
    pub(super) waking: Waking,
    pub(super) ending: Ending,
    pub(super) max_tasks: Option<u64>,
    next_task: AtomicU64,
    pid: u32,
    last_dead: Mutex<Option<Dead>>,
    /// Why the initializer or a start failed.
    cause: Mutex<Option<Py<PyAny>>>,
    /// While the first workers are started.
    pub(super) opening: AtomicBool,
    broken: Mutex<Option<Py<PyAny>>>,
    /// What was known of the worker whose death, or failure, broke the pool.
    breaking: Mutex<Option<Py<PyDict>>>,
    pub(super) bytes_received: AtomicU64,
    pub(super) shares: Shares,
    pub(super) baton: Baton,
    pub(super) lease: Lease,
    /// What workers answer cannot be read any more.
    pub(super) deaf: AtomicBool,
}

#[pymethods]
impl PoolDriver {
    #[new]
    #[pyo3(signature = (hooks, workers, *, max_tasks=None, on_demand=false, on_death="fail", retries=2, terminate_after=2.0, kill_after=2.0))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        hooks: Py<PyAny>,
        workers: usize,
        max_tasks: Option<u64>,
        on_demand: bool,
        on_death: &str,
        retries: u32,
        terminate_after: f64,
        kill_after: f64,
    ) -> PyResult<Self> {
        let on_death = match on_death {
            "fail" => OnDeath::Fail,
            "retry" => OnDeath::Retry(retries),
            "break" => OnDeath::Break,
            other => {
                return Err(PyValueError::new_err(format!(
                    "on_death must be 'fail', 'retry' or 'break', not {other:?}"
                )))
            }
        };
        transfer::make_ready(py)?;
        let session = transfer::current_session(py)?;
        let results = Queue::create(&session, None).map_err(EngineError::from)?;
        let bell = session
            .create_object(|_: &Bell| ())
            .map_err(EngineError::from)?;
        let bell_fd = EventFd::create().map_err(EngineError::from)?;
        let policy = Policy {
            workers,
            max_tasks,
            on_demand,
            on_death,
            escalation: Escalation {
                terminate_after: nanoseconds(terminate_after)?,
                kill_after: nanoseconds(kill_after)?,
            },
        };
        Ok(Self {
            hooks,
            books: Mutex::new(Books::new(
                Scheduler::new(policy),
                session,
                bell.reference(),
            )),
            results,
            bell,
            waking: Waking::new(bell_fd.into_fd()),
            ending: Ending::default(),
            max_tasks,
            next_task: AtomicU64::new(0),
            pid: std::process::id(),
            last_dead: Mutex::new(None),
            cause: Mutex::new(None),
            opening: AtomicBool::new(false),
            broken: Mutex::new(None),
            breaking: Mutex::new(None),
            bytes_received: AtomicU64::new(0),
            shares: Shares::default(),
            baton: Baton::default(),
            lease: Lease::default(),
            deaf: AtomicBool::new(false),
        })
    }

    /// Starts the first workers. Raises what keeps one of them from starting.
    fn open(&self, py: Python<'_>) -> PyResult<()> {
        self.opening.store(true, Ordering::Relaxed);
        self.happen(py, Event::Open);
        self.opening.store(false, Ordering::Relaxed);
        // Taken in any case: its frames hold the pool, which would never be let go of.
        let cause = self.cause().take();
        signalled::raise()?;
        match cause {
            Some(cause) => Err(PyErr::from_value(cause.into_bound(py))),
            None => Ok(()),
        }
    }

    /// The one thread's life: returns when all workers have ended.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        signalled::this_thread_drives();
        let attended = self.attend(py);
        self.give_baton_back();
        self.finish();
        self.settle_left(py);
        attended
    }

    /// One call for a worker, pickled here and now. Its number. `called` is what its parts are called where one
    /// is refused, if not `(function, args, kwargs)`.
    #[pyo3(signature = (sink, index, function, arguments, keywords, timeout=None, called=None))]
    #[allow(clippy::too_many_arguments)]
    fn submit(
        &self,
        py: Python<'_>,
        sink: &Bound<'_, PyAny>,
        index: u64,
        function: &Bound<'_, PyAny>,
        arguments: &Bound<'_, PyTuple>,
        keywords: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        called: Option<&str>,
    ) -> PyResult<u64> {
        self.check_home()?;
        let task = self.next_task.fetch_add(1, Ordering::Relaxed);
        let held = Mutex::default();
        let called = called.unwrap_or(PARTS);
        let parcel = pickle_call(function, arguments, keywords, task, &held, called)?;
        let what = What::One {
            needs: parcel.needs.clone(),
            index,
            function: function.clone().unbind(),
            arguments: arguments.clone().unbind(),
            keywords: keywords.clone().unbind(),
            parcel: Mutex::new(Some(parcel)),
        };
        self.enter(py, sink, task..task + 1, timeout, held, what)
    }

    /// One function for all elements of a list, tuple or range, so many per task, each pickled when a worker is
    /// about to take it. Results go into the list `values`, if there is one; then the sink has `_fail(error)` and
    /// `_all_set()`. The number of the first task, and how many there are.
    #[pyo3(signature = (sink, function, elements, chunk, star=false, values=None, timeout=None))]
    #[allow(clippy::too_many_arguments)]
    fn submit_many(
        &self,
        py: Python<'_>,
        sink: &Bound<'_, PyAny>,
        function: &Bound<'_, PyAny>,
        elements: &Bound<'_, PyAny>,
        chunk: usize,
        star: bool,
        values: Option<&Bound<'_, PyList>>,
        timeout: Option<f64>,
    ) -> PyResult<(u64, u64)> {
        self.check_home()?;
        let length = elements.len()?;
        if chunk == 0 || length == 0 {
            return Err(PyValueError::new_err("nothing to submit"));
        }
        let count = length.div_ceil(chunk) as u64;
        let first = self.next_task.fetch_add(count, Ordering::Relaxed);
        let what = What::Many {
            function: function.clone().unbind(),
            elements: elements.clone().unbind(),
            length,
            chunk,
            star,
            values: values.map(|values| values.clone().unbind()),
        };
        let tasks = first..first + count;
        self.enter(py, sink, tasks, timeout, Mutex::default(), what)?;
        Ok((first, count))
    }

    /// Gives a sink an error, in the driver's thread: for a call that cannot be submitted.
    fn refuse(
        &self,
        py: Python<'_>,
        sink: Py<PyAny>,
        index: u64,
        error: Py<PyAny>,
    ) -> PyResult<()> {
        self.check_home()?;
        self.leave(Later::Refuse { sink, index, error });
        if self.is_finished() {
            self.settle_left(py);
        }
        Ok(())
    }

    /// Whether the task will not run, or with `running`, will be stopped: its sink gets `hooks.cancelled()`.
    #[pyo3(signature = (task, running=false))]
    fn cancel(&self, py: Python<'_>, task: u64, running: bool) -> PyResult<bool> {
        self.check_home()?;
        let cancelled = self.cancel_one(py, task, running);
        signalled::raise()?;
        Ok(cancelled)
    }

    /// Cancels whatever is open of what a sink was to be told of, the last first, and stops workers that are
    /// at it: for callers that were interrupted, maybe before they knew their tasks.
    pub(super) fn cancel_all(&self, py: Python<'_>, sink: &Bound<'_, PyAny>) -> PyResult<()> {
        self.check_home()?;
        let jobs = self.books().jobs_of(sink);
        for task in jobs.iter().flat_map(|job| job.tasks.clone()).rev() {
            self.cancel_one(py, task, true);
        }
        signalled::raise()
    }

    /// Something that stands for an object in arguments: workers are sent the object once, as it is now.
    fn share(slf: &Bound<'_, Self>, object: Py<PyAny>) -> PyResult<Shared> {
        slf.get().check_home()?;
        Shared::new(slf, object)
    }

    /// Takes no more tasks; workers end when all are done.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.end(py, Event::Closed)
    }

    /// Ends all now: open tasks get `hooks.terminated()`.
    fn terminate(&self, py: Python<'_>) -> PyResult<()> {
        self.end(py, Event::Terminated)
    }

    /// The same as the interpreter ends: whoever waits for a result goes on to wait, and is ended by the
    /// interpreter; what is raised in a daemon thread now would be half a traceback.
    fn leave_off(&self, py: Python<'_>) -> PyResult<()> {
        self.end_untold(py)
    }

    /// The same with SIGKILL.
    fn kill(&self, py: Python<'_>) -> PyResult<()> {
        self.end(py, Event::Killed)
    }

    /// For a result that somebody is about to wait for: hears the workers itself until it is there. False when
    /// others hear them already, or want to; or when the timeout passed.
    #[pyo3(signature = (result, timeout=None))]
    fn attend_for(
        &self,
        py: Python<'_>,
        result: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        self.check_home()?;
        let deadline = timeout.map_or(Ok(Deadline::NEVER), blocking::deadline_after)?;
        if self.is_finished() || !self.try_baton() {
            self.hand_baton_over();
            return Ok(false);
        }
        self.bell.awake();
        let heard = self.hear_for(py, result, deadline, None);
        if self.is_baton_here() && !self.give_baton_back() {
            self.wake();
        }
        heard
    }

    /// For who is about to wait for what the driver's thread does: in a signal handler, perhaps, that came while
    /// this very thread heard the workers.
    fn stand_aside(&self) -> PyResult<()> {
        self.check_home()?;
        self.hand_baton_over();
        Ok(())
    }

    /// Waits until all workers have ended and all is told; false when the timeout passed first. Not for the
    /// driver's thread.
    #[pyo3(signature = (timeout=None))]
    fn join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.check_home()?;
        let deadline = timeout.map_or(Ok(Deadline::NEVER), blocking::deadline_after)?;
        self.wait_for_end(py, deadline)
    }

    /// How many tasks keep the workers busy: what is handed out ahead, and as much that waits.
    fn capacity(&self) -> PyResult<u64> {
        self.check_home()?;
        Ok(self.books().scheduler.capacity())
    }

    /// Whether this process made the pool, and was not forked from the one that did.
    pub(super) fn is_home(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Whether tasks may be submitted.
    fn is_running(&self) -> bool {
        self.books().scheduler.is_running()
    }

    /// Why no task can succeed any more, if so.
    fn broken_by(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.broken().as_ref().map(|error| error.clone_ref(py))
    }

    /// The workers' processes, oldest first.
    fn processes(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let members = self.books().members();
        let started = members.iter().filter_map(|member| member.started.get());
        started
            .map(|started| started.process.clone_ref(py))
            .collect()
    }

    /// What each worker has done, and what waits.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.stats_now(py)
    }
}

impl PoolDriver {
    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cause(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn broken(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn breaking(&self) -> MutexGuard<'_, Option<Py<PyDict>>> {
        self.breaking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn last_dead(&self) -> MutexGuard<'_, Option<Dead>> {
        self.last_dead
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// An error that is nobody's result is shown.
    pub(super) fn show(&self, py: Python<'_>, result: PyResult<()>) {
        let Err(error) = result else {
            return;
        };
        let shown = self
            .hooks
            .bind(py)
            .call_method1(intern!(py, "show"), (error.value(py),));
        if shown.is_err() {
            error.write_unraisable(py, None);
        }
    }

    pub(super) fn check_home(&self) -> PyResult<()> {
        if self.is_home() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(
            "the pool belongs to the process that made it, and this is a copy that came by a fork; as an argument of \
             the Process, or in a message, a pool arrives as a handle that works",
        ))
    }

    fn cancel_one(&self, py: Python<'_>, task: u64, running: bool) -> bool {
        // First it is taken back if nobody has begun it; only then is anybody interrupted.
        for running in [false, running] {
            if !self.books().scheduler.is_open(task) {
                return false;
            }
            self.happen(py, Event::Cancelled { task, running });
            if running {
                self.wake(); // it looks whether an interrupt is followed in time
            }
            if !self.books().scheduler.is_open(task) {
                return true;
            }
        }
        false
    }
}
