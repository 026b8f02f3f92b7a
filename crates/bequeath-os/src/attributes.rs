//! What a process passes on to its children by fork or exec, piece by piece.

use std::ffi::CStr;

use crate::errno::{Named, Result};

/// What the kernel calls the calling thread (the main thread's is the process's): 15 bytes at most.
///
/// # Errors
/// Never, in practice.
pub fn set_name(name: &CStr) -> Result<()> {
    rustix::thread::set_name(name).named("prctl")
}
