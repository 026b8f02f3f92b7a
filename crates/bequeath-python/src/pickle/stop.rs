//! Why a walk over objects ended before its end.

use pyo3::prelude::*;

use super::look::Object;

/// Why a walk ended: small, since every step of a walk says whether it did.
pub(super) struct Stop(Box<Why>);

/// What ended it.
pub(super) enum Why {
    /// Something was raised.
    Raised(PyErr),
    /// Code would have to run: not in pure mode.
    Impure,
    /// A class was met in pure mode of which nothing is known yet, in an instance of it.
    Unknown(Py<PyAny>),
}

impl Stop {
    #[cold]
    pub(super) fn impure() -> Self {
        Self(Box::new(Why::Impure))
    }

    #[cold]
    pub(super) fn unknown(instance: Object<'_, '_>) -> Self {
        Self(Box::new(Why::Unknown(instance.to_owned().unbind())))
    }

    pub(super) fn why(self) -> Why {
        *self.0
    }

    /// The same, where something was raised with that error in its place.
    pub(super) fn with(self, change: impl FnOnce(PyErr) -> PyErr) -> Self {
        match self.why() {
            Why::Raised(error) => change(error).into(),
            other => Self(Box::new(other)),
        }
    }

    /// What was raised in a full walk.
    pub(super) fn raised(self) -> PyErr {
        match self.why() {
            Why::Raised(error) => error,
            Why::Impure | Why::Unknown(_) => unreachable!("a full walk is never impure"),
        }
    }
}

impl From<PyErr> for Stop {
    #[cold]
    fn from(error: PyErr) -> Self {
        Self(Box::new(Why::Raised(error)))
    }
}

pub(super) type Saved = Result<(), Stop>;
