//! Waiting and exclusion between processes that may die at any instruction.
#![doc = include_str!("../README.md")]

pub mod atomic;
pub mod barrier;
#[cfg(feature = "broken-variants")]
pub mod broken;
#[cfg(not(feature = "broken-variants"))]
mod broken;
pub mod cell;
pub mod condition;
pub mod error;
pub mod event;
#[cfg(not(any(loom, shuttle)))]
pub mod exec;
pub mod lock;
#[cfg(loom)]
mod loomed;
pub mod owner;
pub mod park;
pub mod recursive;
pub mod seen;
pub mod semaphore;
#[cfg(shuttle)]
mod shuttled;
mod spinning;
pub mod wait_word;
pub mod waiting;
mod word;

pub use barrier::Barrier;
pub use cell::{Cell, Guard};
pub use condition::Condition;
pub use error::{Error, Holder, Result};
pub use event::Event;
pub use lock::Lock;
pub use owner::ProcessId;
pub use park::{Interrupt, Interrupted, Never};
pub use recursive::RecursiveLock;
pub use semaphore::Semaphore;
pub use wait_word::{WaitOutcome, WaitWord};
