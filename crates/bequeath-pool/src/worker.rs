//! Workers: what the scheduler knows of each.

use std::collections::VecDeque;

use crate::task::TaskId;

/// The number of a worker; a replacement has another one.
pub type WorkerId = u32;

/// How far a worker's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    /// It takes tasks.
    Ready,
    /// Its process is being started, or runs the initializer.
    Starting,
    /// It was told to end, or has used up its tasks.
    Retiring,
}

/// Why a worker is being stopped, and how far that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopping {
    /// The task that shall stop; none when the worker itself shall end.
    pub(crate) task: Option<TaskId>,
    pub(crate) stage: Stage,
    /// When the next stage begins.
    pub(crate) next: u64,
}

/// How it was told, the hardest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Interrupted,
    Terminated,
    Killed,
}

#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) life: Life,
    /// What it was given and has not answered, oldest first.
    pub(crate) tasks: VecDeque<TaskId>,
    /// How many tasks it was given in its life; those taken back are not counted.
    pub(crate) given: u64,
    pub(crate) stopping: Option<Stopping>,
    /// The task that it was seen to have begun, and when.
    pub(crate) begun: Option<(TaskId, u64)>,
    /// When it may have begun the oldest of its tasks at the earliest.
    pub(crate) since: u64,
    /// Tasks are being taken back from it to level the load.
    pub(crate) recalling: bool,
    /// It could not be sent anything, and when that is tried again.
    pub(crate) unreachable: Option<u64>,
}

impl Worker {
    pub(crate) fn new(now: u64) -> Self {
        Self {
            life: Life::Starting,
            tasks: VecDeque::new(),
            given: 0,
            stopping: None,
            begun: None,
            since: now,
            recalling: false,
            unreachable: None,
        }
    }

    /// Whether it may be given one task more.
    pub(crate) fn has_room(&self, depth: usize, most: Option<u64>) -> bool {
        self.life != Life::Retiring
            && self.stopping.is_none()
            && self.unreachable.is_none()
            && self.tasks.len() < depth
            && most.is_none_or(|most| self.given < most)
    }

    /// How many of its tasks it surely has not begun, as far as one can know from here.
    pub(crate) fn to_spare(&self) -> usize {
        match self.life {
            Life::Starting => self.tasks.len(),
            _ => self.tasks.len().saturating_sub(1),
        }
    }

    /// It is no more at the task, or has never been: it goes on if it was only interrupted.
    pub(crate) fn need_not_stop(&mut self, task: TaskId) {
        let only_interrupted = |stopping: &Stopping| {
            stopping.task == Some(task) && stopping.stage == Stage::Interrupted
        };
        if self.stopping.as_ref().is_some_and(only_interrupted) {
            self.stopping = None;
        }
    }

    /// Strikes a task from what it has; false when it does not have it.
    pub(crate) fn forget(&mut self, task: TaskId) -> bool {
        if self.begun.is_some_and(|(begun, _)| begun == task) {
            self.begun = None;
        }
        // Nearly always the first.
        let at = self.tasks.iter().position(|&one| one == task);
        at.and_then(|at| self.tasks.remove(at)).is_some()
    }
}
