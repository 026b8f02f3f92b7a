#![allow(unsafe_code)]
//! `Memory`: plain bytes that processes share, for `Value` and `Array`.
//!
//! # Safety invariants
//! The body is one unused atomic; the bytes behind it are reached by raw pointer only.

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
