//! Messages between processes: queues in shared memory, frames on sockets, descriptors in parcels.

pub mod stream;
