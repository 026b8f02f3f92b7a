//! `PoolDriver`: a pool's workers and the calls that they work on, as the facade sees them.
//!
//! Any thread submits, cancels and ends; what follows is done in that thread where it can be, a task goes right into
//! its worker's queue. Results are heard by the one thread that calls `run`.
//!
//! # After fork
//! The workers are the parent's: in a forked child everything but looking is refused.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{fence, AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use bequeath_channel::Queue;
use bequeath_os::eventfd::{self, EventFd};
use bequeath_os::Deadline;
use bequeath_pool::{Escalation, Event, OnDeath, Policy, Scheduler, TaskIds};
use bequeath_shm::Handle;
use bequeath_sync::Never;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::blocking;
use crate::error::EngineError;
use crate::intern;
use crate::transfer;

use super::act::Later;
use super::books::{Books, Step};
use super::job::{pickle_call, Job, What, PARTS};
use super::lease::Lease;
use super::member::Member;
use super::share::Shared;
use super::shared::{now, Bell};
use super::signalled;
use super::stream::ResultStream;
use super::wire::{AnswerLabel, Parcel, Verdict};

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
    left: Mutex<Vec<Later>>,
    pub(super) results: Queue,
    pub(super) bell: Handle<Bell>,
    /// Until all is over.
    bell_fd: Mutex<Option<Arc<OwnedFd>>>,
    woken: AtomicBool,
    ended: AtomicBool,
    finished: Mutex<bool>,
    told_finished: Condvar,
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
    /// What tasks may name, by number.
    shares: Mutex<HashMap<u64, Py<PyAny>>>,
    /// Whoever has it hears the workers: the driver's thread, or one that waits for its result.
    baton: Mutex<Option<ThreadId>>,
    baton_free: Condvar,
    /// The driver's thread wants it.
    baton_wanted: AtomicBool,
    /// The driver's thread sleeps, or is about to.
    in_poll: AtomicBool,
    pub(super) lease: Lease,
    /// What workers answer cannot be read any more.
    pub(super) deaf: AtomicBool,
    /// The thread in which the interpreter ends, once it does.
    left_off_by: Mutex<Option<ThreadId>>,
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
            left: Mutex::default(),
            results,
            bell,
            bell_fd: Mutex::new(Some(Arc::new(bell_fd.into_fd()))),
            woken: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            finished: Mutex::new(false),
            told_finished: Condvar::new(),
            max_tasks,
            next_task: AtomicU64::new(0),
            pid: std::process::id(),
            last_dead: Mutex::new(None),
            cause: Mutex::new(None),
            opening: AtomicBool::new(false),
            broken: Mutex::new(None),
            breaking: Mutex::new(None),
            bytes_received: AtomicU64::new(0),
            shares: Mutex::default(),
            baton: Mutex::default(),
            baton_free: Condvar::new(),
            baton_wanted: AtomicBool::new(false),
            in_poll: AtomicBool::new(false),
            lease: Lease::default(),
            deaf: AtomicBool::new(false),
            left_off_by: Mutex::default(),
        })
    }

    /// Starts the first workers. Raises what keeps one of them from starting.
    fn open(&self, py: Python<'_>) -> PyResult<()> {
        self.opening.store(true, Ordering::Relaxed);
        self.happen(py, Event::Open);
        self.opening.store(false, Ordering::Relaxed);
        signalled::raise()?;
        match self.cause().take() {
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
        let (py, driver) = (slf.py(), slf.get());
        driver.check_home()?;
        let form = py
            .import(intern!(py, "bequeath._pool_share"))?
            .call_method1(intern!(py, "form"), (&object,))?;
        let shared = Shared::new(slf.clone().unbind(), object);
        driver.shares().insert(shared.number(), form.unbind());
        Ok(shared)
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
        self.check_home()?;
        *self.left_off_by() = Some(std::thread::current().id());
        let mut steps = Vec::new();
        self.books().note(Event::Terminated, &mut steps);
        self.carry_out(py, without_settling(steps));
        self.wake();
        signalled::raise()
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
        self.hand_baton_over();
        let deadline = timeout.map_or(Ok(Deadline::NEVER), blocking::deadline_after)?;
        loop {
            let slice = deadline.earlier(Deadline::after(SLICE));
            let finished = blocking::wait(py, "pool", |_| {
                let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
                let left = slice.remaining().unwrap_or(SLICE);
                let waited = self
                    .told_finished
                    .wait_timeout_while(finished, left, |finished| !*finished);
                Ok::<_, EngineError>(*waited.unwrap_or_else(PoisonError::into_inner).0)
            })?;
            if finished || deadline.is_past() {
                return Ok(finished);
            }
            py.check_signals()?;
        }
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
        let (members, waiting) = {
            let books = self.books();
            (books.members(), books.scheduler.waiting())
        };
        let workers = PyList::empty(py);
        for member in members {
            workers.append(self.stats_of(py, &member)?)?;
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

/// A waiting thread looks so often whether a signal handler is to run.
const SLICE: std::time::Duration = std::time::Duration::from_millis(100);

impl PoolDriver {
    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn left(&self) -> MutexGuard<'_, Vec<Later>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cause(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn broken(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shares(&self) -> MutexGuard<'_, HashMap<u64, Py<PyAny>>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a task names by this number.
    pub(super) fn shared(&self, py: Python<'_>, number: u64) -> PyResult<Py<PyAny>> {
        let shares = self.shares();
        let found = shares.get(&number).map(|object| object.clone_ref(py));
        found.ok_or_else(|| PyValueError::new_err("this object is shared by another pool"))
    }

    pub(super) fn unshare(&self, py: Python<'_>, number: u64) {
        let object = self.shares().remove(&number);
        drop(object.map(|object| object.into_bound(py)));
        if self.is_home() {
            let members = self.books().members();
            for member in members {
                member.undefine(number);
            }
        }
    }

    pub(super) fn breaking(&self) -> MutexGuard<'_, Option<Py<PyDict>>> {
        self.breaking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn last_dead(&self) -> MutexGuard<'_, Option<Dead>> {
        self.last_dead
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bell_fd(&self) -> Option<Arc<OwnedFd>> {
        let fd = self.bell_fd.lock().unwrap_or_else(PoisonError::into_inner);
        fd.clone()
    }

    pub(super) fn is_finished(&self) -> bool {
        *self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver's thread is to look at what there is now.
    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.in_poll.swap(false, Ordering::SeqCst) {
            if let Some(fd) = self.bell_fd() {
                let _ = eventfd::raise(fd.as_fd()); // one of ours, that is open
            }
        }
    }

    /// Whether there is something to do instead; who comes later rings.
    pub(super) fn about_to_poll(&self) -> bool {
        self.in_poll.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        !self.left().is_empty() || self.woken.swap(false, Ordering::SeqCst)
    }

    pub(super) fn polled(&self) {
        self.in_poll.store(false, Ordering::SeqCst);
    }

    pub(super) fn try_baton(&self) -> bool {
        let mut taken = self.baton.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.is_some() {
            return false;
        }
        *taken = Some(std::thread::current().id());
        true
    }

    /// Whether this thread has it, still: a signal handler, or what a pickle calls, may have waited for the pool's
    /// end in this very thread, and handed it over for that.
    pub(super) fn is_baton_here(&self) -> bool {
        let taken = self.baton.lock().unwrap_or_else(PoisonError::into_inner);
        *taken == Some(std::thread::current().id())
    }

    /// Before this thread waits for what the driver's thread does.
    pub(super) fn hand_baton_over(&self) {
        if self.is_baton_here() {
            self.give_baton_back();
            self.wake();
        }
    }

    /// For the driver's thread: at once, or, if it must, as soon as whoever has it gives it back.
    pub(super) fn take_baton(&self, py: Python<'_>, must: bool) -> bool {
        if self.try_baton() {
            return true;
        }
        if !must {
            return false;
        }
        self.baton_wanted.store(true, Ordering::SeqCst);
        self.nudge();
        py.detach(|| {
            let taken = self.baton.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = self.baton_free.wait_while(taken, |taken| taken.is_some());
            *taken.unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current().id());
        });
        self.baton_wanted.store(false, Ordering::SeqCst);
        true
    }

    pub(super) fn is_baton_wanted(&self) -> bool {
        self.baton_wanted.load(Ordering::SeqCst)
    }

    /// From now on workers ring. False when something came before that.
    pub(super) fn give_baton_back(&self) -> bool {
        self.bell.about_to_sleep();
        // Without its cell: whoever was stopped with that in hand rings when it goes on.
        let nothing = self.is_deaf() || self.results.len_at_a_glance().unwrap_or(0) == 0;
        self.drop_baton();
        nothing
    }

    /// The same, and workers go on not to ring.
    pub(super) fn drop_baton(&self) {
        *self.baton.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.baton_free.notify_one();
    }

    /// Whoever hears the workers shall look around.
    pub(super) fn nudge(&self) {
        let label = AnswerLabel {
            task: 0,
            worker: 0,
            verdict: Verdict::Nudge,
            took: 0,
        };
        let mut parcel = Parcel::bare(&label.encode());
        if let Ok(mut prepared) = self.results.prepare(parcel.outgoing()) {
            // Without memory for a few bytes nothing else will work either.
            let _ = self
                .results
                .send_prepared(&mut prepared, Deadline::PAST, &mut Never);
        }
    }

    /// Leaves something to the driver's thread.
    pub(super) fn leave(&self, later: Later) {
        self.left().push(later);
        self.ring();
    }

    /// The driver's thread shall look again at what it waits for.
    pub(super) fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        self.ring();
    }

    /// No worker is left: the driver's thread ends when all is told.
    pub(super) fn note_end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn finish(&self) {
        let fd = self
            .bell_fd
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let dead = self.last_dead().take();
        drop((fd, dead));
        *self.finished.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told_finished.notify_all();
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
            "the pool belongs to the process that made it",
        ))
    }

    fn left_off_by(&self) -> MutexGuard<'_, Option<ThreadId>> {
        let by = self.left_off_by.lock();
        by.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the interpreter ends, and will end this thread, too.
    fn is_left_off_here(&self) -> bool {
        self.left_off_by()
            .is_some_and(|by| by != std::thread::current().id())
    }

    fn end(&self, py: Python<'_>, event: Event) -> PyResult<()> {
        self.check_home()?;
        self.happen(py, event);
        self.wake();
        signalled::raise()
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

    fn enter(
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

    fn stats_of<'py>(&self, py: Python<'py>, member: &Member) -> PyResult<Bound<'py, PyDict>> {
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
}

/// What follows without anybody's being told.
fn without_settling(steps: Vec<Step>) -> Vec<Step> {
    let keep = |step: &Step| !matches!(step, Step::Settle(..));
    steps.into_iter().filter(keep).collect()
}

fn nanoseconds(seconds: f64) -> PyResult<u64> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
    }
    Ok((seconds.max(0.0) * 1e9) as u64)
}
