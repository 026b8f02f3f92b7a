//! Values of the standard library, written as their `__reduce__` would say without asking them.

use bequeath_pickle::opcode as op;
use pyo3::prelude::*;
use pyo3::types::{PyComplex, PyComplexMethods, PyList, PyString, PyType};

use super::look::{self, Object};
use super::moments::{self, Moment};
use super::save::{Saved, Saver, Stop};
use super::version;
use crate::intern;

impl<'py> Saver<'_, 'py> {
    /// Writes a call of an object's class, which makes the object; `arguments` writes what it is called with, and says which
    /// opcode makes a tuple of that. Says no where the object was written on the way.
    #[inline]
    pub(super) fn called(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
        arguments: impl FnOnce(&mut Self) -> Result<u8, Stop>,
    ) -> Result<bool, Stop> {
        self.class_of(class)?;
        // Nothing is remembered of the object before it is made: whatever leads back to it from here is met again.
        self.open_tuples += usize::from(!once);
        let tuple = arguments(self)?;
        self.open_tuples -= usize::from(!once);
        self.encoder.opcode(tuple);
        self.encoder.opcode(op::REDUCE);
        self.made(object, once)
    }

    /// Remembers an object that was just made; says no where it was written on the way, through its own parts.
    pub(super) fn made(&mut self, object: Object<'_, 'py>, once: bool) -> Result<bool, Stop> {
        if !once {
            if let Some(number) = self.memo.get(object) {
                self.encoder.opcode(op::POP);
                self.encoder.get(number);
                return Ok(false);
            }
            self.remember(object);
        }
        Ok(true)
    }

    /// Writes an object's class.
    #[inline]
    pub(super) fn class_of(&mut self, class: &Bound<'py, PyType>) -> Saved {
        let class = class.as_any().as_borrowed();
        match self.memo.get(class) {
            Some(number) => {
                self.encoder.get(number);
                Ok(())
            }
            None => self.save(class),
        }
    }

    pub(super) fn moment(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        moment: Moment,
        once: bool,
    ) -> Saved {
        let made = self.called(object, class, once, |this| {
            let zone = match moment {
                Moment::Date => {
                    this.encoder.binary(&moments::date_bytes(object));
                    None
                }
                Moment::Time => {
                    let (bytes, zone) = moments::time_parts(object);
                    this.encoder.binary(&bytes);
                    zone
                }
                Moment::DateTime => {
                    let (bytes, zone) = moments::datetime_parts(object);
                    this.encoder.binary(&bytes);
                    zone
                }
                Moment::Delta => {
                    for part in moments::delta_parts(object) {
                        this.encoder.int(part);
                    }
                    return Ok(op::TUPLE3);
                }
            };
            let Some(zone) = zone else {
                return Ok(op::TUPLE1);
            };
            this.save(zone)?;
            Ok(op::TUPLE2)
        });
        made.map(drop)
    }

    pub(super) fn decimal(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        let made = self.called(object, class, once, |this| {
            let text = object.str()?;
            this.encoder.text(text.to_str()?.as_bytes());
            Ok(op::TUPLE1)
        });
        made.map(drop)
    }

    pub(super) fn complex(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        let made = self.called(object, class, once, |this| {
            let number = object.cast::<PyComplex>().map_err(PyErr::from)?;
            this.encoder.float(number.real());
            this.encoder.float(number.imag());
            Ok(op::TUPLE2)
        });
        made.map(drop)
    }

    /// Class and two slots; nothing is written where one of them is no int.
    pub(super) fn fraction(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        slots: [usize; 2],
        once: bool,
    ) -> Result<bool, Stop> {
        let parts = slots.map(|offset| version::slot(object, offset));
        let parts = parts.map(|part| part.filter(|part| look::is_int(*part)));
        let [Some(upper), Some(lower)] = parts else {
            return Ok(false);
        };
        self.called(object, class, once, |this| {
            this.save(upper)?;
            this.save(lower)?;
            Ok(op::TUPLE2)
        })?;
        Ok(true)
    }

    /// Class and number; nothing is written where more is known of it.
    pub(super) fn uuid(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        slots: [usize; 2],
        once: bool,
    ) -> Result<bool, Stop> {
        let py = self.py;
        let parts = slots.map(|offset| version::slot(object, offset));
        let [Some(number), Some(safe)] = parts else {
            return Ok(false);
        };
        let own = look::instance_dict(safe);
        let name = own.map(|own| own.get_item(intern!(py, "_name_")));
        let unknown = match name {
            Some(Ok(name)) => name
                .cast_exact::<PyString>()
                .is_ok_and(|name| name == "unknown"),
            _ => false,
        };
        if !unknown || !look::is_int(number) {
            return Ok(false);
        }
        self.class_of(class)?;
        self.encoder.opcode(op::EMPTY_TUPLE);
        self.encoder.opcode(op::NEWOBJ);
        self.made(object, once)?;
        self.encoder.opcode(op::EMPTY_DICT);
        self.save(intern!(py, "int").as_any().as_borrowed())?;
        self.save(number)?;
        self.encoder.opcode(op::SETITEM);
        self.encoder.opcode(op::BUILD);
        Ok(true)
    }

    pub(super) fn path(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        slot: usize,
        once: bool,
    ) -> Result<bool, Stop> {
        let parts = version::slot(object, slot).and_then(|parts| parts.cast_exact::<PyList>().ok());
        let Some(parts) = parts else {
            return Ok(false);
        };
        if !parts
            .iter()
            .all(|part| part.is_exact_instance_of::<PyString>())
        {
            return Ok(false);
        }
        let parts = parts.as_any().as_borrowed();
        self.called(object, class, once, |this| {
            this.encoder.opcode(op::MARK);
            for at in 0..look::list_len(parts) {
                if let Some(part) = look::list_item(parts, at) {
                    this.item(part)?;
                }
            }
            Ok(op::TUPLE)
        })?;
        Ok(true)
    }

    pub(super) fn member(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Result<bool, Stop> {
        let own = look::instance_dict(object);
        let value = own.and_then(|own| own.get_item(intern!(self.py, "_value_")).ok());
        let Some(value) = value else {
            return Ok(false);
        };
        self.called(object, class, once, |this| {
            this.save(value.as_borrowed())?;
            Ok(op::TUPLE1)
        })?;
        Ok(true)
    }

    pub(super) fn range(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        let made = self.called(object, class, once, |this| {
            for name in [
                intern!(this.py, "start"),
                intern!(this.py, "stop"),
                intern!(this.py, "step"),
            ] {
                this.save(object.getattr(name)?.as_borrowed())?;
            }
            Ok(op::TUPLE3)
        });
        made.map(drop)
    }
}
