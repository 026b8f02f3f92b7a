//! Atomics for loom: loom's own, with a place to die after each store.
//!
//! A thread that dies unwinds to its end, since loom wants every thread to end; nothing that it would
//! do or drop on its way touches shared memory any more.

use core::sync::atomic::Ordering;

pub(crate) use crate::owner::model::has_stored as stored;
use crate::owner::model::is_over;

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[doc = concat!("As core's `", stringify!($name), "`.")]
        #[derive(Debug)]
        pub struct $name(loom::sync::atomic::$name);

        #[allow(missing_docs, clippy::missing_errors_doc, clippy::must_use_candidate)]
        impl $name {
            pub fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            pub fn load(&self, order: Ordering) -> $value {
                if is_over() {
                    return 0;
                }
                self.0.load(order)
            }

            pub fn store(&self, value: $value, order: Ordering) {
                if !is_over() {
                    self.0.store(value, order);
                    stored();
                }
            }

            pub fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                if is_over() {
                    return Err(0);
                }
                let result = self.0.compare_exchange(old, new, success, failure);
                if result.is_ok() {
                    stored();
                }
                result
            }

            pub fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                next: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                if is_over() {
                    return Err(0);
                }
                let result = self.0.fetch_update(success, failure, next);
                if result.is_ok() {
                    stored();
                }
                result
            }
        }

        atomic!(@change $name, $value, swap fetch_add fetch_sub fetch_or fetch_and fetch_xor);
    };
    (@change $name:ident, $value:ty, $($change:ident)*) => {
        #[allow(missing_docs, clippy::must_use_candidate)]
        impl $name {
            $(pub fn $change(&self, value: $value, order: Ordering) -> $value {
                if is_over() {
                    return 0;
                }
                let old = self.0.$change(value, order);
                stored();
                old
            })*
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);

impl AtomicU64 {
    /// Without a place to die.
    pub(crate) const fn core(&self) -> &loom::sync::atomic::AtomicU64 {
        &self.0
    }
}

/// As loom's.
pub fn fence(order: Ordering) {
    if !is_over() {
        loom::sync::atomic::fence(order);
    }
}
