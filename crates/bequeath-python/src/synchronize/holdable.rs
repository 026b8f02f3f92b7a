//! Acquiring and releasing, the same for both kinds of lock.

use bequeath_os::Deadline;
use bequeath_sync::{Error, Holder, Interrupt, Lock, RecursiveLock};
use pyo3::exceptions::{PyRuntimeWarning, PyValueError};
use pyo3::prelude::*;

use crate::blocking;
use crate::error::EngineError;

/// The operations that Python's methods need.
pub(super) trait Holdable: Sync {
    const NAME: &'static str;
    fn try_take(&self) -> bool;
    fn try_acquire(&self) -> Result<bool, Error>;
    fn acquire(&self, deadline: Deadline, interrupt: &mut dyn Interrupt) -> Result<(), Error>;
    fn release(&self) -> Result<(), Error>;
    fn recover(&self) -> Result<(), Error>;
    fn is_recovering(&self) -> bool;
    fn set_recovering(&self, recovering: bool);
}

macro_rules! holdable {
    ($kind:ty, $name:literal) => {
        impl Holdable for $kind {
            const NAME: &'static str = $name;

            #[inline]
            fn try_take(&self) -> bool {
                <$kind>::try_take(self)
            }

            fn try_acquire(&self) -> Result<bool, Error> {
                <$kind>::try_acquire(self)
            }

            fn acquire(
                &self,
                deadline: Deadline,
                interrupt: &mut dyn Interrupt,
            ) -> Result<(), Error> {
                <$kind>::acquire(self, deadline, interrupt)
            }

            fn recover(&self) -> Result<(), Error> {
                <$kind>::recover(self)
            }

            fn is_recovering(&self) -> bool {
                <$kind>::is_recovering(self)
            }

            fn set_recovering(&self, recovering: bool) {
                <$kind>::set_recovering(self, recovering);
            }

            #[inline]
            fn release(&self) -> Result<(), Error> {
                <$kind>::release(self)
            }
        }
    };
}

holdable!(Lock, "Lock");
holdable!(RecursiveLock, "RLock");

/// `with lock:`.
#[inline]
pub(super) fn enter(py: Python<'_>, lock: &impl Holdable) -> PyResult<bool> {
    if lock.try_take() {
        return Ok(true);
    }
    wait(py, lock, Deadline::NEVER)
}

/// `acquire(block=True, timeout=None)`.
pub(super) fn acquire(
    py: Python<'_>,
    lock: &impl Holdable,
    block: Option<&Bound<'_, PyAny>>,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let deadline = blocking::deadline(timeout)?;
    let blocks = is_blocking(block)? && deadline != Deadline::PAST;
    if lock.try_take() {
        return Ok(true);
    }
    if blocks {
        return wait(py, lock, deadline);
    }
    match lock.try_acquire() {
        Err(Error::Abandoned(_)) if super::shared::is_strict(py)? => Ok(false),
        Err(Error::Abandoned(dead)) if lock.is_recovering() => recover(py, lock, dead),
        taken => Ok(taken.map_err(EngineError::from)?),
    }
}

/// Takes an abandoned lock over, as the program chose for it, and says so once. False when another
/// was faster.
fn recover(py: Python<'_>, lock: &impl Holdable, dead: Holder) -> PyResult<bool> {
    let text = format!(
        "taking over a {} whose holder, process {}, was killed; what it protects may be half written",
        name_of(lock),
        dead.process.pid()
    );
    let text = std::ffi::CString::new(text)?;
    // Before it is taken: where a filter makes an exception of the warning it stays abandoned.
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1)?;
    Ok(lock.recover().is_ok())
}

/// What `on_abandoned` means.
pub(super) fn set_on_abandoned(lock: &impl Holdable, choice: &str) -> PyResult<()> {
    match choice {
        "raise" => Ok(()),
        "recover" => {
            lock.set_recovering(true);
            Ok(())
        }
        _ => Err(PyValueError::new_err(
            "on_abandoned must be \"raise\" or \"recover\"",
        )),
    }
}

/// The truth of `block`.
pub(super) fn is_blocking(block: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
    block.map_or(Ok(true), |block| block.is_truthy())
}

#[cold]
fn wait(py: Python<'_>, lock: &impl Holdable, deadline: Deadline) -> PyResult<bool> {
    let strict = super::shared::is_strict(py)?;
    loop {
        let result = blocking::wait(py, name_of(lock), |interrupt| loop {
            match lock.acquire(deadline, interrupt) {
                // The standard library waits for the dead.
                Err(Error::Abandoned(_)) if strict => wait_for_nothing(deadline, interrupt)?,
                result => break result,
            }
        });
        match result {
            Err(EngineError::Sync(Error::Abandoned(dead))) if lock.is_recovering() => {
                if recover(py, lock, dead)? {
                    return Ok(true);
                }
            }
            result => return acquired(result),
        }
    }
}

fn name_of<L: Holdable>(_lock: &L) -> &'static str {
    L::NAME
}

fn wait_for_nothing(deadline: Deadline, interrupt: &mut dyn Interrupt) -> Result<(), Error> {
    let pause = std::time::Duration::from_millis(50);
    std::thread::sleep(deadline.remaining().map_or(pause, |left| left.min(pause)));
    if deadline.is_past() {
        return Err(Error::TimedOut);
    }
    Ok(interrupt.check()?)
}

/// True, or false after a timeout.
pub(super) fn acquired(result: crate::error::Result<()>) -> PyResult<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(EngineError::Sync(Error::TimedOut)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// `release()`.
#[inline]
pub(super) fn release(lock: &impl Holdable) -> PyResult<()> {
    Ok(lock.release().map_err(EngineError::from)?)
}
