//! Pools: `bequeath-pool` decides who runs which task, this is what carries it out.
//!
//! ```text
//!  caller's thread                 parent's one thread                    worker
//!  submit: pickle, decide, send ─────────────────────────► queue of the worker ─► seat: load, call, pickle
//!                                  driver: load, complete ◄─ results of all ◄──────┘
//! ```
//! * `driver` is the parent's side as Python sees it; `books` what it keeps under its lock: the scheduler, calls and
//!   workers; `act` carries out what the scheduler asks for; `attend` is its thread, which hears of everything.
//! * `stream` is what `imap` returns; `lease` is how its taker and the driver's thread share hearing the workers.
//! * `job` is a call that tasks belong to, `member` what the parent knows of a worker.
//! * `seat` is the worker's side.
//! * `shared` is what both look at: what a worker has in its hands, and whether the parent sleeps.
//! * `share` is for objects that many tasks name.
//! * `wire` is what stands behind the pickle in each message.

mod act;
mod attend;
mod books;
mod driver;
mod job;
mod lease;
mod member;
mod room;
mod seat;
mod share;
mod shared;
mod signalled;
mod stream;
mod unheard;
mod wire;

pub use driver::PoolDriver;
pub use seat::{rebuild_seat, Seat};
pub use share::Shared;
pub use shared::Bell;
pub use stream::{ResultStream, ResultTaker};
