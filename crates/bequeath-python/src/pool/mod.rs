//! Pools: `bequeath-pool` decides who runs which task, this is what carries it out.
//!
//! ```text
//!  caller's thread                 parent's one thread                    worker
//!  submit: pickle, decide, send ─────────────────────────► queue of the worker ─► seat: load, call, pickle
//!                                  driver: load, complete ◄─ results of all ◄──────┘
//! ```
//! * `driver` is the parent's side as Python sees it; `books` what it keeps under its lock: the scheduler, calls and
//!   workers; `submission` enters a call there; `act` carries out what the scheduler asks for.
//! * `attend` is its thread, which hears of everything, `waking` how others wake that; `baton` says who hears the
//!   workers, `unheard` is what cannot be received; `ending` is the end of all.
//! * `stream` is what `imap` returns, `room` how far it reads ahead; `lease` is how its taker and the driver's thread share hearing the workers.
//! * `job` is a call that tasks belong to, `member` what the parent knows of a worker.
//! * `seat` is the worker's side.
//! * `shared` is what both look at: what a worker has in its hands, and whether the parent sleeps.
//! * `share` is for objects that many tasks name; `stats` is what is told of workers.
//! * `wire` is a message; `task_label` and `answer_label` are what stands behind the pickle in one.
//! * `signalled` is for what a signal handler raises while somebody else's task is served.

mod act;
mod answer_label;
mod attend;
mod baton;
mod books;
mod driver;
mod ending;
mod job;
mod lease;
mod member;
mod room;
mod seat;
mod share;
mod shared;
mod signalled;
mod stats;
mod stream;
mod submission;
mod task_label;
mod unheard;
mod waking;
mod wire;

pub use driver::PoolDriver;
pub use seat::{rebuild_seat, Seat};
pub use share::Shared;
pub use shared::Bell;
pub use stream::{ResultStream, ResultTaker};
