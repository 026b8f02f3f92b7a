//! Messages between processes: queues in shared memory, frames on sockets, descriptors in parcels.

#![doc = include_str!("../README.md")]

pub mod board;
#[cfg(feature = "broken-variants")]
pub mod broken;
#[cfg(not(feature = "broken-variants"))]
mod broken;
mod companions;
mod error;
pub mod message;
mod pair;
mod parcel;
pub mod queue;
mod record;
mod recv;
pub mod seen;
mod segment;
mod send;
mod state;
pub mod stream;
mod wait;
mod walk;

pub use error::{Error, Result};
pub use message::{kind, Message, Outgoing, Payload};
pub use queue::{Account, Options, Queue};
pub use send::Prepared;

/// Makes this crate's kinds of objects known in this process: it may be the one that has to give
/// back a queue that it only ever passed on. Call it whenever a session was made or joined.
pub fn register_kinds() {
    bequeath_shm::register_kind::<queue::Body>();
}
