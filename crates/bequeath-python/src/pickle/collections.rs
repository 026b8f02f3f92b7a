//! Collections of the standard library, and named tuples, written as their `__reduce__` would say without asking them.

use bequeath_pickle::opcode as op;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::containers::changed;
use super::look::{self, Object};
use super::save::{Saved, Saver, Stop};
use crate::intern;

impl<'py> Saver<'_, 'py> {
    /// A tuple's items as the arguments of its class.
    pub(super) fn named_tuple(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        self.class_of(class)?;
        self.open_tuples += usize::from(!once);
        self.tuple_of(object, Self::save)?;
        self.open_tuples -= usize::from(!once);
        self.encoder.opcode(op::NEWOBJ);
        self.made(object, once).map(|_| ())
    }

    pub(super) fn default_dict(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        let factory = object.getattr(intern!(self.py, "default_factory"))?;
        let made = self.called(object, class, once, |this| {
            if factory.is_none() {
                return Ok(op::EMPTY_TUPLE);
            }
            this.save(factory.as_borrowed())?;
            Ok(op::TUPLE1)
        })?;
        if made && look::dict_len(object) > 0 {
            self.exact_dict_items(object)?;
        }
        Ok(())
    }

    /// Nothing is written where it has attributes, or keys whose hash would run code.
    pub(super) fn ordered_dict(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Result<bool, Stop> {
        let own = look::instance_dict(object);
        if own.is_some_and(|own| look::dict_len(own.as_borrowed()) > 0) {
            return Ok(false);
        }
        let mut items = look::DictItems::of(object);
        while let Some((key, _)) = items.next() {
            if !look::hashes_quietly(key) {
                return Ok(false);
            }
        }
        self.called(object, class, once, |_| Ok(op::EMPTY_TUPLE))?;
        let len = look::dict_len(object);
        if len == 0 {
            return Ok(true);
        }
        self.encoder.opcode(op::MARK);
        for key in object.try_iter()? {
            let key = key?;
            let Some(value) = look::dict_get_borrowed(object, key.as_borrowed()) else {
                return Err(changed("OrderedDict mutated during iteration"));
            };
            self.save(key.as_borrowed())?;
            self.item(value)?;
        }
        self.encoder.opcode(op::SETITEMS);
        Ok(true)
    }

    pub(super) fn deque(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        let most = object.getattr(intern!(self.py, "maxlen"))?;
        let made = self.called(object, class, once, |this| {
            if most.is_none() {
                return Ok(op::EMPTY_TUPLE);
            }
            this.encoder.opcode(op::EMPTY_TUPLE);
            this.save(most.as_borrowed())?;
            Ok(op::TUPLE2)
        })?;
        if !made {
            return Ok(());
        }
        self.list_items(&object.try_iter()?.into_any(), Some(object))?;
        Ok(())
    }

    /// A class and a dict of its items.
    pub(super) fn counter(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        let made = self.called(object, class, once, |this| {
            this.encoder.opcode(op::EMPTY_DICT);
            if look::dict_len(object) > 0 {
                this.exact_dict_items(object)?;
            }
            Ok(op::TUPLE1)
        });
        made.map(drop)
    }
}
