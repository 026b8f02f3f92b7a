//! Absolute deadlines on the monotonic clock: a wait that is interrupted and resumed any number of
//! times still ends when it was meant to.

use core::time::Duration;
use rustix::fs::Timespec;
use rustix::time::{clock_gettime, ClockId};

/// A moment of `CLOCK_MONOTONIC`, in nanoseconds. The clock is the same in every process of a
/// machine (and of a time namespace), so a deadline may cross between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(u64);

const NANOS: u64 = 1_000_000_000;

impl Deadline {
    /// No deadline.
    pub const NEVER: Self = Self(u64::MAX);
    /// Long past: a wait with it only looks.
    pub const PAST: Self = Self(0);

    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        Self(
            (now.tv_sec as u64)
                .saturating_mul(NANOS)
                .saturating_add(now.tv_nsec as u64),
        )
    }

    /// `duration` from now; what does not fit the clock is [`NEVER`](Self::NEVER).
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        match u64::try_from(duration.as_nanos()) {
            Ok(nanos) => Self(Self::now().0.saturating_add(nanos)),
            Err(_) => Self::NEVER,
        }
    }

    /// Whether there is no deadline.
    #[must_use]
    pub const fn is_never(self) -> bool {
        self.0 == u64::MAX
    }

    /// Whether the moment has come.
    #[must_use]
    pub fn is_past(self) -> bool {
        !self.is_never() && (self.0 == 0 || Self::now() >= self)
    }

    /// How long until then; zero when past, `None` without a deadline.
    #[must_use]
    pub fn remaining(self) -> Option<Duration> {
        if self.is_never() {
            return None;
        }
        Some(Duration::from_nanos(self.0.saturating_sub(Self::now().0)))
    }

    /// Whichever comes first.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        self.min(other)
    }

    /// Nanoseconds since the clock's start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// For the kernel: `None` without a deadline.
    pub(crate) fn timespec(self) -> Option<Timespec> {
        if self.is_never() {
            return None;
        }
        let seconds = i64::try_from(self.0 / NANOS).unwrap_or(i64::MAX);
        Some(Timespec {
            tv_sec: seconds,
            tv_nsec: (self.0 % NANOS) as _,
        })
    }
}

/// The kernel's number of the calling thread.
#[must_use]
pub fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get() as u32
}
