#![allow(unsafe_code)]
//! The primitives of `bequeath-sync` as shared objects. They hold no blocks and refer to nothing, so
//! giving one back is giving its memory back.
//!
//! # Safety invariants
//! Each type is `repr(C)`, made of atomics only, at most 64-aligned, accepts every bit pattern
//! (numbers read from it are checked where they are used), and starts as zeros; the ones that need
//! more (`Semaphore`, `Barrier`) are initialised in `create_object`, before anybody can see them.

use crate::adopted::Keeper;
use crate::kind;
use crate::memory::Memory;
use crate::object::{register_kind, Object};
use crate::slate::Slate;

/// Makes the kinds of this crate known, so that this process can clean up after others.
pub(crate) fn register() {
    register_kind::<bequeath_sync::Lock>();
    register_kind::<bequeath_sync::RecursiveLock>();
    register_kind::<bequeath_sync::Semaphore>();
    register_kind::<bequeath_sync::Condition>();
    register_kind::<bequeath_sync::Event>();
    register_kind::<bequeath_sync::Barrier>();
    register_kind::<Memory>();
    register_kind::<Keeper>();
    register_kind::<Slate>();
}

// SAFETY: see the module's invariants.
unsafe impl Object for bequeath_sync::Lock {
    const KIND: u32 = kind::LOCK;
}

// SAFETY: see the module's invariants.
unsafe impl Object for bequeath_sync::RecursiveLock {
    const KIND: u32 = kind::RECURSIVE_LOCK;
}

// SAFETY: see the module's invariants.
unsafe impl Object for bequeath_sync::Semaphore {
    const KIND: u32 = kind::SEMAPHORE;
}

// SAFETY: see the module's invariants.
unsafe impl Object for bequeath_sync::Condition {
    const KIND: u32 = kind::CONDITION;
}

// SAFETY: see the module's invariants.
unsafe impl Object for bequeath_sync::Event {
    const KIND: u32 = kind::EVENT;
}

// SAFETY: see the module's invariants.
unsafe impl Object for bequeath_sync::Barrier {
    const KIND: u32 = kind::BARRIER;
}
