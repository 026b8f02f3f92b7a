//! Where threads go to wait: the only caller of the futex, its stand-in for loom, and what every
//! wait has in common (slices, interrupts, spinning).

use core::time::Duration;

use bequeath_os::{limits, Deadline};

pub use bequeath_os::futex::Wait;

use crate::error::Holder;

#[cfg(not(any(loom, shuttle)))]
pub(crate) use kernel::{wait, wait_low, wake, wake_low, wake_op};
#[cfg(any(loom, shuttle))]
pub(crate) use model::{wait, wait_low, wake, wake_low, wake_op};

/// The longest sleep on a condition before the sleeper looks again. Only one case needs it: the
/// sleeper that was chosen by a wake died before it acted.
pub const SLICE: Duration = Duration::from_millis(200);
/// The same after many slices in which nothing happened.
pub const IDLE_SLICE: Duration = Duration::from_secs(1);
/// After so long a wait its [`Interrupt`] is told for whom.
pub const LONG_WAIT: Duration = Duration::from_secs(5);

/// The caller's say while it waits. Called with nothing held.
pub trait Interrupt {
    /// Runs after a signal and after each slice; an error ends the wait.
    ///
    /// # Errors
    /// [`Interrupted`] to give up waiting.
    fn check(&mut self) -> Result<(), Interrupted>;

    /// Told once per wait, after [`LONG_WAIT`], who is in the way.
    fn long_wait(&mut self, _holder: Holder) {}
}

/// The caller gave up waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// Never interrupts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

impl Interrupt for Never {
    fn check(&mut self) -> Result<(), Interrupted> {
        Ok(())
    }
}

/// Sleeps that grow: how long one wait may sleep before it looks again.
#[derive(Clone, Copy, Debug)]
pub struct Slices {
    next: Duration,
    longest: Duration,
}

impl Slices {
    /// Two milliseconds, doubling up to `longest`: for a word whose owner may be dead.
    #[must_use]
    pub const fn growing(longest: Duration) -> Self {
        Self {
            next: Duration::from_millis(2),
            longest,
        }
    }

    /// For a place where sleepers need a look only after a rare death: the longer nothing happens,
    /// the longer it sleeps.
    #[must_use]
    pub const fn idle() -> Self {
        Self {
            next: SLICE,
            longest: IDLE_SLICE,
        }
    }

    /// When to look again, at `deadline` at the latest.
    pub fn next(&mut self, deadline: Deadline) -> Deadline {
        let until = Deadline::after(self.next).earlier(deadline);
        self.next = (self.next * 2).min(self.longest);
        until
    }
}

/// How often to look at a held word before sleeping: a critical section is shorter than a sleep,
/// but on one processor nobody can leave it while we look.
#[must_use]
pub fn lock_spins() -> u32 {
    if crate::atomic::IS_MODEL || limits::usable_processors() <= 1 {
        0
    } else {
        50
    }
}

#[cfg(not(any(loom, shuttle)))]
mod kernel {
    use core::sync::atomic::{AtomicU32, AtomicU64};

    use bequeath_os::futex::{self, Wait};
    use bequeath_os::{Deadline, Result};

    pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Deadline) -> Wait {
        futex::wait(word, expected, deadline)
    }

    pub(crate) fn wake(word: &AtomicU32, count: u32) -> usize {
        futex::wake(word, count)
    }

    pub(crate) fn wait_low(word: &AtomicU64, expected: u32, deadline: Deadline) -> Wait {
        // Only the kernel may read half of what others store as a whole: for Miri that would be a race, so
        // that there one looks again and again.
        if cfg!(miri) {
            std::thread::yield_now();
            return Wait::Woken;
        }
        futex::wait(futex::low_half(word), expected, deadline)
    }

    pub(crate) fn wake_low(word: &AtomicU64, count: u32) -> usize {
        if cfg!(miri) {
            return 0;
        }
        futex::wake(futex::low_half(word), count)
    }

    pub(crate) fn wake_op(
        event: &AtomicU32,
        count: u32,
        word: &AtomicU64,
        value: u16,
    ) -> Result<usize> {
        futex::wake_op_set(event, count, futex::low_half(word), value)
    }
}

/// The futex as a model checker sees it: exactly as many woken as asked for, nobody woken without a
/// reason, and no time. A wait for a dead owner "times out" at once, and where deaths are played every wait
/// during which somebody died, since the dead may have been the one that was woken; any other wait without a
/// waker is a deadlock, which is reported.
#[cfg(any(loom, shuttle))]
mod model {
    use crate::atomic::checker::{
        self,
        sync::{Condvar, Mutex},
    };

    use bequeath_os::futex::Wait;
    use bequeath_os::{Deadline, Result};

    use crate::atomic::{AtomicU32, AtomicU64, Ordering};
    use crate::owner::ProcessId;

    checker::lazy_static! {
        static ref BEDS: Mutex<Beds> = Mutex::new(Beds::default());
        static ref WAKING: Condvar = Condvar::new();
    }

    #[derive(Default)]
    struct Beds {
        asleep: Vec<(u64, u64)>,
        next: u64,
    }

    impl Beds {
        fn wake(&mut self, address: u64, count: u32) -> usize {
            let mut woken = 0;
            self.asleep.retain(|(at, _)| {
                let wakes = *at == address && woken < count as usize;
                woken += usize::from(wakes);
                !wakes
            });
            WAKING.notify_all();
            woken
        }
    }

    #[cfg(loom)]
    fn address<T>(word: &T) -> u64 {
        core::ptr::from_ref(word) as u64
    }

    /// The same number for the same word of shared memory, wherever a thread has it mapped.
    #[cfg(shuttle)]
    fn address<T>(word: &T) -> u64 {
        let address = core::ptr::from_ref(word) as usize;
        let mapped = super::mapped();
        match mapped.range(..=address).next_back() {
            Some((base, (len, place))) if address - base < *len => place + (address - base) as u64,
            _ => address as u64,
        }
    }

    fn sleep(address: u64, is_changed: impl Fn() -> bool, is_hopeless: impl Fn() -> bool) -> Wait {
        let mut beds = BEDS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if is_changed() {
            return Wait::Changed;
        }
        let number = beds.next;
        beds.next += 1;
        beds.asleep.push((address, number));
        loop {
            if !beds.asleep.iter().any(|(_, other)| *other == number) {
                return Wait::Woken;
            }
            if is_hopeless() {
                beds.asleep.retain(|(_, other)| *other != number);
                return Wait::TimedOut;
            }
            beds = WAKING
                .wait(beds)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    pub(crate) fn wait(word: &AtomicU32, expected: u32, _deadline: Deadline) -> Wait {
        sleep(
            address(word),
            || word.load(Ordering::SeqCst) != expected,
            #[cfg(loom)]
            ProcessId::somebody_has_died_since(word),
            #[cfg(shuttle)]
            ProcessId::somebody_has_died_since(),
        )
    }

    pub(crate) fn wait_low(word: &AtomicU64, expected: u32, _deadline: Deadline) -> Wait {
        #[cfg(loom)]
        if crate::owner::model::is_impatient() {
            return Wait::TimedOut;
        }
        #[cfg(loom)]
        let slice_ends = ProcessId::somebody_has_died_since(word);
        #[cfg(shuttle)]
        let slice_ends = ProcessId::somebody_has_died_since();
        let is_hopeless = || {
            ProcessId::from_word(word.load(Ordering::SeqCst)).is_some_and(ProcessId::is_dead)
                || slice_ends()
        };
        sleep(
            address(word),
            || word.load(Ordering::SeqCst) as u32 != expected,
            is_hopeless,
        )
    }

    pub(crate) fn wake(word: &AtomicU32, count: u32) -> usize {
        #[cfg(loom)]
        if crate::owner::model::is_over() {
            return 0;
        }
        BEDS.lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .wake(address(word), count)
    }

    pub(crate) fn wake_low(word: &AtomicU64, count: u32) -> usize {
        #[cfg(loom)]
        if crate::owner::model::is_over() {
            return 0;
        }
        BEDS.lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .wake(address(word), count)
    }

    pub(crate) fn wake_op(
        event: &AtomicU32,
        count: u32,
        word: &AtomicU64,
        value: u16,
    ) -> Result<usize> {
        let mut beds = BEDS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let set = |old: u64| Some(old & !0xffff_ffff | u64::from(value));
        // One step for a killer: who dies of this store has also woken whom it was to wake.
        let word_here = word.core();
        let old = word_here
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, set)
            .unwrap_or(0);
        let mut woken = beds.wake(address(event), count);
        if (old as u32 as i32) < 0 {
            woken += beds.wake(address(word), 1);
        }
        drop(beds);
        #[cfg(loom)]
        crate::loomed::stored();
        #[cfg(shuttle)]
        crate::shuttled::stored();
        Ok(woken)
    }

    /// Lets those who wait for a dead owner find out.
    pub(crate) fn somebody_died() {
        let _beds = BEDS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        WAKING.notify_all();
    }
}
#[cfg(any(loom, shuttle))]
pub(crate) use model::somebody_died;

/// Where shared memory is mapped: length, and a number that is the same for all mappings of that memory.
#[cfg(shuttle)]
type Mapped = std::collections::BTreeMap<usize, (usize, u64)>;

#[cfg(shuttle)]
fn mapped() -> std::sync::MutexGuard<'static, Mapped> {
    static MAPPED: std::sync::Mutex<Mapped> = std::sync::Mutex::new(Mapped::new());
    MAPPED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Says that `len` bytes from `base` on are the shared memory that goes by the number `place`.
#[cfg(shuttle)]
pub fn note_mapping(base: usize, len: usize, place: u64) {
    mapped().insert(base, (len, place));
}

/// Says that nothing is mapped at `base` any more.
#[cfg(shuttle)]
pub fn forget_mapping(base: usize) {
    mapped().remove(&base);
}
