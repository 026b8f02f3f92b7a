//! Values of the standard library, written as their `__reduce__` would say without asking them.

use bequeath_pickle::opcode as op;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyType};

use super::look::{self, Object};
use super::moments::{self, Moment};
use super::save::{Saved, Saver, Stop};
use super::version;
use crate::intern;

impl<'py> Saver<'_, 'py> {
    /// Writes a call whose callable and arguments are written.
    pub(super) fn called(&mut self, object: Object<'_, 'py>, once: bool) -> Saved {
        self.encoder.opcode(op::REDUCE);
        self.made(object, once).map(|_| ())
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
        self.class_of(class)?;
        let zone = match moment {
            Moment::Date => {
                self.encoder.binary(&moments::date_bytes(object));
                None
            }
            Moment::Time => {
                let (bytes, zone) = moments::time_parts(object);
                self.encoder.binary(&bytes);
                zone
            }
            Moment::DateTime => {
                let (bytes, zone) = moments::datetime_parts(object);
                self.encoder.binary(&bytes);
                zone
            }
            Moment::Delta => {
                for part in moments::delta_parts(object) {
                    self.encoder.int(part);
                }
                self.encoder.opcode(op::TUPLE3);
                return self.called(object, once);
            }
        };
        match zone {
            Some(zone) => {
                self.open_tuples += usize::from(!once);
                self.save(zone)?;
                self.open_tuples -= usize::from(!once);
                self.encoder.opcode(op::TUPLE2);
            }
            None => self.encoder.opcode(op::TUPLE1),
        }
        self.called(object, once)
    }

    pub(super) fn decimal(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        self.class_of(class)?;
        let text = object.str()?;
        self.encoder.text(text.to_str()?.as_bytes());
        self.encoder.opcode(op::TUPLE1);
        self.called(object, once)
    }

    pub(super) fn complex(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        self.class_of(class)?;
        let number = object
            .cast::<pyo3::types::PyComplex>()
            .map_err(PyErr::from)?;
        let (real, imaginary) = {
            use pyo3::types::PyComplexMethods;
            (number.real(), number.imag())
        };
        self.encoder.float(real);
        self.encoder.float(imaginary);
        self.encoder.opcode(op::TUPLE2);
        self.called(object, once)
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
        let [Some(upper), Some(lower)] = parts else {
            return Ok(false);
        };
        if !look::is_int(upper) || !look::is_int(lower) {
            return Ok(false);
        }
        self.class_of(class)?;
        self.save(upper)?;
        self.save(lower)?;
        self.encoder.opcode(op::TUPLE2);
        self.called(object, once)?;
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
        self.class_of(class)?;
        self.encoder.opcode(op::MARK);
        let parts = parts.as_any().as_borrowed();
        for at in 0..look::list_len(parts) {
            if let Some(part) = look::list_item(parts, at) {
                self.item(part)?;
            }
        }
        self.encoder.opcode(op::TUPLE);
        self.called(object, once)?;
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
        self.class_of(class)?;
        self.open_tuples += 1;
        self.save(value.as_borrowed())?;
        self.open_tuples -= 1;
        self.encoder.opcode(op::TUPLE1);
        self.called(object, once)?;
        Ok(true)
    }

    pub(super) fn range(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        self.class_of(class)?;
        for name in [
            intern!(self.py, "start"),
            intern!(self.py, "stop"),
            intern!(self.py, "step"),
        ] {
            self.save(object.getattr(name)?.as_borrowed())?;
        }
        self.encoder.opcode(op::TUPLE3);
        self.called(object, once)
    }
}
