//! Stopping workers: whoever is late, or at what is not wanted any more, is interrupted, then asked to end, then killed.

use crate::event::{Action, Outcome};
use crate::policy::Escalation;
use crate::scheduler::Scheduler;
use crate::task::TaskId;
use crate::worker::{Stage, Stopping, Worker, WorkerId};

impl Scheduler {
    /// Whether it matters now who has begun what: somebody has a task with a time limit.
    #[must_use]
    pub fn asks_who_began(&self) -> bool {
        !self.limits.is_empty()
    }

    /// When [`Event::Tick`](crate::Event::Tick) is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let mut next = u64::MAX;
        for worker in self.workers.values() {
            if let Some(again) = worker.unreachable {
                next = next.min(again);
            }
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
        Some(since.saturating_add(self.limits.of(task)?))
    }

    pub(crate) fn tick(&mut self, now: u64, actions: &mut Vec<Action>) {
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            let Some(worker) = self.workers.get_mut(&id) else {
                continue;
            };
            if worker.unreachable.take_if(|again| *again <= now).is_some() {
                self.tried_again(id, now, actions);
            }
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

    /// What was given up while the worker could not be reached is taken back, and it is stopped at it.
    fn tried_again(&mut self, id: WorkerId, now: u64, actions: &mut Vec<Action>) {
        let given_up = |task| !self.tasks.contains_key(&task);
        if self.tasks_of(id).any(given_up) {
            let most = usize::MAX;
            actions.push(Action::Recall { worker: id, most });
        }
        self.stop_next(id, now, actions);
    }

    /// Whether nobody could look if the worker has begun the task.
    pub(crate) fn may_not_have_begun(&self, worker: WorkerId, task: TaskId) -> bool {
        self.workers.get(&worker).is_some_and(|worker| {
            let begun = worker.begun.map(|(task, _)| task);
            worker.unreachable.is_some() && begun != Some(task)
        })
    }

    /// Makes a worker stop what it is at.
    pub(crate) fn stop(&mut self, id: WorkerId, task: TaskId, now: u64, actions: &mut Vec<Action>) {
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

    /// What the worker came to next may have been settled while it was being stopped at the task before.
    pub(crate) fn stop_next(&mut self, id: WorkerId, now: u64, actions: &mut Vec<Action>) {
        let next = self.workers.get(&id).and_then(|one| one.tasks.front());
        if let Some(&task) = next.filter(|task| !self.tasks.contains_key(task)) {
            self.stop(id, task, now, actions);
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
