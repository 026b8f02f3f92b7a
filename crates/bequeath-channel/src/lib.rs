//! Messages between processes: queues in shared memory, frames on sockets, descriptors in parcels.

pub mod message;
pub mod stream;

pub use message::{Message, Outgoing, Payload};
