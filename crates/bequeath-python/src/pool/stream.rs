//! `ResultStream`: results that are taken one by one, as they come or in order; what `imap` returns.
//!
//! Whoever waits for the next one hears the workers meanwhile, if nobody else does, and takes what has come in one
//! go; else it is woken by whoever puts one in.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{fence, AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bequeath_os::futex::{self, Wait};
use bequeath_os::Deadline;
use pyo3::exceptions::{PyKeyboardInterrupt, PyStopIteration};
use pyo3::prelude::*;

use crate::blocking;
use crate::error::EngineError;
use crate::intern;

use super::driver::PoolDriver;
use super::room::Room;
use super::shared::now;

/// A value, or the exception instead of it.
type Outcome = Result<Py<PyAny>, Py<PyAny>>;

/// A waiting thread looks so often whether a signal handler is to run.
const SLICE: Duration = Duration::from_millis(100);

/// Results of one call's tasks, for whoever iterates over them.
#[pyclass(frozen, subclass, module = "bequeath._engine")]
pub struct ResultStream {
    ordered: bool,
    held: Mutex<Held>,
    /// Changes when something was put in while somebody waited.
    rings: AtomicU32,
    waiting: AtomicBool,
    /// When somebody last stopped hearing the workers for it.
    heard_until: AtomicU64,
    room: Room,
    /// Who waited was interrupted, and what was submitted has been cancelled.
    abandoned: AtomicBool,
}

#[derive(Default)]
struct Held {
    ready: VecDeque<Outcome>,
    /// Those that came before their turn.
    early: HashMap<u64, Outcome>,
    /// How many are or were ready.
    count: u64,
    /// How many there will be, when that is known.
    length: Option<u64>,
    /// Whose workers to hear while waiting.
    driver: Option<Py<PoolDriver>>,
    /// What cancels the tasks, where there is no driver here: they are asked of another process.
    cancels: Option<Py<PyAny>>,
    /// A weak reference to what stands between the workers and this, a progress bar's: then they are not heard.
    shown_by: Option<Py<PyAny>>,
}

impl Held {
    fn is_complete(&self) -> bool {
        self.length == Some(self.count)
    }
}

#[pymethods]
impl ResultStream {
    #[new]
    fn new(ordered: bool) -> Self {
        Self {
            ordered,
            held: Mutex::default(),
            rings: AtomicU32::new(0),
            waiting: AtomicBool::new(false),
            heard_until: AtomicU64::new(0),
            room: Room::default(),
            abandoned: AtomicBool::new(false),
        }
    }

    /// One task's outcome, as results take them.
    fn _set(slf: &Bound<'_, Self>, index: u64, outcome: (bool, Py<PyAny>)) -> PyResult<()> {
        let (success, value) = outcome;
        Self::put(slf, index, if success { Ok(value) } else { Err(value) })
    }

    /// How many results there will be.
    fn _set_length(slf: &Bound<'_, Self>, length: u64) -> PyResult<()> {
        let (complete, driver) = {
            let mut held = slf.get().held();
            held.length = Some(length);
            let driver = held.driver.as_ref();
            (
                held.is_complete(),
                driver.map(|one| one.clone_ref(slf.py())),
            )
        };
        slf.get().ring();
        if let Some(driver) = driver.filter(|_| complete) {
            driver.get().nudge(); // who hears the workers waits for a result that will not come
        }
        Self::forget_if(slf, complete)
    }

    /// Who waits may hear this driver's workers meanwhile, unless results are shown on their way; interrupted, it
    /// cancels the tasks there.
    #[pyo3(signature = (driver, shown_by=None))]
    fn _attend_by(&self, driver: Py<PoolDriver>, shown_by: Option<Py<PyAny>>) {
        let former = {
            let mut held = self.held();
            (
                held.driver.replace(driver),
                std::mem::replace(&mut held.shown_by, shown_by),
            )
        };
        drop(former);
    }

    /// Who waits, interrupted, cancels the tasks by this.
    #[pyo3(signature = (cancels, shown_by=None))]
    fn _cancel_by(&self, cancels: Py<PyAny>, shown_by: Option<Py<PyAny>>) {
        let former = {
            let mut held = self.held();
            (
                held.cancels.replace(cancels),
                std::mem::replace(&mut held.shown_by, shown_by),
            )
        };
        drop(former);
    }

    /// For the thread that reads the call's iterable: how many tasks more may be submitted now, once there is room
    /// for any; zero when no more are wanted. `buffersize` is how many there may be that nobody has taken the results
    /// of; without it, `capacity` is how many may be undone, and twice as many untaken once somebody takes.
    #[pyo3(signature = (submitted, capacity, buffersize=None))]
    fn _wait_for_room(
        &self,
        py: Python<'_>,
        submitted: u64,
        capacity: u64,
        buffersize: Option<u64>,
    ) -> PyResult<u64> {
        Ok(self.room.wait(py, submitted, capacity, buffersize)?)
    }

    /// Somebody waits for all tasks to be done, whether results are taken or not.
    fn _lift_bound(&self) {
        self.room.lift();
    }

    /// No more tasks are wanted.
    fn _stop_feeding(&self) {
        self.room.stop();
    }

    /// Whether whoever waited was interrupted: what was submitted since is not wanted either.
    fn _is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// The last result is there: nobody need know this one any more.
    fn _forget(&self) {}
}

/// What a caller of `imap` holds. When it is let go, nothing more is read of the call's iterable, if results were
/// asked for or bounded what is read: nobody will ask for the others. What no result was asked of is work to be done.
#[pyclass(frozen, subclass, module = "bequeath._engine")]
pub struct ResultTaker {
    stream: Py<ResultStream>,
}

#[pymethods]
impl ResultTaker {
    #[new]
    fn new(stream: Py<ResultStream>) -> Self {
        Self { stream }
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        ResultStream::take(self.stream.bind(py), Deadline::NEVER)
    }

    /// The next result; `TimeoutError` if it is not there in time.
    #[pyo3(signature = (timeout=None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let deadline = timeout.map_or(Ok(Deadline::NEVER), blocking::deadline_after)?;
        ResultStream::take(self.stream.bind(py), deadline)
    }

    /// Where the results come from.
    #[getter]
    fn _stream(&self, py: Python<'_>) -> Py<ResultStream> {
        self.stream.clone_ref(py)
    }
}

impl Drop for ResultTaker {
    fn drop(&mut self) {
        self.stream.get().room.let_go();
    }
}

impl ResultStream {
    /// Adds a result. Its place matters if they are ordered.
    ///
    /// # Errors
    /// What `_forget` raises.
    pub fn put(slf: &Bound<'_, Self>, index: u64, outcome: Outcome) -> PyResult<()> {
        let stream = slf.get();
        let complete = {
            let mut held = stream.held();
            if !stream.ordered || index == held.count {
                held.ready.push_back(outcome);
                held.count += 1;
                while !held.early.is_empty() {
                    let next = held.count;
                    let Some(outcome) = held.early.remove(&next) else {
                        break;
                    };
                    held.ready.push_back(outcome);
                    held.count += 1;
                }
            } else {
                held.early.insert(index, outcome);
            }
            held.is_complete()
        };
        stream.room.note_done();
        stream.ring();
        Self::forget_if(slf, complete)
    }

    /// Whether `take` would not wait.
    pub fn is_ready(&self) -> bool {
        let held = self.held();
        !held.ready.is_empty() || held.is_complete()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_if(slf: &Bound<'_, Self>, complete: bool) -> PyResult<()> {
        if complete {
            slf.call_method0(intern!(slf.py(), "_forget"))?;
        }
        Ok(())
    }

    fn take(slf: &Bound<'_, Self>, deadline: Deadline) -> PyResult<Py<PyAny>> {
        let (py, stream) = (slf.py(), slf.get());
        let mut late = false;
        loop {
            let (outcome, driver) = {
                let mut held = stream.held();
                let outcome = held.ready.pop_front();
                let over = outcome.is_none() && held.is_complete();
                let done = over.then(|| (held.driver.take(), held.cancels.take()));
                (outcome, done)
            };
            stream.room.note_asked(outcome.is_some());
            match outcome {
                Some(Ok(value)) => return Ok(value),
                Some(Err(error)) => return Err(PyErr::from_value(error.into_bound(py))),
                None => drop(driver),
            }
            if stream.is_ready() {
                return Err(PyStopIteration::new_err(()));
            }
            if late {
                let kind = py
                    .import(intern!(py, "bequeath.exceptions"))?
                    .getattr(intern!(py, "TimeoutError"))?;
                return Err(PyErr::from_value(kind.call0()?));
            }
            if let Err(raised) = Self::wait(slf, deadline) {
                if raised.is_instance_of::<PyKeyboardInterrupt>(py) {
                    stream.abandon(slf)?;
                }
                return Err(raised);
            }
            late = deadline.is_past();
        }
    }

    /// Who waited was interrupted: nobody will ask for the others.
    fn abandon(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let (driver, cancels, shown_by) = {
            let mut held = self.held();
            (
                held.driver.take(),
                held.cancels.take(),
                held.shown_by.take(),
            )
        };
        if driver.is_none() && cancels.is_none() {
            return Ok(());
        }
        // First, for the thread that reads the input: it cancels what it submits from now on.
        self.abandoned.store(true, Ordering::Relaxed);
        self.room.stop();
        let sink = match shown_by {
            Some(shown_by) => shown_by.bind(slf.py()).call0()?,
            None => slf.as_any().clone(),
        };
        if let Some(driver) = driver {
            driver.get().cancel_all(slf.py(), &sink)?;
        }
        if let Some(cancels) = cancels {
            cancels.bind(slf.py()).call1((sink,))?;
        }
        Ok(())
    }

    fn wait(slf: &Bound<'_, Self>, deadline: Deadline) -> PyResult<()> {
        let (py, stream) = (slf.py(), slf.get());
        let driver = {
            let held = stream.held();
            let heard = held.driver.as_ref().filter(|_| held.shown_by.is_none());
            heard.map(|driver| driver.clone_ref(py))
        };
        if let Some(driver) = driver {
            let away = now().saturating_sub(stream.heard_until.load(Ordering::Relaxed));
            let heard = driver.get().attend_stream(py, slf, away, deadline);
            stream.heard_until.store(now(), Ordering::Relaxed);
            if heard? {
                return Ok(());
            }
        }
        let seen = stream.rings.load(Ordering::Acquire);
        // Said before it looks: who puts one in later sees that somebody waits.
        stream.waiting.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if stream.is_ready() {
            return Ok(());
        }
        let waited = blocking::wait(py, "result", |signals| {
            while stream.rings.load(Ordering::Acquire) == seen && !deadline.is_past() {
                let slice = deadline.earlier(Deadline::after(SLICE));
                let woken = futex::wait(&stream.rings, seen, slice);
                let look = matches!(woken, Wait::TimedOut | Wait::Interrupted);
                if look && signals.check().is_err() {
                    break;
                }
            }
            Ok::<_, EngineError>(())
        });
        Ok(waited?)
    }

    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) && self.waiting.swap(false, Ordering::SeqCst) {
            self.rings.fetch_add(1, Ordering::Release);
            futex::wake(&self.rings, u32::MAX);
        }
    }
}
