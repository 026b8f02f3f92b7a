//! [`Interrupts`]: a worker's side of the parent's interrupts, each of which is for one task, and hits that one or nothing.
//!
//! The parent marks the task where the worker can see it, and then sends a signal. Whether the mark, the signal or the
//! task's beginning comes first is chance: a signal may find its task not begun yet, and a mark may be found
//! before its signal comes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::task::TaskId;

/// What a signal means to the worker that gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The parent wants the task in hand to stop.
    Task,
    /// It wanted one to stop that is not in hand.
    Stale,
    /// It is not the parent's, and a task is in hand.
    Busy,
    /// It is not the parent's, and none is.
    Idle,
}

/// What a worker knows of them. Only its main thread uses this, in which handlers of signals run as well, between its
/// steps.
#[derive(Debug, Default)]
pub struct Interrupts {
    /// The one for the task in hand has come.
    hit: AtomicBool,
    /// The task, plus one, whose signal came while none was in hand: maybe the next one's.
    early: AtomicU64,
    /// A mark was followed before its signal: that one is still to come, and means nothing.
    owed: AtomicBool,
}

impl Interrupts {
    /// A signal came. `mark` is the task that the parent had marked, which is no more marked now.
    pub fn signalled(&self, mark: Option<TaskId>, in_hand: Option<TaskId>) -> Signal {
        match mark {
            Some(_) if mark == in_hand => {
                self.hit.store(true, Ordering::Relaxed);
                Signal::Task
            }
            Some(task) => {
                if in_hand.is_none() {
                    self.early.store(task + 1, Ordering::Relaxed);
                }
                Signal::Stale
            }
            None if self.owed.swap(false, Ordering::Relaxed) => Signal::Stale,
            None if in_hand.is_some() => Signal::Busy,
            None => Signal::Idle,
        }
    }

    /// Whether a task that is just being begun is not wanted already. `is_marked` if the parent had marked it, which it
    /// is no more now.
    pub fn precedes(&self, task: TaskId, is_marked: bool) -> bool {
        let was_early = self.early.swap(0, Ordering::Relaxed) == task + 1;
        if is_marked {
            self.owed.store(true, Ordering::Relaxed);
        }
        self.hit.store(was_early || is_marked, Ordering::Relaxed);
        was_early || is_marked
    }

    /// Whether it came for the task that ends now.
    pub fn take(&self) -> bool {
        self.hit.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_hits_its_task_whichever_comes_first() {
        let own = Interrupts::default();
        assert!(!own.precedes(1, false));
        assert_eq!(own.signalled(Some(1), Some(1)), Signal::Task);
        assert!(own.take() && !own.take());

        // The signal comes before the task is begun.
        assert_eq!(own.signalled(Some(2), None), Signal::Stale);
        assert!(own.precedes(2, false) && own.take());

        // The mark is found before the signal, which then hits nobody.
        assert!(own.precedes(3, true) && own.take());
        assert!(!own.precedes(4, false));
        assert_eq!(own.signalled(None, Some(4)), Signal::Stale);
        assert_eq!(own.signalled(None, Some(4)), Signal::Busy);
        assert!(!own.take());

        // It comes too late, and the next task is another one.
        assert_eq!(own.signalled(Some(4), None), Signal::Stale);
        assert!(!own.precedes(5, false) && !own.take());
        assert_eq!(own.signalled(Some(4), Some(5)), Signal::Stale);
        assert_eq!(own.signalled(None, None), Signal::Idle);
    }
}
