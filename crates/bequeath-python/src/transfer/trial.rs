//! A transfer that goes nowhere: what objects hand in while they are only looked at is given back; and who is told
//! of those that go somewhere.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

use pyo3::prelude::*;

use super::open::{Opened, Transfer};
use super::Purpose;

/// Runs something as if a message were being made; nothing of it is kept.
pub(crate) fn trial<R>(purpose: Purpose, run: impl FnOnce() -> R) -> R {
    let opened = Opened::open(Transfer::export(purpose));
    let result = run();
    // Dropped when it is no longer open: what was collected may have a say when it goes.
    drop(opened.close());
    result
}

static AUDITED: AtomicBool = AtomicBool::new(false);
static AUDITOR: Mutex<Option<Py<PyAny>>> = Mutex::new(None);

thread_local! {
    /// multiprocessing's rules hold for what this thread looks at now.
    static STRICT: Cell<bool> = const { Cell::new(false) };
}

/// Has each object that is about to become a message told to a function; None ends that.
#[pyfunction]
pub fn set_auditor(auditor: Option<Py<PyAny>>) {
    AUDITED.store(auditor.is_some(), Ordering::Relaxed);
    let old = AUDITOR
        .lock()
        .map(|mut current| std::mem::replace(&mut *current, auditor));
    drop(old);
}

/// Tells the auditor, where there is one. What goes wrong there is not the program's affair.
pub(super) fn tell_auditor(object: &Bound<'_, PyAny>) {
    if !AUDITED.load(Ordering::Relaxed) {
        return;
    }
    let py = object.py();
    let auditor = AUDITOR
        .lock()
        .ok()
        .and_then(|auditor| auditor.as_ref().map(|auditor| auditor.clone_ref(py)));
    if let Some(Err(error)) = auditor.map(|auditor| auditor.call1(py, (object,))) {
        error.write_unraisable(py, Some(object));
    }
}

/// Looks at something by multiprocessing's rules, whatever the program has chosen.
pub(crate) fn strictly<R>(run: impl FnOnce() -> R) -> R {
    let before = STRICT.replace(true);
    let result = run();
    STRICT.set(before);
    result
}

pub(super) fn is_strict_here() -> bool {
    STRICT.get()
}
