//! Carrying out what the scheduler asks for, with nothing locked.
//!
//! Sinks are only called by the driver's thread: what another thread finds settled it leaves to that one.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use bequeath_channel::Message;
use bequeath_pool::{Event, Outcome, TaskId, Why, WorkerId};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::intern;

use super::answer_label::Verdict;
use super::books::{Closing, Step};
use super::driver::PoolDriver;
use super::job::{Job, What};
use super::member::{seat, Member};
use super::signalled::twice;
use super::task_label::Shape;

/// What is left to the driver's thread.
pub enum Later {
    Settle(Closing, Outcome),
    Fail(Closing, Py<PyAny>),
    /// Another thread heard it.
    Complete(Closing, Verdict, Message),
    /// The thread that waits for it was interrupted while it told itself.
    Again(Closing, Result<Py<PyAny>, Py<PyAny>>),
    AllSet(Arc<Job>),
    /// A call that never became a task.
    Refuse {
        sink: Py<PyAny>,
        index: u64,
        error: Py<PyAny>,
    },
    Broke(Why),
}

enum Sent {
    Yes,
    /// Its worker cannot be reached.
    NotNow,
    Unwanted,
}

impl PoolDriver {
    /// Tells the scheduler of an event, and does all that follows. The closing of a delivered task is returned.
    pub(super) fn happen(&self, py: Python<'_>, event: Event) -> Option<Closing> {
        let mut steps = Vec::new();
        self.books().note(event, &mut steps);
        self.carry_out(py, steps)
    }

    pub(super) fn carry_out(&self, py: Python<'_>, steps: Vec<Step>) -> Option<Closing> {
        let mut delivered = None;
        let mut steps = VecDeque::from(steps);
        while let Some(step) = steps.pop_front() {
            let mut more = Vec::new();
            match step {
                Step::Deliver(closing) => delivered = Some(closing),
                Step::Start(member) => self.start(py, &member, &mut more),
                Step::CannotStart(id, error) => {
                    self.cannot_start(py, id, error.into(), &mut more);
                }
                Step::Send(member, job, task) => self.send(py, &member, &job, task, &mut more),
                Step::Recall(member, most) => self.recall(&member, most, &mut more),
                Step::Retire(member) => {
                    let told = member.retire().map_err(PyErr::from);
                    // It can be told otherwise that it is not needed.
                    self.show(py, told.or_else(|_| member.terminate(py)));
                }
                // A process that has ended meanwhile is no error.
                Step::Interrupt(member, task) => drop(twice(py, || member.interrupt(py, task))),
                Step::Terminate(member) => drop(twice(py, || member.terminate(py))),
                Step::Kill(member) => drop(twice(py, || member.kill(py))),
                Step::Settle(closing, outcome) => self.leave(Later::Settle(closing, outcome)),
                Step::Broke(why) => self.leave(Later::Broke(why)),
                Step::AllEnded => self.note_end(),
            }
            steps.extend(more);
        }
        delivered
    }

    fn start(&self, py: Python<'_>, member: &Arc<Member>, more: &mut Vec<Step>) {
        let Some(bell_fd) = self.bell_fd() else {
            return; // all is over
        };
        let bell_fd = bell_fd.as_fd();
        let started = twice(py, || {
            let seat = seat(member, &self.results, &self.bell, bell_fd, self.max_tasks)?;
            self.hooks.bind(py).call_method1("start", (member.id, seat))
        });
        match started.and_then(|process| twice(py, || member.set_started(py, &process))) {
            Ok(()) => self.wake(),
            Err(error) => {
                let former = self.books().remove(member.id);
                drop(former);
                self.cannot_start(py, member.id, error, more);
            }
        }
    }

    fn cannot_start(&self, py: Python<'_>, id: WorkerId, error: PyErr, more: &mut Vec<Step>) {
        if !self.opening.load(Ordering::Relaxed) {
            // Kept for good. Its frames hold the pool, which would never be let go of.
            error.set_traceback(py, None);
            let forgotten = error.value(py).setattr("__traceback__", py.None());
            self.show(py, forgotten);
        }
        self.set_cause(py, error);
        self.books().note(Event::StartFailed(id), more);
    }

    fn send(
        &self,
        py: Python<'_>,
        member: &Arc<Member>,
        job: &Arc<Job>,
        task: TaskId,
        more: &mut Vec<Step>,
    ) {
        let sent = twice(py, || {
            if job.asks {
                let begin = intern!(py, "_begin");
                let asked = job.sink.bind(py).call_method1(begin, (job.index(task),))?;
                if !asked.is_truthy()? {
                    return Ok(Sent::Unwanted);
                }
            }
            let reached = job.send(py, task, member, self)?;
            Ok(if reached { Sent::Yes } else { Sent::NotNow })
        });
        match sent {
            Ok(Sent::Yes) => return,
            Ok(Sent::NotNow) => return self.cannot_reach(member.id, Some(task), more),
            Ok(Sent::Unwanted) | Err(_) => {}
        }
        let mut books = self.books();
        let was_open = books.scheduler.is_open(task);
        books.note(Event::Refused(task), more);
        let closing = if was_open { books.close(task) } else { None };
        drop(books);
        if let (Some(closing), Err(error)) = (closing, sent) {
            let error = error.into_value(py).into_any();
            self.leave(Later::Fail(closing, error));
        }
    }

    /// The driver's thread has a time to keep now.
    fn cannot_reach(&self, worker: WorkerId, task: Option<TaskId>, more: &mut Vec<Step>) {
        self.books().note(Event::Unreachable { worker, task }, more);
        self.wake();
    }

    /// Takes back what a worker has not taken. The scheduler puts each in front, so the youngest is told first.
    fn recall(&self, member: &Arc<Member>, most: usize, more: &mut Vec<Step>) {
        let (mut back, mut retire) = (Vec::new(), false);
        while back.len() < most {
            match member.take_back() {
                Ok(Some((label, _))) if label.shape == Shape::Stop => retire = true,
                Ok(Some((label, message))) => back.push((label, message)),
                Ok(None) => break,
                Err(_) => {
                    self.cannot_reach(member.id, None, more);
                    break;
                }
            }
        }
        let mut books = self.books();
        for (label, message) in back.into_iter().rev() {
            if let Some(job) = books.job(label.task) {
                job.keep(message, label);
            }
            let event = Event::Recalled {
                worker: member.id,
                task: label.task,
            };
            books.note(event, more);
        }
        books.note(Event::RecallEnded(member.id), more);
        if retire {
            more.push(Step::Retire(Arc::clone(member)));
        }
    }

    // --- the driver's thread only ---

    /// Gives a call what came of its task.
    pub(super) fn complete(
        &self,
        py: Python<'_>,
        closing: &Closing,
        outcome: Result<Bound<'_, PyAny>, Bound<'_, PyAny>>,
    ) {
        let Closing { job, task } = closing;
        self.show(py, job.tell(py, *task, &outcome));
        if job.is_told() {
            self.undefine(job);
            self.show(py, job.tell_all_set(py));
        }
    }

    /// The same in a thread that waits for this call: whether all of it is there. What a signal handler
    /// raises meanwhile is the caller's, and the driver's thread finishes what it broke off.
    pub(super) fn complete_own(
        &self,
        py: Python<'_>,
        closing: Closing,
        outcome: Result<Bound<'_, PyAny>, Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let (job, task) = (Arc::clone(&closing.job), closing.task);
        if let Err(raised) = job.tell(py, task, &outcome) {
            let outcome = outcome.map(Bound::unbind).map_err(Bound::unbind);
            self.leave(Later::Again(closing, outcome));
            return Err(raised);
        }
        if !job.is_told() {
            return Ok(false);
        }
        self.undefine(&job);
        if let Err(raised) = job.tell_all_set(py) {
            self.leave(Later::AllSet(job));
            return Err(raised);
        }
        Ok(true)
    }

    /// Workers may forget a call's function.
    fn undefine(&self, job: &Job) {
        if let Some(definition) = job.definition() {
            let members = self.books().members();
            for member in members {
                member.undefine(definition);
            }
        }
    }

    /// Settles what other threads, or the thread itself in the middle of something, left.
    pub(super) fn settle(&self, py: Python<'_>, left: Later) {
        match left {
            Later::Complete(closing, verdict, mut message) => {
                let outcome = self.load(py, &mut message, verdict);
                self.complete(py, &closing, outcome);
            }
            Later::Again(closing, outcome) => {
                let bind = |object: Py<PyAny>| object.into_bound(py);
                self.complete(py, &closing, outcome.map(bind).map_err(bind));
            }
            Later::AllSet(job) => self.show(py, job.tell_all_set(py)),
            Later::Fail(closing, error) => {
                self.complete(py, &closing, Err(error.into_bound(py)));
            }
            Later::Refuse { sink, index, error } => {
                let told = sink.call_method1(py, intern!(py, "_set"), (index, (false, error)));
                self.show(py, told.map(|_| ()));
            }
            Later::Broke(why) => {
                let made = self.broken_error(py, why);
                if let Ok(error) = &made {
                    let former = self.broken().replace(error.clone().unbind());
                    drop(former);
                }
                self.show(py, made.map(|_| ()));
            }
            Later::Settle(closing, outcome) => {
                let error = self.error_of(py, &closing, outcome);
                let error =
                    error.unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any());
                self.complete(py, &closing, Err(error));
            }
        }
    }

    fn error_of<'py>(
        &self,
        py: Python<'py>,
        closing: &Closing,
        outcome: Outcome,
    ) -> PyResult<Bound<'py, PyAny>> {
        let hooks = self.hooks.bind(py);
        match outcome {
            Outcome::Died(_) => {
                let facts = self.facts_of_death(py, Some(closing))?;
                hooks.call_method1("died", (facts,))
            }
            Outcome::TimedOut(_) => {
                let task = describe(py, &closing.job, closing.task)?;
                hooks.call_method1("timed_out", (closing.job.timeout, task))
            }
            Outcome::Cancelled(_) => hooks.call_method0("cancelled"),
            Outcome::Broken(why) => self.broken_error(py, why),
            _ => hooks.call_method0("terminated"),
        }
    }

    fn broken_error<'py>(&self, py: Python<'py>, why: Why) -> PyResult<Bound<'py, PyAny>> {
        let reason = match why {
            Why::Initializer(_) => "initializer",
            Why::NeverReady(_) => "never ready",
            Why::NoProcess(_) => "no process",
            Why::Unreadable => "unreadable",
            _ => "death",
        };
        let cause = self.cause().as_ref().map(|cause| cause.clone_ref(py));
        // Who dies later does so because the pool is broken.
        let known = self.breaking().as_ref().map(|facts| facts.clone_ref(py));
        let facts = match known {
            Some(facts) => facts.into_bound(py),
            None => self.facts_of_death(py, None)?,
        };
        let former = self.breaking().replace(facts.clone().unbind());
        drop(former);
        self.hooks
            .bind(py)
            .call_method1("broken", (reason, cause, facts))
    }

    /// What is known of the worker that died last.
    fn facts_of_death<'py>(
        &self,
        py: Python<'py>,
        closing: Option<&Closing>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let facts = PyDict::new(py);
        let dead = self.last_dead().clone();
        if let Some(dead) = dead {
            if let Some(started) = dead.member.started.get() {
                facts.set_item("process", started.process.bind(py))?;
            }
            facts.set_item("worker", dead.member.id)?;
            facts.set_item("exitcode", dead.exitcode)?;
            facts.set_item("seconds", dead.seconds)?;
            facts.set_item("stack", dead.member.last_stack())?;
        }
        if let Some(closing) = closing {
            facts.set_item("task", describe(py, &closing.job, closing.task)?)?;
        }
        Ok(facts)
    }
}

/// A task as texts are made of it: function, and arguments or elements.
fn describe<'py>(py: Python<'py>, job: &Job, task: TaskId) -> PyResult<Bound<'py, PyAny>> {
    let described = match &job.what {
        What::One {
            function,
            arguments,
            keywords,
            ..
        } => (
            function.bind(py),
            arguments.bind(py).as_any().clone(),
            keywords.bind(py).clone(),
            "call",
        )
            .into_pyobject(py)?,
        What::Many {
            function,
            elements,
            chunk,
            star,
            ..
        } => {
            let (first, end) = job.range(task);
            let elements = elements.bind(py);
            let how = if *star { "star" } else { "map" };
            let elements = if *chunk == 1 && !star {
                (elements.get_item(first)?,).into_pyobject(py)?
            } else {
                elements
                    .cast::<pyo3::types::PySequence>()?
                    .get_slice(first, end)?
                    .to_tuple()?
            };
            (
                function.bind(py),
                elements.into_any(),
                PyDict::new(py).into_any(),
                how,
            )
                .into_pyobject(py)?
        }
    };
    Ok(described.into_any())
}
