//! The kernel's vocabulary for bequeath: futexes, memory files, mappings, pidfds, sockets with
//! descriptors; safe and owned.
//!
//! No other crate names `rustix` or `libc`. A port to another system owes what these modules
//! state: a wait word shared between processes, anonymous memory that can be handed over as a
//! descriptor, a process as a waitable descriptor, descriptors in messages, and limits.
//!
//! Every descriptor made here is close-on-exec, every failure is an [`Error`] that names the call.

pub mod attributes;
pub mod bytes;
pub mod clock;
pub mod clone;
pub mod epoll;
pub mod errno;
pub mod eventfd;
pub mod footprint;
pub mod futex;
pub mod handover;
pub mod huge_pages;
pub mod image;
pub mod leftovers;
pub mod lifeline;
pub mod limits;
pub mod mapping;
pub mod math_threads;
pub mod memfd;
pub mod named_semaphore;
pub mod pidfd;
pub mod poll;
pub mod procfs;
pub mod raw;
pub mod socket;
mod socket_options;
pub mod threads;

pub use clock::Deadline;
pub use errno::{Errno, Error, Result};
pub use eventfd::EventFd;
pub use image::Image;
pub use mapping::Mapping;
pub use pidfd::PidFd;
