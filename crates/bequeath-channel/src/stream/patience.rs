//! Looking a little before sleeping, where that has paid lately.
//!
//! Waking a sleeper on another, idle processor takes tens of microseconds on a virtual machine, ten
//! times what a small message takes. A receiver therefore looks for a while before it sleeps, and
//! gives its processor away between two looks (`sched_yield`): with sender and receiver on one
//! processor that is what lets the sender run. Measured on two processors, round trip of a small
//! object from Python: sleeping 13 us on one processor and 40 us across two, looking 11 us and 6 us.
//!
//! Where the message does not come in that time, looking was waste; so each failure doubles the
//! number of receives that go to sleep at once, and a connection that mostly waits long hardly
//! ever looks. A success after the time was up (another process had the processor) is a failure.

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use bequeath_os::Deadline;

/// Enough for a sleeping peer to be woken, to answer, and for the answer to come.
const LOOK: Duration = Duration::from_micros(50);
/// The most receives in a row that do not look.
const LONGEST_REST: u32 = 1 << 10;

/// Whether to look before the next sleep.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// Receives still to go without looking.
    resting: AtomicU32,
    /// How many those are after the next failure.
    rest: AtomicU32,
}

impl Patience {
    /// Repeats `look` until it finds something or the time is up; not at all while resting.
    pub(crate) fn look<T>(&self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let resting = self.resting.load(Ordering::Relaxed);
        if resting != 0 {
            self.resting.store(resting - 1, Ordering::Relaxed);
            return None;
        }
        let end = Deadline::after(LOOK);
        loop {
            let found = look();
            let late = end.is_past();
            if late {
                self.failed();
            } else if found.is_some() {
                self.rest.store(0, Ordering::Relaxed);
            }
            if late || found.is_some() {
                return found;
            }
            std::thread::yield_now();
        }
    }

    fn failed(&self) {
        let rest = self.rest.load(Ordering::Relaxed);
        let rest = (rest * 2 + 1).min(LONGEST_REST);
        self.rest.store(rest, Ordering::Relaxed);
        self.resting.store(rest, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_make_it_rest_longer_and_a_success_forgets_them() {
        let patience = Patience::default();
        let looked = |found: Option<()>| {
            let mut looked = false;
            patience.look(|| {
                looked = true;
                found
            });
            looked
        };
        assert!(looked(None));
        assert!(!looked(None), "rests once after the first failure");
        assert!(looked(None));
        for _ in 0..3 {
            assert!(!looked(None));
        }
        // One that came too late, while somebody else had the processor, is no success.
        while patience.rest.load(Ordering::Relaxed) != 0 {
            looked(Some(()));
        }
        assert!(looked(Some(())));
    }
}
