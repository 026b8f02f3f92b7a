//! A pool without processes: workers that do as the test says, and the books that must balance.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bequeath_pool::{Action, Event, Outcome, Policy, Scheduler, TaskId, WorkerId};

/// A worker as a real one would be: a queue, a task in hand, and a process that may end.
#[derive(Default, Debug)]
pub struct Fake {
    pub queue: VecDeque<TaskId>,
    pub in_hand: Option<TaskId>,
    pub ready: bool,
    pub told_to_end: bool,
    pub terminated: bool,
    /// Nothing can be sent to it.
    pub unreachable: bool,
    /// The task that it was last asked to stop.
    pub asked: Option<TaskId>,
}

pub struct World {
    pub scheduler: Scheduler,
    pub now: u64,
    pub workers: BTreeMap<WorkerId, Fake>,
    /// What became of each task.
    pub settled: BTreeMap<TaskId, String>,
    /// How often each was begun.
    pub begun: BTreeMap<TaskId, u32>,
    pub submitted: TaskId,
    pub ended: bool,
    pub broke: bool,
    pub policy: Policy,
    /// What workers have answered and nobody has heard, if that takes its time.
    pub answers: VecDeque<(WorkerId, TaskId)>,
    pub is_slow: bool,
    /// Actions that are to be carried out, and whether that is being done.
    due: VecDeque<Action>,
    acts: bool,
    /// Kinds of actions that were seen.
    pub seen: BTreeSet<String>,
}

impl World {
    pub fn new(policy: Policy) -> Self {
        let mut world = Self {
            scheduler: Scheduler::new(policy),
            now: 1,
            workers: BTreeMap::new(),
            settled: BTreeMap::new(),
            begun: BTreeMap::new(),
            submitted: 0,
            ended: false,
            broke: false,
            policy,
            answers: VecDeque::new(),
            is_slow: false,
            due: VecDeque::new(),
            acts: false,
            seen: BTreeSet::new(),
        };
        world.tell(Event::Open);
        world
    }

    pub fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.scheduler.handle(event, self.now, &mut actions);
        // As the driver does: what follows from an action comes after those that are due.
        self.due.extend(actions);
        if !std::mem::replace(&mut self.acts, true) {
            while let Some(action) = self.due.pop_front() {
                self.act(action);
            }
            self.acts = false;
        }
    }

    pub fn see(&mut self, what: &str) {
        self.seen.insert(what.to_owned());
    }

    /// Where a task is that is not settled.
    fn state_of(&self, task: TaskId) -> &'static str {
        let mut workers = self.workers.values();
        if workers.clone().any(|one| one.in_hand == Some(task)) {
            "begun"
        } else if workers.any(|one| one.queue.contains(&task)) {
            "handed out"
        } else if self.begun.contains_key(&task) {
            "waiting again after a death"
        } else {
            "waiting"
        }
    }

    fn settle(&mut self, task: TaskId, how: String) {
        for word in ["Cancelled", "Broken", "Terminated"] {
            if how.starts_with(word) {
                let state = self.state_of(task);
                self.see(&format!("{} {state}", word.to_lowercase()));
            }
        }
        let before = self.settled.insert(task, how);
        assert!(
            before.is_none(),
            "task {task} was settled twice: {before:?}"
        );
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start(worker) => {
                self.see("start");
                let new = self.workers.insert(worker, Fake::default());
                assert!(new.is_none(), "a worker's number was used twice");
                assert!(
                    self.workers.len() <= self.policy.workers,
                    "too many workers"
                );
            }
            Action::Assign { worker, task } => {
                self.see("assign");
                assert!(!self.settled.contains_key(&task), "given out after its end");
                let everywhere = self.workers.values();
                let elsewhere =
                    everywhere.filter(|one| one.queue.contains(&task) || one.in_hand == Some(task));
                assert_eq!(elsewhere.count(), 0, "task {task} was given to two");
                if self.begun.contains_key(&task) {
                    self.see("tried again");
                }
                let fake = self.workers.get_mut(&worker).expect("given to nobody");
                assert!(!fake.told_to_end, "given to one that was told to end");
                if fake.unreachable {
                    self.see("not reached");
                    let task = Some(task);
                    return self.tell(Event::Unreachable { worker, task });
                }
                fake.queue.push_back(task);
            }
            Action::Recall { worker, most } => {
                self.see("recall");
                let mut back = Vec::new();
                if self
                    .workers
                    .get(&worker)
                    .is_some_and(|fake| fake.unreachable)
                {
                    self.tell(Event::Unreachable { worker, task: None });
                } else if let Some(fake) = self.workers.get_mut(&worker) {
                    while back.len() < most {
                        let Some(task) = fake.queue.pop_front() else {
                            break;
                        };
                        back.push(task);
                    }
                }
                for task in back.into_iter().rev() {
                    self.tell(Event::Recalled { worker, task });
                }
                self.tell(Event::RecallEnded(worker));
            }
            Action::Retire(worker) => {
                self.see("retire");
                self.worker(worker).told_to_end = true;
            }
            Action::Interrupt { worker, task } => {
                self.see("interrupt");
                self.worker(worker).asked = Some(task);
                if self.is_slow && task % 2 == 0 && self.worker(worker).in_hand == Some(task) {
                    // Every other one is followed at once, before anything else is done here.
                    self.step(worker);
                    self.step(worker);
                }
            }
            Action::Terminate(worker) => {
                self.see("terminate");
                self.worker(worker).terminated = true;
            }
            Action::Kill(worker) => {
                self.see("kill");
                self.worker(worker).terminated = true;
            }
            Action::Deliver(task) => {
                self.see("deliver");
                self.settle(task, "delivered".into());
            }
            Action::Settle { task, outcome } => {
                self.see(match outcome {
                    Outcome::Died(_) => "died",
                    Outcome::TimedOut(_) => "timed out",
                    Outcome::Cancelled(None) => "cancelled",
                    Outcome::Cancelled(_) => "stopped",
                    Outcome::Broken(_) => "broken",
                    _ => "terminated",
                });
                self.settle(task, format!("{outcome:?}"));
            }
            Action::Broke(_) => {
                self.see("broke");
                assert!(!self.broke, "broke twice");
                self.broke = true;
            }
            Action::AllEnded => {
                assert!(!self.ended, "ended twice");
                assert!(self.workers.is_empty(), "ended with workers");
                self.ended = true;
            }
            other => panic!("what is {other:?}?"),
        }
    }

    fn worker(&mut self, worker: WorkerId) -> &mut Fake {
        self.workers
            .get_mut(&worker)
            .expect("nobody of that number")
    }

    /// The n-th of the workers there are, if any.
    pub fn nth(&self, n: usize) -> Option<WorkerId> {
        let count = self.workers.len();
        self.workers.keys().nth(n % count.max(1)).copied()
    }

    pub fn submit(&mut self, count: u64, timeout: Option<u64>) {
        let tasks = self.submitted..self.submitted + count;
        self.submitted += count;
        self.tell(Event::Submitted { tasks, timeout });
    }

    /// The worker takes one step: it gets ready, begins a task, or answers.
    pub fn step(&mut self, worker: WorkerId) {
        self.now += 10;
        let fake = self.worker(worker);
        if !fake.ready {
            fake.ready = true;
            return self.tell(Event::Ready(worker));
        }
        if let Some(task) = fake.in_hand.take() {
            self.answers.push_back((worker, task));
            if !self.is_slow {
                self.hear();
            }
            return;
        }
        if let Some(task) = fake.queue.pop_front() {
            fake.in_hand = Some(task);
            *self.begun.entry(task).or_default() += 1;
            return;
        }
        if fake.told_to_end {
            self.end(worker);
        }
    }

    /// The oldest answer is heard.
    pub fn hear(&mut self) {
        if let Some((worker, task)) = self.answers.pop_front() {
            let took = 10;
            self.tell(Event::Answered { worker, task, took });
        }
    }

    /// Nobody goes on with a task that was given up: its worker was asked to stop, or is waited for to end what
    /// it was asked to stop before.
    pub fn check_nothing_is_done_for_nothing(&self) {
        for (id, fake) in &self.workers {
            let Some(task) = fake.in_hand else { continue };
            let given_up = self.settled.contains_key(&task);
            let unheard = self.answers.iter().any(|(worker, _)| worker == id);
            assert!(
                !given_up || fake.terminated || unheard || fake.asked == Some(task),
                "worker {id} goes on with task {task}"
            );
        }
    }

    /// The worker's process ends, whatever it was at.
    pub fn end(&mut self, worker: WorkerId) {
        while self.answers.iter().any(|(from, _)| *from == worker) {
            self.hear();
        }
        if let Some(fake) = self.workers.remove(&worker) {
            let state = match &fake {
                fake if fake.terminated => "terminated",
                fake if fake.asked.is_some() && fake.asked == fake.in_hand => "interrupted",
                fake if !fake.ready => "starting",
                fake if fake.in_hand.is_some() => "at a task",
                fake if fake.told_to_end => "told to end",
                _ => "idle",
            };
            self.see(&format!("a worker died {state}"));
            let begun = fake.in_hand;
            self.tell(Event::Ended { worker, begun });
        }
    }

    /// The driver's clock: who has begun what, and what is late.
    pub fn tick(&mut self, passed: u64) {
        self.now += passed;
        let workers = self.workers.iter();
        let begun: Vec<_> = workers
            .filter_map(|(&worker, fake)| Some((worker, fake.in_hand?)))
            .collect();
        for (worker, task) in begun {
            let at = self.now.saturating_sub(passed);
            self.tell(Event::Began { worker, task, at });
        }
        self.tell(Event::Tick);
    }

    /// As the driver does: first it is taken back, then whoever is at it is stopped.
    pub fn cancel(&mut self, task: TaskId, running: bool) {
        for running in [false, running] {
            if self.scheduler.is_open(task) {
                let state = self.state_of(task);
                self.see(&format!("given up {state}"));
                self.tell(Event::Cancelled { task, running });
            }
        }
    }

    /// Lets everybody work until nothing moves.
    pub fn finish(&mut self) {
        for fake in self.workers.values_mut() {
            fake.unreachable = false;
        }
        self.tell(Event::Closed);
        for _ in 0..100_000 {
            while !self.answers.is_empty() {
                self.hear();
            }
            let all: Vec<WorkerId> = self.workers.keys().copied().collect();
            let fakes = self.workers.values();
            if fakes
                .clone()
                .all(|fake| fake.ready && fake.queue.is_empty() && fake.in_hand.is_none())
            {
                // Perhaps all were out of reach.
                if let Some(at) = self.scheduler.next_deadline() {
                    self.now = self.now.max(at);
                    self.tick(0);
                }
            }
            for one in all {
                if self.workers.get(&one).is_some_and(|fake| fake.terminated) {
                    self.end(one);
                } else if self.workers.contains_key(&one) {
                    self.step(one);
                    self.leave_if_done(one);
                }
            }
            if self.ended {
                break;
            }
        }
        assert!(self.ended, "no end: {:?}", self.workers);
    }

    /// A worker that has done as many tasks as it may ends by itself.
    pub fn leave_if_done(&mut self, worker: WorkerId) {
        let spent = self.scheduler.is_spent(worker);
        if spent
            && self
                .workers
                .get(&worker)
                .is_some_and(|fake| fake.in_hand.is_none())
        {
            self.end(worker);
        }
    }
}
