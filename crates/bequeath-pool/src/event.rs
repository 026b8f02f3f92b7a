//! What the scheduler is told, and what it asks for: its whole interface.

use crate::task::{TaskId, TaskIds};
use crate::worker::WorkerId;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Nothing yet: start what shall run from the beginning.
    Open,
    /// There are these tasks to run; each may take so long, in nanoseconds, from its beginning.
    Submitted {
        /// Their numbers.
        tasks: TaskIds,
        /// The time that each may take.
        timeout: Option<u64>,
    },
    /// The worker's initializer is done.
    Ready(WorkerId),
    /// The worker's initializer raised.
    InitializerFailed(WorkerId),
    /// No process could be started for the worker.
    StartFailed(WorkerId),
    /// The worker was seen to have begun the task, at that time.
    Began {
        /// Who.
        worker: WorkerId,
        /// What.
        task: TaskId,
        /// When, in nanoseconds.
        at: u64,
    },
    /// The worker has sent what came of the task.
    Answered {
        /// Who.
        worker: WorkerId,
        /// What.
        task: TaskId,
        /// How long it took, in nanoseconds.
        took: u64,
    },
    /// The task was taken back from the worker, which has not begun it.
    Recalled {
        /// From whom.
        worker: WorkerId,
        /// What.
        task: TaskId,
    },
    /// As many tasks were taken back from the worker as could be.
    RecallEnded(WorkerId),
    /// The worker cannot be reached for now, as one that is stopped with its queue in its hands: the task, if there is
    /// one, was not sent.
    Unreachable {
        /// Who.
        worker: WorkerId,
        /// What.
        task: Option<TaskId>,
    },
    /// The task could not be handed over: its driver has settled it, and no worker will see it.
    Refused(TaskId),
    /// The worker's process has ended, and all that it had sent has been told.
    Ended {
        /// Who.
        worker: WorkerId,
        /// The task in its hands.
        begun: Option<TaskId>,
    },
    /// The task is not wanted any more. First without `running`: one that nobody has begun is taken back. One that is
    /// still open after that has been begun, and is stopped with `running`.
    Cancelled {
        /// What.
        task: TaskId,
        /// Also if it has begun.
        running: bool,
    },
    /// What workers answer cannot be read any more: no open task will ever be told.
    Unreadable,
    /// Time has passed.
    Tick,
    /// No more tasks will come.
    Closed,
    /// All shall end at once.
    Terminated,
    /// All shall end, by the hardest means.
    Killed,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Start a process for this new worker.
    Start(WorkerId),
    /// Send the task to the worker.
    Assign {
        /// To whom.
        worker: WorkerId,
        /// What.
        task: TaskId,
    },
    /// Take back up to so many tasks that the worker has not begun, and tell each.
    Recall {
        /// From whom.
        worker: WorkerId,
        /// How many at most.
        most: usize,
    },
    /// Tell the worker to end when it has done what it was given.
    Retire(WorkerId),
    /// Interrupt the worker if it is at this task.
    Interrupt {
        /// Whom.
        worker: WorkerId,
        /// At what.
        task: TaskId,
    },
    /// Ask the worker's process to end.
    Terminate(WorkerId),
    /// End the worker's process.
    Kill(WorkerId),
    /// What the worker answered is the task's outcome.
    Deliver(TaskId),
    /// The task will have no answer.
    Settle {
        /// Which.
        task: TaskId,
        /// What became of it.
        outcome: Outcome,
    },
    /// The pool is broken: tasks are settled as such from now on.
    Broke(Why),
    /// No worker is left, and none will come.
    AllEnded,
}

/// How a task ended that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The worker died with it in its hands.
    Died(WorkerId),
    /// It took longer than it may.
    TimedOut(WorkerId),
    /// It was not wanted any more; the worker had begun it, if there is one.
    Cancelled(Option<WorkerId>),
    /// The pool broke.
    Broken(Why),
    /// The pool was terminated.
    Terminated,
}

/// Why a pool is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// A worker's initializer raised.
    Initializer(WorkerId),
    /// Workers end again and again before they are ready.
    NeverReady(WorkerId),
    /// No process could be started.
    NoProcess(WorkerId),
    /// A worker died, and the policy is that this ends all.
    Death(WorkerId),
    /// What workers answer cannot be read.
    Unreadable,
}
