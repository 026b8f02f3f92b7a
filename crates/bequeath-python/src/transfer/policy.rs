//! The rule of transfer as the pickler asks for it: who decides is `reduction`, and what goes beside a message is decided here.

use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use crate::pickle::{Policy, Reduced};
use crate::reduction;

use super::apart;
use super::buffers::{copy_to_block, View};
use super::open::{add_buffer, goes_outside};

/// Buffers from this size on travel out of band, in blocks of their own.
const OUT_OF_BAND: usize = 4096;

/// How a pickle is made for a transfer.
pub(super) struct Rule {
    /// Large buffers travel beside it.
    beside: bool,
    /// Definitions travel once, apart from it.
    apart: bool,
}

/// Messages and starts.
pub(super) static WHOLE: Rule = Rule {
    beside: true,
    apart: false,
};

/// Messages to receivers that get many.
pub(super) static LEAN: Rule = Rule {
    beside: true,
    apart: true,
};

/// What is pickled while a transfer is open, and stays bytes inside of it.
pub(super) static WITHIN: Rule = Rule {
    beside: false,
    apart: false,
};

impl Rule {
    pub(super) fn is_apart(&self) -> bool {
        self.apart
    }
}

impl Policy for Rule {
    fn is_plain(&self, object: &Bound<'_, PyAny>, kind: &Bound<'_, PyType>) -> PyResult<bool> {
        reduction::is_plain(object, kind)
    }

    fn has_name(&self, module: &Bound<'_, PyString>, name: &Bound<'_, PyString>) -> PyResult<bool> {
        reduction::has_name(module, name)
    }

    fn reduce<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Option<Reduced<'py>>> {
        if self.apart && reduction::is_by_value(object)? {
            if let Some(place) = apart::place(object)? {
                return Ok(Some(Reduced::Said(place)));
            }
        }
        reduction::reduce(object)
    }

    fn takes(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        if !self.beside {
            return Ok(false);
        }
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
