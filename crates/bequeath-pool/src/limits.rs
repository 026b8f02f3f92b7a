//! [`Limits`]: how long tasks may take.

use crate::task::{TaskId, TaskIds};

/// Tasks with a time limit, those of one call together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// The limit in nanoseconds, and how many of the tasks are not settled.
    calls: Vec<(TaskIds, u64, u64)>,
}

impl Limits {
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(crate) fn add(&mut self, tasks: &TaskIds, limit: u64) {
        let count = tasks.end - tasks.start;
        if count > 0 {
            self.calls.push((tasks.clone(), limit, count));
        }
    }

    /// What the task may take.
    pub(crate) fn of(&self, task: TaskId) -> Option<u64> {
        let found = self.calls.iter().find(|(tasks, ..)| tasks.contains(&task));
        found.map(|(_, limit, _)| *limit)
    }

    /// The task is settled.
    pub(crate) fn forget(&mut self, task: TaskId) {
        let found = self.calls.iter_mut();
        let mut found = found.filter(|(tasks, ..)| tasks.contains(&task));
        let Some((_, _, left)) = found.next() else {
            return;
        };
        *left -= 1;
        if *left == 0 {
            self.calls.retain(|(_, _, left)| *left > 0);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.calls.clear();
    }
}
