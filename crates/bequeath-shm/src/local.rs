#![allow(unsafe_code)]
//! What this process alone knows: its handles, its mapped runs, its adopted blocks.
//!
//! The tables are behind a lock that is *not* held over a fork: other fork hooks of the program run in
//! between and may wait for threads that need it. So a child may find the lock held by a thread that
//! it does not have, and the tables half changed. It then puts fresh tables in their place, made from
//! what its ticket remembers; the old ones are left alone for ever.
//!
//! # Safety invariants
//! The pointer is always to a leaked, living `Mutex<Local>`; replaced only in a child that has one
//! thread, and what it replaces is never freed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicPtr, Ordering::*};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use crate::adopted::AdoptedBlock;
use crate::object::Entry;
use crate::runs::MappedRuns;

/// The tables.
#[derive(Default)]
pub(crate) struct Local {
    pub(crate) entries: HashMap<u64, Weak<Entry>>,
    pub(crate) runs: MappedRuns,
    pub(crate) adopted: HashMap<u64, Weak<AdoptedBlock>>,
}

/// Where they are.
pub(crate) struct LocalTables(AtomicPtr<Mutex<Local>>);

impl LocalTables {
    pub(crate) fn new() -> Self {
        Self(AtomicPtr::new(Box::into_raw(Box::default())))
    }

    fn mutex(&self) -> &Mutex<Local> {
        // SAFETY: leaked by `new` or `replace` and alive until `self` is dropped.
        unsafe { &*self.0.load(Acquire) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Local> {
        self.mutex().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In a forked child: whether the tables are whole, that is, nobody was changing them.
    pub(crate) fn are_whole(&self) -> bool {
        !matches!(self.mutex().try_lock(), Err(TryLockError::WouldBlock))
    }

    /// In a forked child whose copy is not whole.
    pub(crate) fn replace(&self, local: Local) {
        self.0
            .store(Box::into_raw(Box::new(Mutex::new(local))), Release);
    }
}

impl Drop for LocalTables {
    fn drop(&mut self) {
        // SAFETY: from `Box::into_raw`, and nobody can borrow it through `self` any more.
        drop(unsafe { Box::from_raw(self.0.load(Acquire)) });
    }
}
