//! Waiting and exclusion between processes that may die at any instruction.
#![doc = include_str!("../README.md")]

pub mod atomic;
pub mod cell;
pub mod error;
pub mod owner;
pub mod park;

pub use cell::{Cell, Guard, WaitOutcome, WaitWord};
pub use error::{Error, Holder, Result};
pub use owner::ProcessId;
pub use park::{Interrupt, Interrupted, Never};
