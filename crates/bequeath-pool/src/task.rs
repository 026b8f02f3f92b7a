//! Tasks: their numbers, who waits, and what is known of one that does not merely wait.

use std::collections::VecDeque;
use std::ops::Range;

use crate::worker::WorkerId;

/// The number of a task; later tasks have larger ones, and none is used twice.
pub type TaskId = u64;

/// Tasks with consecutive numbers.
pub type TaskIds = Range<TaskId>;

/// Where a task is that has been submitted and not settled. Those without an entry wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Task {
    /// Who has it; nobody while it waits again.
    pub(crate) worker: Option<WorkerId>,
    /// How often a worker died of it.
    pub(crate) deaths: u32,
    /// It shall not run if it can be taken back.
    pub(crate) unwanted: bool,
}

/// Tasks that wait for a worker, the next one in front. A hundred thousand of one call are one entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    ranges: VecDeque<TaskIds>,
    count: u64,
}

impl Waiting {
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn push_back(&mut self, tasks: TaskIds) {
        if tasks.is_empty() {
            return;
        }
        self.count += tasks.end - tasks.start;
        match self.ranges.back_mut() {
            Some(last) if last.end == tasks.start => last.end = tasks.end,
            _ => self.ranges.push_back(tasks),
        }
    }

    pub(crate) fn push_front(&mut self, task: TaskId) {
        self.count += 1;
        match self.ranges.front_mut() {
            Some(first) if first.start == task + 1 => first.start = task,
            _ => self.ranges.push_front(task..task + 1),
        }
    }

    pub(crate) fn pop_front(&mut self) -> Option<TaskId> {
        let first = self.ranges.front_mut()?;
        let task = first.start;
        first.start += 1;
        if first.is_empty() {
            self.ranges.pop_front();
        }
        self.count -= 1;
        Some(task)
    }

    /// Takes one task out of the middle; false when it does not wait.
    pub(crate) fn remove(&mut self, task: TaskId) -> bool {
        let Some(at) = self.ranges.iter().position(|range| range.contains(&task)) else {
            return false;
        };
        let range = self.ranges[at].clone();
        let parts = [range.start..task, task + 1..range.end];
        self.ranges.remove(at);
        for part in parts.into_iter().rev().filter(|part| !part.is_empty()) {
            self.ranges.insert(at, part);
        }
        self.count -= 1;
        true
    }

    pub(crate) fn contains(&self, task: TaskId) -> bool {
        self.ranges.iter().any(|range| range.contains(&task))
    }

    pub(crate) fn take(&mut self) -> impl Iterator<Item = TaskId> {
        self.count = 0;
        std::mem::take(&mut self.ranges).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_leave_in_the_order_they_came_but_for_those_put_in_front() {
        let mut waiting = Waiting::default();
        waiting.push_back(0..3);
        waiting.push_back(3..5);
        assert_eq!(waiting.pop_front(), Some(0));
        waiting.push_front(0);
        assert!(waiting.remove(2) && !waiting.remove(2) && !waiting.contains(2));
        waiting.push_back(9..9);
        assert_eq!(waiting.count(), 4);
        assert_eq!(waiting.take().collect::<Vec<_>>(), [0, 1, 3, 4]);
        assert!(waiting.is_empty() && waiting.pop_front().is_none());
    }
}
