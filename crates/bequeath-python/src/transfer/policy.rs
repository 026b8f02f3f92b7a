//! The rule of transfer as the pickler asks for it: who decides is `reduction`, and what goes beside a message is decided here.

use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use crate::pickle::Policy;
use crate::reduction;

use super::buffers::{copy_to_block, View};
use super::open::{add_buffer, goes_outside};

/// Buffers from this size on travel out of band, in blocks of their own.
const OUT_OF_BAND: usize = 4096;

/// Messages and starts.
pub(super) struct Transferred;

/// What is pickled while a transfer is open, and stays bytes inside of it.
pub(super) struct Within;

impl Policy for Transferred {
    fn is_plain(&self, object: &Bound<'_, PyAny>, kind: &Bound<'_, PyType>) -> PyResult<bool> {
        reduction::is_plain(object, kind)
    }

    fn has_name(&self, module: &Bound<'_, PyString>, name: &Bound<'_, PyString>) -> PyResult<bool> {
        reduction::has_name(module, name)
    }

    fn reduce<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        reduction::reduce(object)
    }

    fn takes(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(view) = View::of(buffer) else {
            return Ok(false);
        };
        if view.len() < OUT_OF_BAND || goes_outside() {
            return Ok(false);
        }
        let block = copy_to_block(buffer.py(), &view)?;
        Ok(add_buffer(block))
    }
}

impl Policy for Within {
    fn is_plain(&self, object: &Bound<'_, PyAny>, kind: &Bound<'_, PyType>) -> PyResult<bool> {
        reduction::is_plain(object, kind)
    }

    fn has_name(&self, module: &Bound<'_, PyString>, name: &Bound<'_, PyString>) -> PyResult<bool> {
        reduction::has_name(module, name)
    }

    fn reduce<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        reduction::reduce(object)
    }

    fn takes(&self, _buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(false)
    }
}
