//! `Synchronized` and its kin: a ctypes object in shared memory behind a lock, with a short cut for
//! the simple types.

mod base;
mod classes;
mod guard;
mod simple;

pub use base::SynchronizedBase;
pub use classes::{Synchronized, SynchronizedArray, SynchronizedString};
