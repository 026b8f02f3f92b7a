//! Messages between processes: queues in shared memory, frames on sockets, descriptors in parcels.

#![doc = include_str!("../README.md")]

pub mod board;
mod companions;
mod error;
pub mod message;
mod pair;
mod parcel;
pub mod queue;
mod record;
mod recv;
mod segment;
mod send;
mod state;
pub mod stream;
mod wait;
mod walk;

pub use error::{Error, Result};
pub use message::{Message, Outgoing, Payload};
pub use queue::{Options, Queue};
pub use send::Prepared;
