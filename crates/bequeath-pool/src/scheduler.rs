//! [`Scheduler`]: the state of a pool, and what each event makes of it.

use std::collections::{BTreeMap, HashMap};

use crate::event::{Action, Event, Outcome, Why};
use crate::task::{Task, TaskId, TaskIds, Waiting};
use crate::worker::{Life, Stage, Stopping, Worker, WorkerId};

/// What becomes of a task whose worker died with it in its hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDeath {
    /// It fails; nothing else does.
    Fail,
    /// It is given to another worker, at most so many times; then it fails.
    Retry(u32),
    /// It and all others fail: the pool is broken.
    Break,
}

/// How long a worker may take to follow before it is told in a harder way, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// From the interrupt to the request to end.
    pub terminate_after: u64,
    /// From the request to end to the kill.
    pub kill_after: u64,
}

/// What kind of pool it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many workers there are at most; one at least.
    pub workers: usize,
    /// How many tasks a worker does before it is replaced.
    pub max_tasks: Option<u64>,
    /// Workers are started as tasks need them, not at the beginning.
    pub on_demand: bool,
    /// What a worker's death does.
    pub on_death: OnDeath,
    /// How workers are stopped.
    pub escalation: Escalation,
}

/// Tasks are handed out ahead for so many nanoseconds of work.
const AHEAD: u64 = 1_000_000;
/// The most tasks that a worker has at a time.
const MOST_AHEAD: u64 = 128;
/// And while nobody knows how long tasks take.
const FIRST_AHEAD: usize = 2;
/// Tasks per worker that wait besides, for moments when nobody brings new ones.
const SPARE: usize = 8;
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
    policy: Policy,
    phase: Phase,
    broken: Option<Why>,
    told_end: bool,
    waiting: Waiting,
    /// Tasks that somebody has, and waiting ones that somebody died of.
    tasks: HashMap<TaskId, Task>,
    /// How many of them somebody has.
    assigned: u64,
    /// Tasks with a time limit, the limit, and how many of them are not settled.
    limits: Vec<(TaskIds, u64, u64)>,
    workers: BTreeMap<WorkerId, Worker>,
    next_worker: WorkerId,
    /// How many workers ended one after the other before any was ready.
    unready: u32,
    /// No more workers than that: a start has failed, and none has ended since.
    short_of: usize,
    /// How long tasks take, lately.
    average: Option<u64>,
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
            limits: Vec::new(),
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

    /// How many open tasks keep the workers busy: what they are given ahead, as much again, and some.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        (self.policy.workers * (2 * self.depth() + SPARE)) as u64
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

    /// Whether it matters now who has begun what: somebody has a task with a time limit.
    #[must_use]
    pub fn asks_who_began(&self) -> bool {
        !self.limits.is_empty()
    }

    /// When [`Event::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let mut next = u64::MAX;
        for worker in self.workers.values() {
            if let Some(stopping) = &worker.stopping {
                next = next.min(stopping.next);
            } else if let Some(at) = self.deadline(worker) {
                next = next.min(at);
            }
        }
        (next != u64::MAX).then_some(next)
    }

    /// When the task that the worker is at, or may be at, is late.
    fn deadline(&self, worker: &Worker) -> Option<u64> {
        if self.limits.is_empty() {
            return None;
        }
        let (task, since) = match worker.begun {
            Some(begun) => begun,
            None => (*worker.tasks.front()?, worker.since),
        };
        Some(since.saturating_add(self.limit(task)?))
    }

    fn limit(&self, task: TaskId) -> Option<u64> {
        let found = self.limits.iter().find(|(tasks, ..)| tasks.contains(&task));
        found.map(|(_, limit, _)| *limit)
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
        if let (Some(limit), false) = (timeout, tasks.is_empty()) {
            let count = tasks.end - tasks.start;
            self.limits.push((tasks.clone(), limit, count));
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

    /// What the worker came to next may have been settled while it was being stopped at the task before.
    fn stop_next(&mut self, id: WorkerId, now: u64, actions: &mut Vec<Action>) {
        let next = self.workers.get(&id).and_then(|one| one.tasks.front());
        if let Some(&task) = next.filter(|task| !self.tasks.contains_key(task)) {
            self.stop(id, task, now, actions);
        }
    }

    fn recalled(&mut self, worker: WorkerId, task: TaskId, actions: &mut Vec<Action>) {
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
            self.unlimit(task);
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
            self.unlimit(task);
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
            self.stop(worker, task, now, actions);
        }
    }

    fn tick(&mut self, now: u64, actions: &mut Vec<Action>) {
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            let Some(worker) = self.workers.get_mut(&id) else {
                continue;
            };
            if let Some(stopping) = &mut worker.stopping {
                harden(id, stopping, self.policy.escalation, now, actions);
                continue;
            }
            let Some(worker) = self.workers.get(&id) else {
                continue;
            };
            if self.deadline(worker).is_none_or(|at| at > now) {
                continue;
            }
            match worker.begun {
                Some((task, _)) => {
                    if self.tasks.contains_key(&task) {
                        self.settle(task, Outcome::TimedOut(id), actions);
                    }
                    self.stop(id, task, now, actions);
                }
                // It has not begun until now: not before that time from now is it late.
                None => {
                    if let Some(worker) = self.workers.get_mut(&id) {
                        worker.since = now;
                    }
                }
            }
        }
    }

    /// Makes a worker stop what it is at.
    fn stop(&mut self, id: WorkerId, task: TaskId, now: u64, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.stopping.is_some() {
            return;
        }
        worker.stopping = Some(Stopping {
            task: Some(task),
            stage: Stage::Interrupted,
            next: now.saturating_add(self.policy.escalation.terminate_after),
        });
        actions.push(Action::Interrupt { worker: id, task });
        if worker.tasks.len() > 1 {
            // Whoever is next behind it need not wait, nor be hit by what ends the process.
            let most = usize::MAX;
            actions.push(Action::Recall { worker: id, most });
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

    fn depth(&self) -> usize {
        match self.average {
            None => FIRST_AHEAD,
            Some(average) => (AHEAD / average.max(1)).clamp(1, MOST_AHEAD) as usize,
        }
    }

    fn hand_out(&mut self, now: u64, actions: &mut Vec<Action>) {
        let (depth, most) = (self.depth(), self.policy.max_tasks);
        while !self.waiting.is_empty() {
            let free = self.workers.iter_mut();
            let free = free.filter(|(_, worker)| worker.has_room(depth, most));
            // Who has least; of two, the one that is ready.
            let next = free.min_by_key(|(_, worker)| (worker.tasks.len(), worker.life));
            let Some((&id, worker)) = next else {
                return;
            };
            let Some(task) = self.waiting.pop_front() else {
                return;
            };
            if worker.tasks.is_empty() {
                worker.since = now;
            }
            worker.tasks.push_back(task);
            worker.given += 1;
            self.assigned += 1;
            self.tasks.entry(task).or_default().worker = Some(id);
            actions.push(Action::Assign { worker: id, task });
        }
    }

    /// Nobody waits behind a long task while another worker has nothing to do.
    fn level(&mut self, actions: &mut Vec<Action>) {
        let (depth, most) = (self.depth(), self.policy.max_tasks);
        let mut workers = self.workers.values();
        let idle = workers.any(|worker| {
            worker.life == Life::Ready && worker.tasks.is_empty() && worker.has_room(depth, most)
        });
        if !idle {
            return;
        }
        let longest = self
            .workers
            .iter_mut()
            .max_by_key(|(_, one)| one.to_spare());
        if let Some((&worker, one)) = longest {
            let spare = one.to_spare();
            if spare > 0 && !one.recalling {
                one.recalling = true;
                let most = spare.div_ceil(2);
                actions.push(Action::Recall { worker, most });
            }
        }
    }

    fn settle(&mut self, task: TaskId, outcome: Outcome, actions: &mut Vec<Action>) {
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
        self.unlimit(task);
        true
    }

    fn unlimit(&mut self, task: TaskId) {
        let found = self.limits.iter_mut();
        let mut found = found.filter(|(tasks, ..)| tasks.contains(&task));
        let Some((_, _, left)) = found.next() else {
            return;
        };
        *left -= 1;
        if *left == 0 {
            self.limits.retain(|(_, _, left)| *left > 0);
        }
    }
}

/// The next harder way, when its time has come.
fn harden(
    worker: WorkerId,
    stopping: &mut Stopping,
    escalation: Escalation,
    now: u64,
    actions: &mut Vec<Action>,
) {
    if stopping.next > now {
        return;
    }
    (stopping.stage, stopping.next) = match stopping.stage {
        Stage::Interrupted => {
            actions.push(Action::Terminate(worker));
            (Stage::Terminated, now.saturating_add(escalation.kill_after))
        }
        _ => {
            actions.push(Action::Kill(worker));
            (Stage::Killed, u64::MAX)
        }
    };
}
