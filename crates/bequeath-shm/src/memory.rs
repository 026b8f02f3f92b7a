#![allow(unsafe_code)]
//! `Memory`: plain bytes that processes share, for `Value` and `Array`.
//!
//! # Safety invariants
//! The body is one unused atomic; the bytes behind it are reached by raw pointer and copied only: others may write to them.

use bequeath_sync::atomic::AtomicU64;

use crate::kind;
use crate::object::{Handle, Object};
use crate::session::Session;
use crate::Result;

/// Shared bytes; they stand in [`Handle::extra`].
#[repr(C)]
pub struct Memory {
    spare: AtomicU64,
}

// SAFETY: one atomic; every value is valid.
unsafe impl Object for Memory {
    const KIND: u32 = kind::MEMORY;
}

impl Memory {
    /// `len` zeroed bytes, 16-byte aligned.
    ///
    /// # Errors
    /// Over the budget or out of memory.
    #[track_caller]
    pub fn create(session: &Session, len: usize) -> Result<Handle<Self>> {
        session.create_sized::<Self>(len, |_| {})
    }
}

impl Handle<Memory> {
    /// Copies `bytes` to its begin; what does not fit is left away.
    pub fn write(&self, bytes: &[u8]) {
        let (first, len) = self.extra();
        let len = len.min(bytes.len());
        // SAFETY: mapped for `len` bytes as long as the handle lives; `bytes` is this process's own memory.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), first, len) }
    }

    /// A copy of all bytes.
    #[must_use]
    pub fn read(&self) -> Vec<u8> {
        let (first, len) = self.extra();
        let mut bytes = vec![0; len];
        // SAFETY: mapped for `len` bytes as long as the handle lives; `bytes` is this process's own memory.
        unsafe { std::ptr::copy_nonoverlapping(first, bytes.as_mut_ptr(), len) };
        bytes
    }
}
