//! Every operation of every primitive is killed after each of its machine instructions; then the
//! survivors go on.
//!
//! Each scenario ends with the same question: can those who live still use the object, within
//! seconds, and does what they see agree with "happened wholly" or "did not happen"? `broken.rs` asks
//! whether the scenarios can tell: with `--features broken-variants` each protocol is played with a
//! deliberate mistake, which must be found.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod play;

mod barrier;
#[cfg(feature = "broken-variants")]
mod broken;
mod cell;
mod condition;
mod event;
mod locks;
mod semaphore;
