//! Frames on sockets and pipes.

pub mod frame;
