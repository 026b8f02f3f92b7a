#![allow(unsafe_code)]
//! Atomics for shuttle: core's own, in memory of the same layout, with a place to switch threads before
//! each access and a place to die after each store.
//!
//! So the arena is a real one, mapped by each thread for itself as by a process of its own, and the
//! protocols run unchanged. Shuttle knows no memory orderings: what depends on them is loom's.
//!
//! # Safety invariants
//! [`from_ptr`](AtomicU64::from_ptr) has core's contract; the types are transparent around core's.

use core::sync::atomic::Ordering;

use shuttle::sync::atomic::AtomicBool;

shuttle::lazy_static! {
    static ref POINT: AtomicBool = AtomicBool::new(false);
}

/// Another thread may run now. (Outside a model, as when values are dropped after it, none can.)
fn switch() {
    if shuttle::current::try_get_current_task().is_some() {
        POINT.load(Ordering::SeqCst);
    }
}

/// A store is done: the process may die of it.
pub(crate) fn stored() {
    if shuttle::current::try_get_current_task().is_some() {
        crate::owner::model::has_stored();
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[doc = concat!("As core's `", stringify!($name), "`.")]
        #[repr(transparent)]
        #[derive(Debug, Default)]
        pub struct $name(core::sync::atomic::$name);

        #[allow(missing_docs, clippy::missing_errors_doc, clippy::must_use_candidate)]
        impl $name {
            pub const fn new(value: $value) -> Self {
                Self(core::sync::atomic::$name::new(value))
            }

            /// # Safety
            /// As core's.
            pub const unsafe fn from_ptr<'a>(pointer: *mut $value) -> &'a Self {
                // SAFETY: by the caller's word, and this type is transparent around core's.
                unsafe { &*pointer.cast::<Self>() }
            }

            pub fn load(&self, order: Ordering) -> $value {
                switch();
                self.0.load(order)
            }

            pub fn store(&self, value: $value, order: Ordering) {
                switch();
                self.0.store(value, order);
                stored();
            }

            pub fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                switch();
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
                switch();
                let result = self.0.fetch_update(success, failure, next);
                if result.is_ok() {
                    stored();
                }
                result
            }
        }

        atomic!(@change $name, $value,
            swap fetch_add fetch_sub fetch_max fetch_min fetch_or fetch_and fetch_xor);
    };
    (@change $name:ident, $value:ty, $($change:ident)*) => {
        #[allow(missing_docs, clippy::must_use_candidate)]
        impl $name {
            $(pub fn $change(&self, value: $value, order: Ordering) -> $value {
                switch();
                let old = self.0.$change(value, order);
                stored();
                old
            })*
        }
    };
}

impl AtomicU64 {
    /// Without a place to switch or to die.
    pub(crate) const fn core(&self) -> &core::sync::atomic::AtomicU64 {
        &self.0
    }
}

atomic!(AtomicU32, u32);
atomic!(AtomicI32, i32);
atomic!(AtomicU64, u64);
atomic!(AtomicI64, i64);
