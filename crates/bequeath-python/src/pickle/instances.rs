//! Plain instances, whose default reduction is written without making it.

use bequeath_pickle::opcode as op;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use super::depth::Deeper;
use super::look::{self, Object};
use super::plain::{self, Plain};
use super::save::{Saved, Saver, Stop};
use crate::intern;

impl<'py> Saver<'_, 'py> {
    /// Writes an instance as its default reduction would be, without anybody's code.
    pub(super) fn plain(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        plain: &Plain,
        once: bool,
    ) -> Saved {
        let state = look::instance_dict(object);
        if let Some(state) = state.as_ref().filter(|_| !self.pure) {
            if plain::is_overridden(state.as_borrowed()) {
                // An attribute of the instance stands in for a method of pickling.
                let py = self.py;
                let reduce = object.getattr(intern!(py, "__reduce_ex__"))?;
                let reduced = reduce.call1((self.encoder.protocol(),))?;
                return self.reduced(object, &reduced);
            }
        }
        let saved = self.class_of(class);
        let saved = self.noted_part(saved, Some(object), "class");
        self.noted_part(saved, Some(object), "object")?;
        self.encoder.opcode(op::EMPTY_TUPLE);
        self.encoder.opcode(op::NEWOBJ);
        if !self.made(object, once)? {
            return Ok(());
        }
        let state = state.filter(|state| look::dict_len(state.as_borrowed()) > 0);
        let slots = plain.has_slots() && plain.slots(object).next().is_some();
        if state.is_none() && !slots {
            return Ok(());
        }
        let saved = match &state {
            Some(state) => self.instance_state(state),
            None => {
                self.encoder.none();
                Ok(())
            }
        };
        let saved = match slots {
            false => saved,
            true => self
                .noted(saved, || "tuple item 0".to_owned())
                .and_then(|()| {
                    let saved = self.slots_state(object, plain);
                    self.noted(saved, || "tuple item 1".to_owned())
                }),
        };
        let saved = self.noted_part(saved, Some(object), "state");
        self.noted_part(saved, Some(object), "object")?;
        if slots {
            self.encoder.opcode(op::TUPLE2);
        }
        self.encoder.opcode(op::BUILD);
        Ok(())
    }

    /// The second half of the state of an instance with slots.
    fn slots_state(&mut self, object: Object<'_, 'py>, plain: &Plain) -> Saved {
        if !self.pure {
            let state = PyDict::new(self.py);
            for (name, value) in plain.slots(object) {
                state.set_item(name, value)?;
            }
            return self.save(state.as_any().as_borrowed());
        }
        self.encoder.opcode(op::EMPTY_DICT);
        self.encoder.opcode(op::MARK);
        for (name, value) in plain.slots(object) {
            self.save(name.as_any().as_borrowed())?;
            self.save(value)?;
        }
        self.encoder.opcode(op::SETITEMS);
        Ok(())
    }

    /// An instance's dict, which normally only the instance and this function hold.
    fn instance_state(&mut self, state: &Bound<'py, PyAny>) -> Saved {
        if !self.pure {
            return self.save(state.as_borrowed());
        }
        if !look::is_dict(state.as_borrowed()) {
            return Err(Stop::impure());
        }
        if self.open_tuples > 0 || !look::is_held_twice(state.as_borrowed()) {
            if plain::is_overridden(state.as_borrowed()) {
                return Err(Stop::impure());
            }
            return self.save(state.as_borrowed());
        }
        self.encoder.opcode(op::EMPTY_DICT);
        let _deeper = Deeper::enter(self.py, c" while pickling an object")?;
        self.items_of_dict::<true>(state.as_borrowed())
    }

    /// Writes an attribute's name, unless it is one that pickling asks an instance for.
    #[inline]
    pub(super) fn attribute_name(&mut self, name: Object<'_, 'py>) -> Saved {
        if let Some((number, true)) = self.memo.find(name) {
            self.encoder.get(number);
            return Ok(());
        }
        if !look::is_str(name) || look::utf8(name).is_none_or(plain::is_asked_for) {
            return Err(Stop::impure());
        }
        self.save(name)?;
        self.memo.check(name);
        Ok(())
    }
}
