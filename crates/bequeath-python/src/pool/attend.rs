//! The driver's thread: it hears of results, of workers that end and of deadlines, all in one wait.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use bequeath_channel::{Error, Message};
use bequeath_os::poll::{self, Events};
use bequeath_os::{eventfd, Deadline};
use bequeath_pool::Event;
use bequeath_sync::{Holder, Interrupt, Interrupted};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::blocking;
use crate::error::EngineError;
use crate::intern;
use crate::transfer;

use super::act::Later;
use super::answer_label::{AnswerLabel, Verdict};
use super::driver::{Dead, PoolDriver};
use super::lease::PATIENCE;
use super::member::{Briefly, Member, PATIENCE_WITH_THE_STOPPED};
use super::shared::now;
use super::signalled;
use super::stream::ResultStream;
use super::unheard::malformed;

/// Whoever hears the workers sleeps until something comes, or until it has handed the baton over.
struct Hearing<'a> {
    driver: &'a PoolDriver,
    signals: &'a mut dyn Interrupt,
}

impl Interrupt for Hearing<'_> {
    fn check(&mut self) -> Result<(), Interrupted> {
        self.signals.check()?;
        // Wanted: a nudge may not get in, while somebody is stopped with the queue in its hands.
        if self.driver.is_baton_here() && !self.driver.is_baton_wanted() {
            Ok(())
        } else {
            Err(Interrupted)
        }
    }

    fn long_wait(&mut self, holder: Holder) {
        self.signals.long_wait(holder);
    }
}

/// After so many results it looks whether anything else has happened.
const AT_A_TIME: usize = 256;

impl PoolDriver {
    /// Attends to the pool until all workers have ended.
    pub(super) fn attend(&self, py: Python<'_>) -> PyResult<()> {
        let mut message = Message::default();
        let (mut members, mut changes) = (Vec::new(), u64::MAX);
        let mut ended = Vec::new();
        loop {
            let hears = self.take_baton(py, !ended.is_empty());
            if hears {
                self.bell.awake();
                self.hear(py, &mut message, AT_A_TIME);
            }
            for member in std::mem::take(&mut ended) {
                self.bury(py, &member, &mut message);
            }
            self.tick(py);
            if self.settle_left(py) && !hears {
                self.nudge(); // it may wait for what was settled now
            }
            if self.has_ended() {
                self.settle_left(py);
                return Ok(());
            }
            // What nobody has any more goes without the lock: a process's finalizers are Python code.
            let mut former = Vec::new();
            let deadline = {
                let books = self.books();
                if changes != books.changes {
                    changes = books.changes;
                    former = std::mem::replace(&mut members, books.members());
                }
                books.scheduler.next_deadline()
            };
            drop(former);
            let deadline = deadline.map_or(Deadline::NEVER, |at| {
                Deadline::after(Duration::from_nanos(at.saturating_sub(now())))
            });
            ended = self.sleep(py, &members, deadline, hears)?;
        }
    }

    /// Whether there was anything.
    pub(super) fn settle_left(&self, py: Python<'_>) -> bool {
        let mut any = false;
        loop {
            let left = std::mem::take(&mut *self.left());
            if left.is_empty() {
                return any;
            }
            any = true;
            for one in left {
                self.settle(py, one);
            }
        }
    }

    /// Takes what workers have sent, up to so many messages. Who is stopped in the middle of sending is not waited
    /// for: it rings when it goes on, and is buried if it does not.
    fn hear(&self, py: Python<'_>, message: &mut Message, most: usize) {
        for _ in 0..most {
            if self.is_deaf() {
                return;
            }
            let mut briefly = Briefly::default();
            let received = self
                .results
                .recv_into(message, Deadline::PAST, &mut briefly);
            match received {
                Ok(()) => {
                    let heard = self.hear_one(py, message, None);
                    self.show(py, heard.map(|_| ()));
                }
                Err(Error::Empty) => return,
                Err(Error::Interrupted) => {
                    // Who lets that one go on may be a thread of this interpreter.
                    py.detach(|| std::thread::sleep(PATIENCE_WITH_THE_STOPPED));
                    return;
                }
                Err(error) => self.cannot_receive(py, message, error),
            }
            self.settle_left(py);
        }
        // Others may want the interpreter.
        py.detach(|| ());
    }

    /// Who waits for its own result hears the workers meanwhile: one switch of threads less. What is not
    /// its own it leaves to the driver's thread. Whether its result is there.
    pub(super) fn hear_for(
        &self,
        py: Python<'_>,
        own: &Bound<'_, PyAny>,
        deadline: Deadline,
        stream: Option<&ResultStream>,
    ) -> PyResult<bool> {
        let mut message = Message::default();
        let mut heard = 0;
        loop {
            let ready = match stream {
                Some(stream) => stream.is_ready(),
                None => own.call_method0(intern!(py, "ready"))?.is_truthy()?,
            };
            // Of a stream it takes what else is there.
            if ready && (stream.is_none() || heard >= AT_A_TIME) {
                return Ok(true);
            }
            if self.is_baton_wanted() || self.is_deaf() || !self.is_baton_here() {
                return Ok(ready);
            }
            let mut received = self
                .results
                .recv_into(&mut message, Deadline::PAST, &mut Briefly::default())
                .map_err(EngineError::from);
            heard += 1;
            if matches!(
                received,
                Err(EngineError::Channel(Error::Empty | Error::Interrupted))
            ) {
                if ready {
                    return Ok(true);
                }
                received = blocking::wait(py, "result", |signals| {
                    let mut hearing = Hearing {
                        driver: self,
                        signals,
                    };
                    self.results.recv_into(&mut message, deadline, &mut hearing)
                });
            }
            match received {
                Ok(()) => {
                    let told = self.hear_one(py, &mut message, Some(own))?;
                    signalled::raise()?;
                    if told {
                        return Ok(true);
                    }
                }
                Err(EngineError::Channel(Error::Empty)) => return Ok(false),
                Err(EngineError::Channel(Error::Interrupted))
                    if !self.is_baton_here() || self.is_baton_wanted() =>
                {
                    return Ok(false);
                }
                Err(EngineError::Channel(error)) if !matches!(error, Error::Interrupted) => {
                    self.cannot_receive(py, &mut message, error);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One message; whether it was the last that `own` waits for.
    fn hear_one(
        &self,
        py: Python<'_>,
        message: &mut Message,
        own: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let Some(label) = AnswerLabel::take(message) else {
            self.go_deaf(py, malformed());
            return Ok(false);
        };
        self.bytes_received
            .fetch_add(message.payload.len() as u64, Ordering::Relaxed);
        let event = match label.verdict {
            Verdict::Nudge => return Ok(false),
            Verdict::Ready => Event::Ready(label.worker),
            Verdict::NotReady => {
                let cause = self.load(py, message, Verdict::Raised);
                let (Ok(cause) | Err(cause)) = cause;
                self.set_cause(py, PyErr::from_value(cause));
                Event::InitializerFailed(label.worker)
            }
            _ => Event::Answered {
                worker: label.worker,
                task: label.task,
                took: label.took,
            },
        };
        let Some(closing) = self.happen(py, event) else {
            return Ok(false);
        };
        let Some(own) = own else {
            let outcome = self.load(py, message, label.verdict);
            self.complete(py, &closing, outcome);
            return Ok(false);
        };
        if !closing.job.sink.is(own) {
            let message = std::mem::take(message);
            self.leave(Later::Complete(closing, label.verdict, message));
            return Ok(false);
        }
        match self.try_load(py, message, label.verdict) {
            Ok(outcome) => self.complete_own(py, closing, outcome),
            Err(raised) => {
                let outcome = Err(self.cannot_load(py, raised.clone_ref(py)));
                let told = self.complete_own(py, closing, outcome)?;
                if self.is_of_signal_handler(py, &raised) {
                    // While something of the program's ran: this thread's own.
                    return Err(raised);
                }
                Ok(told)
            }
        }
    }

    fn is_of_signal_handler(&self, py: Python<'_>, raised: &PyErr) -> bool {
        if raised.is_instance_of::<PyException>(py) {
            return false;
        }
        let asked = self.hooks.bind(py).call_method1(
            intern!(py, "of_signal_handler"),
            (raised.value(py), raised.traceback(py)),
        );
        asked.and_then(|answer| answer.is_truthy()).unwrap_or(true)
    }

    /// What a message says came of its task.
    pub(super) fn load<'py>(
        &self,
        py: Python<'py>,
        message: &mut Message,
        verdict: Verdict,
    ) -> Result<Bound<'py, PyAny>, Bound<'py, PyAny>> {
        self.try_load(py, message, verdict)
            .unwrap_or_else(|error| Err(self.cannot_load(py, error)))
    }

    /// It arrived and cannot be rebuilt: that is this task's error.
    fn cannot_load<'py>(&self, py: Python<'py>, error: PyErr) -> Bound<'py, PyAny> {
        let error = error.into_value(py).into_bound(py).into_any();
        let hooks = self.hooks.bind(py);
        let explained = hooks.call_method1(intern!(py, "unloadable"), (&error,));
        explained.unwrap_or(error)
    }

    #[allow(clippy::type_complexity)]
    fn try_load<'py>(
        &self,
        py: Python<'py>,
        message: &mut Message,
        verdict: Verdict,
    ) -> PyResult<Result<Bound<'py, PyAny>, Bound<'py, PyAny>>> {
        let hooks = self.hooks.bind(py);
        let loaded = match verdict {
            Verdict::Interrupted => hooks.call_method0(intern!(py, "cancelled")),
            _ => transfer::load(py, message).map(|object| object.into_bound(py)),
        };
        loaded.and_then(|object| match verdict {
            Verdict::Returned => Ok(Ok(object)),
            Verdict::Interrupted => Ok(Err(object)),
            _ => hooks
                .call_method1(intern!(py, "unpack"), (object,))
                .map(Err),
        })
    }

    fn tick(&self, py: Python<'_>) {
        let mut steps = Vec::new();
        {
            let mut books = self.books();
            let now = now();
            if books.scheduler.next_deadline().is_none_or(|at| at > now) {
                return;
            }
            if books.scheduler.asks_who_began() {
                for member in books.members() {
                    if let Some(in_hand) = member.slate.in_hand() {
                        let event = Event::Began {
                            worker: member.id,
                            task: in_hand.task,
                            at: in_hand.since,
                        };
                        books.note(event, &mut steps);
                    }
                }
            }
            books.note(Event::Tick, &mut steps);
        }
        self.carry_out(py, steps);
    }

    /// A worker's process has ended: what it sent is heard, what it had is found out, then it is told.
    fn bury(&self, py: Python<'_>, member: &Arc<Member>, message: &mut Message) {
        if member.gone.swap(true, Ordering::SeqCst) {
            return;
        }
        // All that it sent is in the queue by now; what others send meanwhile need not be waited for.
        let there = self.results.len_at_a_glance().unwrap_or(0);
        self.hear(py, message, usize::try_from(there).unwrap_or(usize::MAX));
        let unheard = self.results.len_at_a_glance().unwrap_or(0);
        if unheard > 0 && self.results.is_held() && !self.is_deaf() {
            // Another worker is stopped with the queue in its hands, and what this one sent may lie there.
            member.gone.store(false, Ordering::SeqCst);
            return;
        }
        let Some(started) = member.started.get() else {
            return;
        };
        let exitcode = self
            .hooks
            .bind(py)
            .call_method1(intern!(py, "reap"), (member.id, started.process.bind(py)));
        let exitcode = exitcode.and_then(|code| code.extract::<Option<i32>>());
        let exitcode = exitcode.unwrap_or_else(|error| {
            self.show(py, Err(error));
            None
        });
        let in_hand = member.slate.in_hand();
        let seconds = in_hand.map(|one| now().saturating_sub(one.since) as f64 / 1e9);
        let former = self.last_dead().replace(Dead {
            member: Arc::clone(member),
            exitcode,
            seconds,
        });
        drop(former);
        let mut steps = Vec::new();
        {
            let mut books = self.books();
            // What it had not taken keeps the form that it has.
            while let Ok(Some((label, message))) = member.take_back() {
                if let Some(job) = books.job(label.task) {
                    job.keep(message, label);
                }
            }
            books.remove(member.id);
            let event = Event::Ended {
                worker: member.id,
                begun: in_hand.map(|one| one.task),
            };
            books.note(event, &mut steps);
        }
        self.carry_out(py, steps);
        self.settle_left(py);
    }

    /// Sleeps until something happens; who of the members has ended.
    fn sleep(
        &self,
        py: Python<'_>,
        members: &[Arc<Member>],
        deadline: Deadline,
        hears: bool,
    ) -> PyResult<Vec<Arc<Member>>> {
        let heard_all = !hears || self.give_baton_back();
        let called = self.about_to_poll();
        let deadline = if heard_all && !called {
            deadline
        } else {
            Deadline::PAST
        };
        let Some(bell) = self.bell_fd() else {
            return Ok(Vec::new());
        };
        let bell = bell.as_fd();
        let mut watched: Vec<(BorrowedFd<'_>, Events)> = vec![(bell, Events::IN)];
        let mut whose = Vec::new();
        for member in members {
            if let Some(sentinel) = member.sentinel() {
                if !member.gone.load(Ordering::Relaxed) {
                    watched.push((sentinel, Events::IN));
                    whose.push(member);
                }
            }
        }
        let came = if deadline == Deadline::PAST {
            poll::wait(&watched, deadline).map_err(EngineError::from)
        } else {
            blocking::wait(py, "pool", |_| {
                let mut until = deadline;
                loop {
                    match poll::wait(&watched, until) {
                        Err(error) if error.is_interrupted() => {}
                        Ok(came) if self.may_stay(bell, &came, deadline) => {
                            until = deadline.earlier(Deadline::after(PATIENCE));
                        }
                        other => return other,
                    }
                }
            })
        };
        self.lease.end();
        self.polled();
        let came = came.map_err(PyErr::from)?;
        if !came[0].is_empty() {
            eventfd::lower(bell).map_err(EngineError::from)?;
        }
        let ended = whose.into_iter().zip(&came[1..]);
        let ended = ended.filter(|(_, came)| !came.is_empty());
        Ok(ended.map(|(member, _)| Arc::clone(member)).collect())
    }

    /// Whether whoever takes results hears the workers for now, and nothing else has come.
    fn may_stay(&self, bell: BorrowedFd<'_>, came: &[Events], deadline: Deadline) -> bool {
        if deadline.is_past() || came[1..].iter().any(|came| !came.is_empty()) {
            return false;
        }
        if !came[0].is_empty() && eventfd::lower(bell).is_err() {
            return false;
        }
        self.lease.is_renewed() && !self.about_to_poll()
    }
}
