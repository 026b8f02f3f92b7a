//! Whether to look for a while before sleeping.
//!
//! A sleeper that is woken on another, idle processor comes back after 30 microseconds and more; one
//! that kept looking sees the same change within a fraction of one. But looking keeps a processor from
//! others, and pays only when the other end runs on a processor of its own and answers soon. Nobody can
//! tell beforehand, so each thread tries now and then and goes on for as long as it pays:
//!
//! - a look lasts at most [`LONGEST`], about what the sleep would cost, and at most once per sleep: whoever waits
//!   long is not looking;
//! - the first attempt comes after [`FIRST`] waits, so whoever waits rarely never looks;
//! - each attempt in vain doubles the number of waits until the next, up to [`RAREST`]: where it never
//!   pays it costs a thousandth of a look per wait;
//! - with one usable processor (affinity or quota) there is no attempt at all: nobody could answer.

use core::cell::Cell;
use core::time::Duration;

use bequeath_os::{limits, Deadline};

const LONGEST: Duration = Duration::from_micros(20);
/// Looks between two readings of the clock.
const LOOKS: u32 = 32;
const FIRST: u16 = 16;
const RAREST: u16 = 1024;

/// A thread's experience. A forked child begins with its parent's, which is as good as any.
#[derive(Clone, Copy)]
struct Experience {
    /// Waits until the next attempt, that one included; zero while looking pays.
    pause: u16,
    /// The pause after the next attempt in vain.
    next_pause: u16,
}

thread_local! {
    static EXPERIENCE: Cell<Experience> = const {
        Cell::new(Experience { pause: FIRST, next_pause: 2 * FIRST })
    };
}

/// Looks for `has_come` for a while if that paid lately; true if it came.
pub(crate) fn look(has_come: impl Fn() -> bool) -> bool {
    // A model knows no time: it would only try the same interleavings again.
    if crate::atomic::IS_MODEL || !EXPERIENCE.with(is_due) {
        return false;
    }
    let until = Deadline::after(LONGEST);
    loop {
        for _ in 0..LOOKS {
            if has_come() {
                EXPERIENCE.with(|experience| {
                    experience.set(Experience {
                        pause: 0,
                        next_pause: 2,
                    });
                });
                return true;
            }
            crate::atomic::spin_loop();
        }
        if until.is_past() {
            return false;
        }
    }
}

/// Whether to look now. Counts as in vain until it has come.
fn is_due(experience: &Cell<Experience>) -> bool {
    let Experience { pause, next_pause } = experience.get();
    if pause > 1 {
        experience.set(Experience {
            pause: pause - 1,
            next_pause,
        });
        return false;
    }
    experience.set(Experience {
        pause: next_pause,
        next_pause: (next_pause * 2).min(RAREST),
    });
    // The affinity is asked again at each attempt after a pause, since programs change it: workers
    // bind themselves to a processor each. While it pays there is another processor.
    pause == 0 || (limits::usable_processors() > 1 && limits::is_free_to_move())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits_until_due(experience: &Cell<Experience>) -> usize {
        (1..=2 * usize::from(RAREST))
            .find(|_| is_due(experience))
            .unwrap_or(usize::MAX)
    }

    #[test]
    fn attempts_in_vain_become_rare_and_a_paying_one_brings_them_back() {
        if limits::usable_processors() < 2 || !limits::is_free_to_move() {
            println!("skipped: one processor");
            return;
        }
        let experience = Cell::new(Experience {
            pause: FIRST,
            next_pause: 2 * FIRST,
        });
        let waits: Vec<_> = (0..8).map(|_| waits_until_due(&experience)).collect();
        assert_eq!(waits, [16, 32, 64, 128, 256, 512, 1024, 1024]);
        for _ in 0..100 {
            // As `look` sets it when something came.
            experience.set(Experience {
                pause: 0,
                next_pause: 2,
            });
            assert_eq!(waits_until_due(&experience), 1);
        }
        assert_eq!(waits_until_due(&experience), 2);
    }

    #[test]
    fn a_thread_bound_to_one_processor_never_looks() {
        let looks = core::cell::Cell::new(0);
        let wait_in_vain = || {
            for _ in 0..2 * RAREST {
                look(|| {
                    looks.set(looks.get() + 1);
                    false
                });
            }
            looks.take()
        };
        assert_eq!(bequeath_testing::with_one_processor(wait_in_vain), 0);
        if limits::usable_processors() > 1 && limits::is_free_to_move() {
            assert!(wait_in_vain() > 0, "a free one does");
        }
    }
}
