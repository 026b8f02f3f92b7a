//! Who runs which task: events in, actions out.
//!
//! [`Scheduler`] knows tasks and workers by number only. It has no clock (each event comes with the
//! time), does no input or output and starts nothing: whoever drives it carries the actions out and
//! tells it what came of them. So every order of events can be tried without a process.
//!
//! What it promises: each task that was submitted is settled exactly once; none is given to a second
//! worker unless it is certain that the first has not begun it, or the policy says to retry.
#![forbid(unsafe_code)]

mod event;
mod handing_out;
mod interrupts;
mod limits;
mod policy;
mod scheduler;
mod stopping;
mod task;
mod worker;

pub use event::{Action, Event, Outcome, Why};
pub use interrupts::{Interrupts, Signal};
pub use policy::{Escalation, OnDeath, Policy};
pub use scheduler::Scheduler;
pub use task::{TaskId, TaskIds};
pub use worker::WorkerId;
