//! `FilledOnce`: what `__init__` puts into an object, and the garbage collector may ask for too early.
//!
//! CPython tracks an object before Rust has written its fields, and may collect right then (3.11 makes
//! the instance's dict in between). `__traverse__` then sees zeroes, which for a `OnceLock` are no
//! promise of emptiness. Here they are: the flag beside it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::OnceLock;

/// A `OnceLock` for classes with a `__traverse__`.
pub(crate) struct FilledOnce<T> {
    filled: AtomicBool,
    value: OnceLock<T>,
}

impl<T> FilledOnce<T> {
    /// Nothing yet.
    pub(crate) const fn empty() -> Self {
        Self {
            filled: AtomicBool::new(false),
            value: OnceLock::new(),
        }
    }

    /// The first value stays.
    pub(crate) fn set(&self, value: T) {
        let _ = self.value.set(value);
        self.filled.store(true, Ordering::Release);
    }

    /// What was set.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The same for `__traverse__`, also of an object that is just being made.
    pub(crate) fn seen_by_collector(&self) -> Option<&T> {
        if self.filled.load(Ordering::Acquire) {
            self.value.get()
        } else {
            None
        }
    }
}
