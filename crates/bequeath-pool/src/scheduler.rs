//! [`Scheduler`]: the state of a pool, and what each event makes of it.

use std::collections::{BTreeMap, HashMap};

use crate::event::{Action, Event, Outcome, Why};
use crate::limits::Limits;
use crate::policy::{OnDeath, Policy};
use crate::task::{Task, TaskId, TaskIds, Waiting};
use crate::worker::{Life, Stage, Stopping, Worker, WorkerId};

/// So many workers may end one after the other before any gets ready. Generous: all of a pool may be
/// killed while they start, and still it is not the initializer that does it.
const UNREADY: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Closing,
    Ending,
}

/// Who runs which task. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Scheduler {
    pub(crate) policy: Policy,
    phase: Phase,
    broken: Option<Why>,
    told_end: bool,
    pub(crate) waiting: Waiting,
    /// Tasks that somebody has, and waiting ones that somebody died of.
    pub(crate) tasks: HashMap<TaskId, Task>,
    /// How many of them somebody has.
    pub(crate) assigned: u64,
    pub(crate) limits: Limits,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    next_worker: WorkerId,
    /// How many workers ended one after the other before any was ready.
    unready: u32,
    /// No more workers than that: a start has failed, and none has ended since.
    short_of: usize,
    /// How long tasks take, lately.
    pub(crate) average: Option<u64>,
}

impl Scheduler {
    /// A pool without workers and tasks; [`Event::Open`] begins it.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            phase: Phase::Running,
            broken: None,
            told_end: false,
            waiting: Waiting::default(),
            tasks: HashMap::new(),
            assigned: 0,
            limits: Limits::default(),
            workers: BTreeMap::new(),
            next_worker: 0,
            unready: 0,
            short_of: usize::MAX,
            average: None,
        }
    }

    /// Whether tasks may be submitted.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Why the pool is broken, if it is.
    #[must_use]
    pub fn broken(&self) -> Option<Why> {
        self.broken
    }

    /// Tasks that nobody has yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.count()
    }

    /// Whether the task has been submitted and not been settled.
    #[must_use]
    pub fn is_open(&self, task: TaskId) -> bool {
        self.tasks.contains_key(&task) || self.waiting.contains(task)
    }

    /// Who has the task.
    #[must_use]
    pub fn holder(&self, task: TaskId) -> Option<WorkerId> {
        self.tasks.get(&task)?.worker
    }

    /// What the worker was given and has not answered, oldest first.
    pub fn tasks_of(&self, worker: WorkerId) -> impl Iterator<Item = TaskId> + '_ {
        let worker = self.workers.get(&worker);
        worker.into_iter().flat_map(|one| one.tasks.iter().copied())
    }

    /// The workers there are.
    pub fn workers(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.workers.keys().copied()
    }

    /// Whether the worker has done as many tasks as it may: it ends by itself.
    #[must_use]
    pub fn is_spent(&self, worker: WorkerId) -> bool {
        let most = self.policy.max_tasks;
        self.workers.get(&worker).is_some_and(|worker| {
            worker.tasks.is_empty() && most.is_some_and(|most| worker.given >= most)
        })
    }

    /// Takes note of an event at the time `now`, and adds what is to be done to `actions`.
    pub fn handle(&mut self, event: Event, now: u64, actions: &mut Vec<Action>) {
        match event {
            Event::Open => {}
            Event::Submitted { tasks, timeout } => self.submitted(tasks, timeout, actions),
            Event::Ready(worker) => self.ready(worker),
            Event::InitializerFailed(worker) => {
                self.break_down(Why::Initializer(worker), now, actions);
            }
            Event::StartFailed(worker) => self.start_failed(worker, now, actions),
            Event::Began { worker, task, at } => self.began(worker, task, at),
            Event::Answered { worker, task, took } => {
                self.answered(worker, task, took, now, actions);
            }
            Event::Recalled { worker, task } => self.recalled(worker, task, actions),
            Event::RecallEnded(worker) => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.recalling = false;
                }
                return; // nothing new to hand out
            }
            Event::Unreachable { worker, task } => self.unreachable(worker, task, now, actions),
            Event::Refused(task) => self.refused(task),
            Event::Ended { worker, begun } => self.ended(worker, begun, now, actions),
            Event::Cancelled { task, running } => self.cancelled(task, running, now, actions),
            Event::Unreadable => self.break_down(Why::Unreadable, now, actions),
            Event::Tick => self.tick(now, actions),
            Event::Closed => {
                if self.phase == Phase::Running {
                    self.phase = Phase::Closing;
                }
            }
            Event::Terminated => self.end_all(Outcome::Terminated, Stage::Terminated, now, actions),
            Event::Killed => self.end_all(Outcome::Terminated, Stage::Killed, now, actions),
        }
        self.go_on(now, actions);
    }

    // --- what events do ---

    fn submitted(&mut self, tasks: TaskIds, timeout: Option<u64>, actions: &mut Vec<Action>) {
        let refusal = match (self.broken, self.phase) {
            (Some(why), _) => Some(Outcome::Broken(why)),
            (None, Phase::Running) => None,
            (None, _) => Some(Outcome::Terminated),
        };
        if let Some(outcome) = refusal {
            actions.extend(tasks.map(|task| Action::Settle { task, outcome }));
            return;
        }
        if let Some(limit) = timeout {
            self.limits.add(&tasks, limit);
        }
        self.waiting.push_back(tasks);
    }

    fn ready(&mut self, worker: WorkerId) {
        self.unready = 0;
        if let Some(worker) = self.workers.get_mut(&worker) {
            if worker.life == Life::Starting {
                worker.life = Life::Ready;
            }
        }
    }

    fn start_failed(&mut self, worker: WorkerId, now: u64, actions: &mut Vec<Action>) {
        if let Some(gone) = self.workers.remove(&worker) {
            self.give_back(worker, &gone, actions);
        }
        // The others go on alone; when one of them ends, another start is tried.
        self.short_of = self.workers.len();
        if self.workers.is_empty() {
            self.break_down(Why::NoProcess(worker), now, actions);
        }
    }

    fn began(&mut self, worker: WorkerId, task: TaskId, at: u64) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            if worker.tasks.contains(&task) {
                worker.begun = Some((task, at));
            }
        }
    }

    fn answered(
        &mut self,
        worker: WorkerId,
        task: TaskId,
        took: u64,
        now: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some(from) = self.workers.get_mut(&worker) else {
            return;
        };
        if !from.forget(task) {
            return;
        }
        from.since = now;
        from.unreachable = None;
        from.need_not_stop(task); // the interrupt was enough
        self.stop_next(worker, now, actions);
        if self.is_spent(worker) {
            if let Some(from) = self.workers.get_mut(&worker) {
                from.life = Life::Retiring; // it ends by itself
            }
        }
        if self.forget(task) {
            let average = self.average.unwrap_or(took);
            self.average = Some(average - average / 8 + took / 8);
            actions.push(Action::Deliver(task));
        }
    }

    pub(crate) fn recalled(&mut self, worker: WorkerId, task: TaskId, actions: &mut Vec<Action>) {
        if let Some(from) = self.workers.get_mut(&worker) {
            if from.forget(task) {
                from.given -= 1;
                from.need_not_stop(task);
            }
        }
        self.wait_again(task, worker, actions);
    }

    fn refused(&mut self, task: TaskId) {
        if let Some(worker) = self.holder(task).and_then(|id| self.workers.get_mut(&id)) {
            if worker.forget(task) {
                worker.given -= 1;
            }
        }
        let waited = self.waiting.remove(task);
        if !self.forget(task) && waited {
            self.limits.forget(task);
        }
    }

    fn ended(&mut self, id: WorkerId, begun: Option<TaskId>, now: u64, actions: &mut Vec<Action>) {
        let Some(mut worker) = self.workers.remove(&id) else {
            return;
        };
        if let Some(task) = begun.filter(|task| worker.tasks.contains(task)) {
            worker.forget(task);
            self.died(task, id, now, actions);
        }
        self.give_back(id, &worker, actions);
        let lived = matches!(worker.life, Life::Starting | Life::Ready);
        if worker.stopping.is_none() && lived && self.policy.on_death == OnDeath::Break {
            self.break_down(Why::Death(id), now, actions);
        }
        if worker.life == Life::Starting && worker.stopping.is_none() {
            self.unready += 1;
            if self.unready > UNREADY {
                self.break_down(Why::NeverReady(id), now, actions);
            }
        }
    }

    fn died(&mut self, task: TaskId, worker: WorkerId, now: u64, actions: &mut Vec<Action>) {
        let Some(known) = self.tasks.get_mut(&task) else {
            return; // settled before: it took too long, or was not wanted any more
        };
        known.deaths += 1;
        let deaths = known.deaths;
        match self.policy.on_death {
            OnDeath::Retry(most) if deaths <= most => {
                known.worker = None;
                self.assigned -= 1;
                self.waiting.push_front(task);
            }
            OnDeath::Break => {
                self.settle(task, Outcome::Died(worker), actions);
                self.break_down(Why::Death(worker), now, actions);
            }
            _ => self.settle(task, Outcome::Died(worker), actions),
        }
    }

    /// What a worker that is gone had not begun is as if it had never been given to it.
    fn give_back(&mut self, id: WorkerId, worker: &Worker, actions: &mut Vec<Action>) {
        for &task in worker.tasks.iter().rev() {
            self.wait_again(task, id, actions);
        }
    }

    fn wait_again(&mut self, task: TaskId, worker: WorkerId, actions: &mut Vec<Action>) {
        let Some(known) = self.tasks.get_mut(&task) else {
            return; // settled meanwhile
        };
        if known.worker != Some(worker) {
            return;
        }
        if known.unwanted {
            self.settle(task, Outcome::Cancelled(None), actions);
            return;
        }
        known.worker = None;
        if known.deaths == 0 {
            self.tasks.remove(&task);
        }
        self.assigned -= 1;
        self.waiting.push_front(task);
    }

    /// A task that somebody has is taken back if that has not begun it. One that was asked for in that way and is still
    /// there has been begun: with `running`, it is stopped.
    fn cancelled(&mut self, task: TaskId, running: bool, now: u64, actions: &mut Vec<Action>) {
        if self.waiting.remove(task) {
            self.tasks.remove(&task);
            self.limits.forget(task);
            let outcome = Outcome::Cancelled(None);
            actions.push(Action::Settle { task, outcome });
            return;
        }
        let Some(known) = self.tasks.get_mut(&task) else {
            return;
        };
        let Some(worker) = known.worker else {
            return;
        };
        if !running {
            known.unwanted = true;
            let most = usize::MAX;
            actions.push(Action::Recall { worker, most });
        } else {
            self.settle(task, Outcome::Cancelled(Some(worker)), actions);
            if self.may_not_have_begun(worker, task) {
                // Perhaps it has: of all it was given, only what is next. The rest is taken back later. Where it is
                // known to be at another task this one is over, and an interrupt for it would take the place of one
                // that the other needs.
                let is_elsewhere = |one: &Worker| one.begun.is_some() || one.stopping.is_some();
                let is_next = self.tasks_of(worker).next() == Some(task);
                if is_next && !self.workers.get(&worker).is_some_and(is_elsewhere) {
                    actions.push(Action::Interrupt { worker, task });
                }
            } else {
                self.stop(worker, task, now, actions);
            }
        }
    }

    // --- the end ---

    fn break_down(&mut self, why: Why, now: u64, actions: &mut Vec<Action>) {
        if self.broken.is_some() || self.phase == Phase::Ending {
            return;
        }
        self.broken = Some(why);
        actions.push(Action::Broke(why));
        self.end_all(Outcome::Broken(why), Stage::Terminated, now, actions);
    }

    fn end_all(&mut self, outcome: Outcome, how: Stage, now: u64, actions: &mut Vec<Action>) {
        self.phase = Phase::Ending;
        let mut open: Vec<TaskId> = self.tasks.drain().map(|(task, _)| task).collect();
        open.extend(self.waiting.take());
        open.sort_unstable();
        open.dedup(); // one that waits after a death is known twice
        self.assigned = 0;
        self.limits.clear();
        actions.extend(
            open.into_iter()
                .map(|task| Action::Settle { task, outcome }),
        );
        for (&id, worker) in &mut self.workers {
            worker.tasks.clear();
            let before = worker.stopping.map(|stopping| stopping.stage);
            if before >= Some(how) {
                continue;
            }
            let next = match how {
                Stage::Killed => {
                    actions.push(Action::Kill(id));
                    u64::MAX
                }
                _ => {
                    actions.push(Action::Terminate(id));
                    now.saturating_add(self.policy.escalation.kill_after)
                }
            };
            worker.stopping = Some(Stopping {
                task: None,
                stage: how,
                next,
            });
        }
    }

    // --- what follows ---

    /// Hands out what can be handed out, starts who is missing, and ends what is over.
    fn go_on(&mut self, now: u64, actions: &mut Vec<Action>) {
        if self.phase != Phase::Ending {
            self.start_missing(now, actions);
            self.hand_out(now, actions);
            self.level(actions);
            if self.phase == Phase::Closing && self.waiting.is_empty() && self.assigned == 0 {
                for (&id, worker) in &mut self.workers {
                    if worker.life != Life::Retiring {
                        worker.life = Life::Retiring;
                        actions.push(Action::Retire(id));
                    }
                }
            }
        }
        let over = self.phase != Phase::Running && self.workers.is_empty();
        if over && self.waiting.is_empty() && !self.told_end {
            self.told_end = true;
            actions.push(Action::AllEnded);
        }
    }

    fn start_missing(&mut self, now: u64, actions: &mut Vec<Action>) {
        let open = self.waiting.count() + self.assigned;
        let wanted = match self.phase {
            Phase::Closing if open == 0 => 0,
            _ if self.policy.on_demand => self.policy.workers.min(open as usize),
            _ => self.policy.workers,
        };
        if self.workers.len() < self.short_of {
            self.short_of = usize::MAX;
        }
        while self.workers.len() < wanted.min(self.short_of) {
            let id = self.next_worker;
            self.next_worker += 1;
            self.workers.insert(id, Worker::new(now));
            actions.push(Action::Start(id));
        }
    }

    pub(crate) fn settle(&mut self, task: TaskId, outcome: Outcome, actions: &mut Vec<Action>) {
        if self.forget(task) {
            actions.push(Action::Settle { task, outcome });
        }
    }

    /// Strikes a task that somebody has from the books; false when it is not there.
    fn forget(&mut self, task: TaskId) -> bool {
        let Some(known) = self.tasks.remove(&task) else {
            return false;
        };
        if known.worker.is_some() {
            self.assigned -= 1;
        }
        self.limits.forget(task);
        true
    }
}
