//! How many children a template keeps ahead, and when it forks the next: at once if starts follow each other, after a
//! pause if several were started together, whose starter needs the processors now.

use std::collections::VecDeque;

use super::spare::Spare;

/// Where several are started together, so many are kept ahead: that starter would wait for the fork of the second.
const TOGETHER: usize = 2;

/// The children that wait.
#[derive(Debug)]
pub(super) struct Ahead {
    next: Next,
    /// The oldest first.
    spares: VecDeque<Spare>,
    /// So many shall wait.
    most: usize,
}

/// When the next one is forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Not before somebody has started a second child.
    NotYet(u32),
    /// When there is nothing else to do.
    Now,
    /// When nothing else has happened for a while.
    Later,
    /// There are enough.
    Enough,
    /// One ended while it waited, or could not be forked.
    Never,
}

impl Ahead {
    pub(super) fn new() -> Self {
        Self {
            next: Next::NotYet(0),
            spares: VecDeque::new(),
            most: 1,
        }
    }

    pub(super) fn next(&self) -> Next {
        self.next
    }

    /// Somebody starts a child, maybe `hurried` among others: the one that serves, if one waits.
    pub(super) fn take(&mut self, hurried: bool) -> Option<Spare> {
        if hurried {
            self.most = TOGETHER;
        }
        self.next = match self.next {
            Next::NotYet(0) => Next::NotYet(1),
            Next::Never => Next::Never,
            _ if hurried => Next::Later,
            _ => Next::Now,
        };
        self.spares.pop_front()
    }

    /// Nothing has happened for a while.
    pub(super) fn pause(&mut self) {
        if self.next == Next::Later {
            self.next = Next::Now;
        }
    }

    pub(super) fn put(&mut self, spare: Spare) {
        self.spares.push_back(spare);
        self.next = if self.spares.len() < self.most {
            Next::Later
        } else {
            Next::Enough
        };
    }

    /// Those that wait do so no more, and none is forked again.
    pub(super) fn give_up(&mut self) -> VecDeque<Spare> {
        self.next = Next::Never;
        std::mem::take(&mut self.spares)
    }

    /// The same, but others take their places.
    pub(super) fn renew(&mut self) -> VecDeque<Spare> {
        if !self.spares.is_empty() {
            self.next = Next::Now;
        }
        std::mem::take(&mut self.spares)
    }
}
