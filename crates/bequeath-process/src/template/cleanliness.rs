//! Whether a template may still be forked from: what a module started and left running would be
//! missing in the child (threads), doubled (timers, buffers behind sockets) or somebody else's
//! (children).

use std::os::fd::RawFd;

use bequeath_os::leftovers;

/// What a process has beside its memory, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleanliness {
    threads: usize,
    descriptors: Vec<(RawFd, u64, u64)>,
    children: bool,
    timers: bool,
}

impl Cleanliness {
    /// Of this process, now.
    #[must_use]
    pub fn observe() -> Self {
        Self {
            threads: leftovers::threads(),
            descriptors: leftovers::descriptors(),
            children: leftovers::has_children(),
            timers: leftovers::has_timers(),
        }
    }

    /// What is there now that was not before; `None` when nothing is.
    #[must_use]
    pub fn difference(&self, later: &Self) -> Option<String> {
        let fresh = |entry: &&(RawFd, u64, u64)| !self.descriptors.contains(entry);
        let descriptors = later.descriptors.iter().filter(fresh).count();
        let mut left = Vec::new();
        if later.threads > self.threads {
            left.push(format!("{} threads", later.threads - self.threads));
        }
        if descriptors > 0 {
            left.push(format!("{descriptors} open descriptors"));
        }
        if later.children && !self.children {
            left.push("children".into());
        }
        if later.timers && !self.timers {
            left.push("timers".into());
        }
        (!left.is_empty()).then(|| left.join(", "))
    }
}
