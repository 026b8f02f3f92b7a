//! Who is given what: workers have tasks ahead of time, and none waits behind a long one while another has nothing.

use crate::event::Action;
use crate::scheduler::Scheduler;
use crate::task::TaskId;
use crate::worker::{Life, WorkerId};

/// Tasks are handed out ahead for so many nanoseconds of work.
const AHEAD: u64 = 1_000_000;
/// The most tasks that a worker has at a time.
const MOST_AHEAD: u64 = 128;
/// And while nobody knows how long tasks take.
const FIRST_AHEAD: usize = 2;
/// Tasks per worker that wait besides, for moments when nobody brings new ones.
const SPARE: usize = 8;
/// A worker that could not be reached is tried again after so many nanoseconds.
const AGAIN: u64 = 20_000_000;

impl Scheduler {
    /// How many open tasks keep the workers busy: what they are given ahead, as much again, and some.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        (self.policy.workers * (2 * self.depth() + SPARE)) as u64
    }

    fn depth(&self) -> usize {
        match self.average {
            None => FIRST_AHEAD,
            Some(average) => (AHEAD / average.max(1)).clamp(1, MOST_AHEAD) as usize,
        }
    }

    pub(crate) fn hand_out(&mut self, now: u64, actions: &mut Vec<Action>) {
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

    /// Others are given what it cannot be given; if there is nobody, it waits.
    pub(crate) fn unreachable(
        &mut self,
        worker: WorkerId,
        task: Option<TaskId>,
        now: u64,
        actions: &mut Vec<Action>,
    ) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.unreachable = Some(now.saturating_add(AGAIN));
        }
        if let Some(task) = task {
            self.recalled(worker, task, actions);
        }
    }

    /// Nobody waits behind a long task while another worker has nothing to do.
    pub(crate) fn level(&mut self, actions: &mut Vec<Action>) {
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
            .filter(|(_, one)| one.unreachable.is_none())
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
}
