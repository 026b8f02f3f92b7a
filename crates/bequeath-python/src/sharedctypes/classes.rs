//! The wrappers by what they wrap: a value, an array, a string.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PySlice, PyTuple};
use pyo3::PyClassInitializer;

use crate::intern;

use super::base::SynchronizedBase;

/// A simple ctypes object behind a lock.
#[pyclass(frozen, subclass, extends = SynchronizedBase, module = "bequeath.sharedctypes")]
pub struct Synchronized;

#[pymethods]
impl Synchronized {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(obj, lock=None, ctx=None)")]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(SynchronizedBase::empty()).add_subclass(Self)
    }

    /// The value, read and written under the lock.
    #[getter]
    pub(crate) fn value<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        slf.as_super()
            .get()
            .locked(py, |parts| match &parts.simple {
                Some(simple) => simple.get(py),
                None => parts.object.bind(py).getattr(intern!(py, "value")),
            })
    }

    #[setter]
    pub(crate) fn set_value(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        slf.as_super()
            .get()
            .locked(py, |parts| match &parts.simple {
                Some(simple) if simple.set(value) => Ok(()),
                _ => parts.object.bind(py).setattr(intern!(py, "value"), value),
            })
    }
}

/// A ctypes array behind a lock.
#[pyclass(frozen, subclass, extends = SynchronizedBase, module = "bequeath.sharedctypes")]
pub struct SynchronizedArray;

#[pymethods]
impl SynchronizedArray {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(obj, lock=None, ctx=None)")]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(SynchronizedBase::empty()).add_subclass(Self)
    }

    fn __len__(slf: &Bound<'_, Self>) -> PyResult<usize> {
        slf.as_super().get().parts()?.object.bind(slf.py()).len()
    }

    fn __getitem__<'py>(
        slf: &Bound<'py, Self>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        slf.as_super()
            .get()
            .locked(py, |parts| parts.object.bind(py).get_item(index))
    }

    fn __setitem__(
        slf: &Bound<'_, Self>,
        index: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        slf.as_super()
            .get()
            .locked(py, |parts| parts.object.bind(py).set_item(index, value))
    }

    fn __getslice__<'py>(
        slf: &Bound<'py, Self>,
        start: isize,
        stop: isize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let slice = PySlice::new(slf.py(), start, stop, 1);
        Self::__getitem__(slf, slice.as_any())
    }

    fn __setslice__(
        slf: &Bound<'_, Self>,
        start: isize,
        stop: isize,
        values: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let slice = PySlice::new(slf.py(), start, stop, 1);
        Self::__setitem__(slf, slice.as_any(), values)
    }
}

/// A ctypes array of characters behind a lock.
#[pyclass(frozen, subclass, extends = SynchronizedArray, module = "bequeath.sharedctypes")]
pub struct SynchronizedString;

impl SynchronizedString {
    fn base<'a, 'py>(slf: &'a Bound<'py, Self>) -> &'a SynchronizedBase {
        slf.as_super().as_super().get()
    }

    fn read<'py>(slf: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        Self::base(slf).locked(py, |parts| parts.object.bind(py).getattr(name))
    }

    fn write(slf: &Bound<'_, Self>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        Self::base(slf).locked(py, |parts| parts.object.bind(py).setattr(name, value))
    }
}

#[pymethods]
impl SynchronizedString {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(obj, lock=None, ctx=None)")]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(SynchronizedBase::empty())
            .add_subclass(SynchronizedArray)
            .add_subclass(Self)
    }

    /// The bytes up to the first zero.
    #[getter]
    fn value<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::read(slf, "value")
    }

    #[setter]
    fn set_value(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write(slf, "value", value)
    }

    /// All bytes.
    #[getter]
    fn raw<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::read(slf, "raw")
    }

    #[setter]
    fn set_raw(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write(slf, "raw", value)
    }
}
