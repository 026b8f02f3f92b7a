//! SIGKILL at every instruction of each operation of the session; then counts, blocks and members are
//! as if the victim had never been, or as if it had finished, and everything still works.
//!
//! `BEQUEATH_FAULTS=long` kills at each instruction; else at about sixty, spread over the operation.
//! (`make faults` runs what has "kill" in its name: here it is the module's.)

#![allow(clippy::unwrap_used)]

mod killed_at_every_instruction;
#[path = "../world/mod.rs"]
mod world;
