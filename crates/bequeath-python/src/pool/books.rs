//! What a driver keeps under its lock: the scheduler, the open calls, the workers. Nothing here runs Python code or
//! lets go of a Python object: what is struck out is handed to the caller, who has no lock by then.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bequeath_pool::{Action, Event, Outcome, Scheduler, TaskId, Why, WorkerId};
use bequeath_shm::{Reference, Session};
use pyo3::prelude::*;

use super::job::Job;
use super::member::Member;
use super::shared::now;

/// A task that is no more open, and the call that is to be told.
pub struct Closing {
    pub job: Arc<Job>,
    pub task: TaskId,
}

/// An action of the scheduler's with all that it takes to carry it out.
pub enum Step {
    Start(Arc<Member>),
    /// There was no memory for what a worker needs.
    CannotStart(WorkerId, crate::error::EngineError),
    Send(Arc<Member>, Arc<Job>, TaskId),
    Recall(Arc<Member>, usize),
    Retire(Arc<Member>),
    Interrupt(Arc<Member>, TaskId),
    Terminate(Arc<Member>),
    Kill(Arc<Member>),
    Deliver(Closing),
    Settle(Closing, Outcome),
    Broke(Why),
    AllEnded,
}

pub struct Books {
    pub scheduler: Scheduler,
    pub session: Session,
    /// By which onlookers tell the pool from others.
    pool: Reference,
    /// By their first task; with the number of their tasks that are not settled.
    jobs: BTreeMap<TaskId, (Arc<Job>, u64)>,
    members: HashMap<WorkerId, Arc<Member>>,
    /// How often the members changed.
    pub changes: u64,
    actions: Vec<Action>,
}

impl Books {
    pub fn new(scheduler: Scheduler, session: Session, pool: Reference) -> Self {
        Self {
            scheduler,
            session,
            pool,
            jobs: BTreeMap::new(),
            members: HashMap::new(),
            changes: 0,
            actions: Vec::new(),
        }
    }

    /// Tells the scheduler, and says what is to be done.
    pub fn note(&mut self, event: Event, steps: &mut Vec<Step>) {
        let mut actions = std::mem::take(&mut self.actions);
        self.scheduler.handle(event, now(), &mut actions);
        steps.extend(actions.drain(..).filter_map(|action| self.step(action)));
        self.actions = actions;
    }

    fn step(&mut self, action: Action) -> Option<Step> {
        Some(match action {
            Action::Start(id) => match Member::new(&self.session, id, self.pool) {
                // Known at once: another thread may be told to send it something.
                Ok(member) => {
                    let member = Arc::new(member);
                    self.members.insert(id, Arc::clone(&member));
                    self.changes += 1;
                    Step::Start(member)
                }
                Err(error) => Step::CannotStart(id, error),
            },
            Action::Assign { worker, task } => {
                let job = Arc::clone(&self.job_of(task)?.0);
                Step::Send(self.member(worker)?, job, task)
            }
            Action::Recall { worker, most } => Step::Recall(self.member(worker)?, most),
            Action::Retire(worker) => Step::Retire(self.member(worker)?),
            Action::Interrupt { worker, task } => Step::Interrupt(self.member(worker)?, task),
            Action::Terminate(worker) => Step::Terminate(self.member(worker)?),
            Action::Kill(worker) => Step::Kill(self.member(worker)?),
            Action::Deliver(task) => Step::Deliver(self.close(task)?),
            Action::Settle { task, outcome } => Step::Settle(self.close(task)?, outcome),
            Action::Broke(why) => Step::Broke(why),
            Action::AllEnded => Step::AllEnded,
            _ => return None,
        })
    }

    /// Enters a call, before its tasks are submitted.
    pub fn enter(&mut self, job: Arc<Job>) {
        let count = job.tasks.end - job.tasks.start;
        self.jobs.insert(job.tasks.start, (job, count));
    }

    fn job_of(&mut self, task: TaskId) -> Option<&mut (Arc<Job>, u64)> {
        let (_, found) = self.jobs.range_mut(..=task).next_back()?;
        found.0.tasks.contains(&task).then_some(found)
    }

    /// The call that an open task belongs to.
    pub fn job(&mut self, task: TaskId) -> Option<Arc<Job>> {
        self.job_of(task).map(|(job, _)| Arc::clone(job))
    }

    /// The open calls of one who wants to know what came of them.
    pub fn jobs_of(&self, sink: &Bound<'_, PyAny>) -> Vec<Arc<Job>> {
        let jobs = self.jobs.values().map(|(job, _)| job);
        jobs.filter(|job| job.sink.is(sink)).cloned().collect()
    }

    /// One task less is open.
    pub fn close(&mut self, task: TaskId) -> Option<Closing> {
        let (job, left) = self.job_of(task)?;
        *left -= 1;
        let (job, over) = (Arc::clone(job), *left == 0);
        if over {
            self.jobs.remove(&job.tasks.start);
        }
        Some(Closing { job, task })
    }

    pub fn member(&self, id: WorkerId) -> Option<Arc<Member>> {
        self.members.get(&id).cloned()
    }

    pub fn members(&self) -> Vec<Arc<Member>> {
        let mut members: Vec<_> = self.members.values().cloned().collect();
        members.sort_unstable_by_key(|member| member.id);
        members
    }

    /// Strikes out a worker whose process has ended, or was never there.
    pub fn remove(&mut self, id: WorkerId) -> Option<Arc<Member>> {
        self.changes += 1;
        self.members.remove(&id)
    }
}
