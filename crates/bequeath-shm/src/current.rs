#![allow(unsafe_code)]
//! The process's default session: a leaked reference, so that reading it takes no lock (another
//! thread could hold one while this one forks).
//!
//! # Safety invariants
//! `CURRENT` is null or came from `Arc::into_raw`, and that count is never given back.

use std::sync::atomic::{AtomicPtr, Ordering::*};
use std::sync::Arc;

use crate::session::{Inner, Session};

static CURRENT: AtomicPtr<Inner> = AtomicPtr::new(std::ptr::null_mut());

pub(crate) fn get() -> Option<Session> {
    let inner = CURRENT.load(Acquire).cast_const();
    if inner.is_null() {
        return None;
    }
    // SAFETY: from `Arc::into_raw`, whose count is never given back: the target is alive.
    unsafe { Arc::increment_strong_count(inner) };
    // SAFETY: this takes over the count that was just added.
    Some(Session(unsafe { Arc::from_raw(inner) }))
}

/// As [`get`], for the rest of the process's life.
pub(crate) fn get_ref() -> Option<&'static Inner> {
    let inner = CURRENT.load(Acquire).cast_const();
    // SAFETY: null, or from `Arc::into_raw` with a count that is never given back: alive for ever.
    unsafe { inner.as_ref() }
}

/// This is the process's default session no longer.
pub(crate) fn forget(session: &Session) {
    let inner = Arc::as_ptr(&session.0).cast_mut();
    let _ = CURRENT.compare_exchange(inner, std::ptr::null_mut(), AcqRel, Relaxed);
}

pub(crate) fn set(session: &Session) {
    CURRENT.store(Arc::into_raw(Arc::clone(&session.0)).cast_mut(), Release);
}
