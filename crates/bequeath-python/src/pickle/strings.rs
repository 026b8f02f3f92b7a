//! Numbers and strings that take more than a few bytes, and what lies in buffers.

use bequeath_pickle::opcode as op;
use pyo3::prelude::*;

use super::buffers::{self, Large};
use super::look::{self, Object};
use super::save::{Saved, Saver, Stop};
use super::tables::pickling_error;
use crate::bytes_view::BytesView;
use crate::intern;

impl<'py> Saver<'_, 'py> {
    pub(super) fn int(&mut self, object: Object<'_, 'py>) -> Saved {
        self.without_collector();
        if let Some(value) = look::small_int(object) {
            self.encoder.int(value);
            return Ok(());
        }
        if self.encoder.protocol() < 2 {
            let digits = object.repr()?;
            self.encoder.long_line(digits.to_str()?.as_bytes());
            return Ok(());
        }
        if let Ok(value) = object.extract::<i128>() {
            self.encoder.wide(value);
            return Ok(());
        }
        let py = self.py;
        let bits: usize = object.call_method0(intern!(py, "bit_length"))?.extract()?;
        // One bit more for the sign; a power of two that is negative does without.
        let negative = object.lt(0)?;
        let ones = negative
            && object
                .neg()?
                .call_method0(intern!(py, "bit_count"))?
                .eq(1)?;
        let len = if ones { bits.div_ceil(8) } else { bits / 8 + 1 };
        if i32::try_from(len).is_err() {
            return Err(
                pyo3::exceptions::PyOverflowError::new_err("int too large to pickle").into(),
            );
        }
        let keywords = pyo3::types::PyDict::new(py);
        keywords.set_item(intern!(py, "signed"), true)?;
        let bytes = object.call_method(
            intern!(py, "to_bytes"),
            (len, intern!(py, "little")),
            Some(&keywords),
        )?;
        self.encoder.long(look::bytes(bytes.as_borrowed()));
        Ok(())
    }

    pub(super) fn float(&mut self, object: Object<'_, 'py>) -> Saved {
        if self.encoder.protocol() >= 1 {
            self.encoder.float(look::float(object));
        } else {
            let repr = object.repr()?;
            self.encoder.float_line(repr.to_str()?.as_bytes());
        }
        Ok(())
    }

    pub(super) fn text(&mut self, object: Object<'_, 'py>, once: bool) -> Saved {
        self.without_collector();
        if self.encoder.protocol() == 0 {
            return self.text_line(object);
        }
        if let Some(utf8) = look::utf8(object) {
            self.text_bytes(utf8)?;
        } else {
            let py = self.py;
            let encoded = object.call_method1(
                intern!(py, "encode"),
                (intern!(py, "utf-8"), intern!(py, "surrogatepass")),
            )?;
            self.text_bytes(look::bytes(encoded.as_borrowed()))?;
        }
        self.remember_unless(once, object);
        Ok(())
    }

    pub(super) fn text_bytes(&mut self, utf8: &[u8]) -> Saved {
        if !self.encoder.is_outside(utf8.len()) || self.hooks.write.is_none() {
            self.encoder.text(utf8);
            return Ok(());
        }
        self.encoder.text_header_outside(utf8.len());
        self.flush()?;
        let payload = look::new_bytes(self.py, utf8)?.into_any();
        self.payload(&payload)
    }

    pub(super) fn text_line(&mut self, object: Object<'_, 'py>) -> Saved {
        let py = self.py;
        let encoded = object.call_method1(
            intern!(py, "encode"),
            (intern!(py, "utf-32-le"), intern!(py, "surrogatepass")),
        )?;
        let points = look::bytes(encoded.as_borrowed())
            .chunks_exact(4)
            .map(|point| {
                point
                    .iter()
                    .rev()
                    .fold(0, |value, byte| value << 8 | u32::from(*byte))
            });
        self.encoder.text_line(points);
        self.remember(object);
        Ok(())
    }

    pub(super) fn bytes(&mut self, object: Object<'_, 'py>, once: bool) -> Saved {
        if self.encoder.protocol() < 3 {
            return self.old_bytes(object);
        }
        let bytes = look::bytes(object);
        if self.encoder.is_outside(bytes.len()) && self.hooks.write.is_some() {
            self.encoder.binary_header_outside(bytes.len());
            self.flush()?;
            self.payload(&object.to_owned())?;
        } else {
            self.encoder.binary(bytes);
        }
        self.remember_unless(once, object);
        Ok(())
    }

    /// Writes a large string itself, without a copy.
    pub(super) fn payload(&mut self, bytes: &Bound<'py, PyAny>) -> Saved {
        if let Some(write) = &self.hooks.write {
            write.call1((bytes,))?;
        }
        Ok(())
    }

    pub(super) fn bytearray(&mut self, object: Object<'_, 'py>) -> Saved {
        if self.encoder.protocol() < 5 {
            return self.old_bytearray(object);
        }
        let bytes = look::bytearray(object);
        if self.encoder.is_outside(bytes.len()) && self.hooks.write.is_some() {
            self.encoder.bytearray_header_outside(bytes.len());
            self.flush()?;
            self.payload(&object.to_owned())?;
        } else {
            self.encoder.bytearray(bytes);
        }
        self.remember(object);
        Ok(())
    }

    pub(super) fn buffer(&mut self, object: Object<'_, 'py>, once: bool) -> Saved {
        self.without_collector();
        let py = self.py;
        if self.encoder.protocol() < 5 {
            return Err(
                pickling_error(py, "PickleBuffer can only be pickled with protocol >= 5").into(),
            );
        }
        if let (true, Some(callback)) = (self.pure, &self.hooks.buffer_callback) {
            if !look::is_method_of_list(callback) {
                return Err(Stop::impure());
            }
        }
        let before =
            buffers::pickle_buffer(object).map(|(readonly, inside)| (readonly, inside.len()));
        let Some((readonly, len)) = before else {
            // Released, or in pieces: it says so itself.
            object.call_method0(intern!(py, "raw")).map_err(|error| {
                if error.is_instance_of::<pyo3::exceptions::PyBufferError>(py) {
                    let text =
                        "PickleBuffer can not be pickled when pointing to a non-contiguous buffer";
                    pickling_error(py, text)
                } else {
                    error
                }
            })?;
            return Err(pickling_error(py, "PickleBuffer without contents").into());
        };
        // A callback could release it.
        let held = match &self.hooks.buffer_callback {
            Some(_) if !self.pure => BytesView::of(&object, false).ok(),
            _ => None,
        };
        let in_band = match (&self.hooks.buffer_callback, self.hooks.policy) {
            (None, None) => true,
            (Some(callback), _) => callback.call1((object,))?.is_truthy()?,
            (None, Some(_)) if self.pure => return Err(Stop::impure()),
            (None, Some(policy)) => !policy.takes(&object)?,
        };
        if !in_band {
            self.encoder.opcode(op::NEXT_BUFFER);
            if readonly {
                self.encoder.opcode(op::READONLY_BUFFER);
            }
            return Ok(());
        }
        let inside = match (buffers::pickle_buffer(object), &held) {
            (Some((_, inside)), _) => Some(inside),
            (None, held) => held.as_ref().map(BytesView::bytes),
        };
        let Some(inside) = inside.filter(|inside| inside.len() == len) else {
            return Err(pickling_error(py, "PickleBuffer changed by its callback").into());
        };
        let header = |this: &mut Self| {
            if readonly {
                this.encoder.binary_header_outside(inside.len());
            } else {
                this.encoder.bytearray_header_outside(inside.len());
            }
        };
        if self.encoder.is_outside(inside.len()) && self.hooks.write.is_some() {
            header(self);
            self.flush()?;
            let bytes = pyo3::types::PyBytes::new(py, inside).into_any();
            self.payload(&bytes)?;
        } else if self.encoder.is_outside(inside.len()) && self.beside.is_some() {
            header(self);
            let at = self.encoder.bytes().len();
            if let Some(beside) = &mut self.beside {
                let buffer = object.to_owned().unbind();
                beside.push(Large { at, buffer });
            }
        } else if readonly {
            self.encoder.binary(inside);
        } else {
            self.encoder.bytearray(inside);
        }
        self.remember_unless(once, object);
        Ok(())
    }
}
