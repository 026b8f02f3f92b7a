//! A value in memory that forked peers share, and interrupts that count.
#![allow(unsafe_code, dead_code)]

use std::ops::Deref;
use std::time::Duration;

use bequeath_os::Mapping;
use bequeath_sync::{Interrupt, Interrupted};
use bequeath_testing::Watchdog;

/// A `T` in anonymous shared memory, all zero at first.
pub struct Shared<T> {
    mapping: Mapping,
    kind: std::marker::PhantomData<T>,
}

impl<T> Shared<T> {
    /// `T` is one of the zero-initialised types of this crate, or atomics.
    pub fn zeroed() -> Self {
        let mapping = Mapping::anonymous(size_of::<T>(), true).unwrap();
        Self {
            mapping,
            kind: std::marker::PhantomData,
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: page-aligned, large enough, zeroed, and `T` is made of atomics that accept zero.
        unsafe { &*self.mapping.as_ptr().cast::<T>() }
    }
}

pub fn guard() -> Watchdog {
    Watchdog::new(Duration::from_secs(50))
}

/// Stops a wait at its first check.
pub struct AtOnce;

impl Interrupt for AtOnce {
    fn check(&mut self) -> Result<(), Interrupted> {
        Err(Interrupted)
    }
}
