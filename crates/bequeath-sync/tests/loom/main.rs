//! Every interleaving of the cell and of the primitives: `make long` runs these with
//! `RUSTFLAGS="--cfg loom"`, and with the feature `broken-variants`.
//!
//! Threads play processes. Time does not exist: whoever sleeps and is not woken by what another does
//! sleeps for ever, and loom reports it. `living.rs`: nobody dies, or at a place of our choice.
//! `dying.rs`: one process stops for ever after its first, second, … shared store. `queue.rs`: both, for
//! messages behind a cell. `broken.rs`: models of these with a deliberate mistake, which must be found.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

#[cfg(feature = "broken-variants")]
mod broken;
mod dying;
mod explore;
mod living;
mod queue;
