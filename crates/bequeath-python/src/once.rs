//! A value that is made at its first use, by whoever comes first; two may make it, one is kept.
//!
//! PyO3's own cell lets other threads run while one makes the value. A fork at that moment leaves the
//! child with a value that is being made by a thread that it does not have, and so for ever waiting.
//! Here nothing but the storing of a finished value excludes others, and no fork comes in between:
//! the interpreter, without which none is done, is held meanwhile.

use std::sync::OnceLock;

use pyo3::prelude::*;

/// Empty, then for ever this value.
#[derive(Debug)]
pub struct Once<T>(OnceLock<T>);

impl<T> Once<T> {
    /// Empty.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The value, made now if need be.
    pub fn get_or_init(&self, py: Python<'_>, make: impl FnOnce() -> T) -> &T {
        let made: Result<&T, std::convert::Infallible> = self.get_or_try_init(py, || Ok(make()));
        match made {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// The same where making may fail.
    ///
    /// # Errors
    /// What `make` returns.
    pub fn get_or_try_init<E>(
        &self,
        _py: Python<'_>,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        if let Some(value) = self.0.get() {
            return Ok(value);
        }
        let fresh = make()?;
        // Made already: nothing in here takes long, or runs Python.
        Ok(self.0.get_or_init(|| fresh))
    }
}

/// A name as a Python string, made once: PyO3's `intern!`, but for forks.
#[macro_export]
macro_rules! intern {
    ($py:expr, $text:expr) => {{
        static NAME: $crate::once::Once<pyo3::Py<pyo3::types::PyString>> =
            $crate::once::Once::new();
        let py: pyo3::Python<'_> = $py;
        NAME.get_or_init(py, || pyo3::types::PyString::intern(py, $text).unbind())
            .bind(py)
    }};
}

/// What a dotted name of a module leads to.
///
/// # Errors
/// When there is no such module, or it has no such name.
pub fn look_up(py: Python<'_>, module: &str, name: &str) -> PyResult<Py<PyAny>> {
    let mut found = py.import(module)?.into_any();
    for part in name.split('.') {
        found = found.getattr(part)?;
    }
    Ok(found.unbind())
}

/// A struct of what modules have under names, looked up once.
#[macro_export]
macro_rules! looked_up {
    ($(#[$doc:meta])* $visibility:vis $table:ident {
        $($field:ident: $module:literal . $name:literal),* $(,)?
    }) => {
        $(#[$doc])*
        $visibility struct $table {
            $($visibility $field: pyo3::Py<pyo3::PyAny>,)*
        }

        impl $table {
            $visibility fn get(py: pyo3::Python<'_>) -> pyo3::PyResult<&Self> {
                static TABLE: $crate::once::Once<$table> = $crate::once::Once::new();
                TABLE.get_or_try_init(py, || {
                    Ok(Self {
                        $($field: $crate::once::look_up(py, $module, $name)?,)*
                    })
                })
            }

            /// Under which name an object was found, if it is one of these.
            #[allow(dead_code)]
            $visibility fn name_of(&self, object: &pyo3::Bound<'_, pyo3::PyAny>) -> Option<&'static str> {
                $(
                    if object.as_ptr() == self.$field.as_ptr() {
                        return Some($name);
                    }
                )*
                None
            }
        }
    };
}
