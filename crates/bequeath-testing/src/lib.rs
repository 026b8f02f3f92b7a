//! Real processes, real kills and hang guards for bequeath's own tests.
//!
//! * [`Watchdog`]: turns a hang into a report and a failed test.
//! * [`Peer`]: runs a closure in another process of the same memory image.
//! * [`Scenario`] and [`KillPoints`]: SIGKILL after each single machine instruction of an operation,
//!   then every invariant.
//! * [`with_descriptors_left`], [`with_one_processor`]: a full table of descriptors, a thread bound to a
//!   processor.
//! * [`is_long`]: whether `make faults` asks, or `make test`.
//! * [`Alarm`]: signals at a steady pace, which no wait may depend on being without.
//! * `model` (with `--cfg shuttle`): threads that play processes, one of which stops for ever after each of its stores.
//! * [`Leftovers`]: descriptors, children and shared-memory files that a test left behind.

mod alarm;
mod kill_points;
mod leftovers;
mod limits;
mod long;
#[cfg(shuttle)]
pub mod model;
mod peer;
mod trace;
mod watchdog;

pub use alarm::Alarm;
pub use kill_points::{Death, KillPoints, Report, Scenario};
pub use leftovers::Leftovers;
pub use limits::{with_descriptors_left, with_one_processor};
pub use long::{is_long, is_long_for};
pub use peer::{wait_until, Outcome, Peer};
pub use watchdog::Watchdog;
