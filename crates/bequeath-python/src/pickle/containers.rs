//! Exact lists, tuples and dicts, and the items that a reduction's iterators give.

use bequeath_pickle::opcode as op;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::look::{self, DictItems, Object};
use super::notes::{shown, type_name};
use super::save::{Saved, Saver, Stop};
use crate::intern;

/// Items per MARK: a reader's stack holds no more than this of one container.
pub(super) const BATCH: usize = 1000;

impl<'py> Saver<'_, 'py> {
    /// Writes an item of a container that code which runs meanwhile may change.
    #[inline]
    pub(super) fn item(&mut self, item: Object<'_, 'py>) -> Saved {
        if self.pure {
            return self.save(item);
        }
        let held = item.to_owned();
        self.save(held.as_borrowed())
    }

    pub(super) fn dict(&mut self, object: Object<'_, 'py>, once: bool) -> Saved {
        if self.encoder.protocol() == 0 {
            self.encoder.opcode(op::MARK);
            self.encoder.opcode(op::DICT);
        } else {
            self.encoder.opcode(op::EMPTY_DICT);
        }
        self.remember_unless(once, object);
        if look::dict_len(object) == 0 {
            return Ok(());
        }
        let fast = self.enter_fast(object)?;
        if self.encoder.protocol() == 0 {
            let items = object.call_method0(intern!(self.py, "items"))?;
            self.dict_items(&items.try_iter()?.into_any(), Some(object))?;
        } else {
            self.exact_dict_items(object)?;
        }
        self.leave_fast(fast);
        Ok(())
    }

    #[inline]
    pub(super) fn exact_dict_items(&mut self, dict: Object<'_, 'py>) -> Saved {
        self.items_of_dict::<false>(dict)
    }

    /// `ATTRIBUTES`: the keys are an instance's attributes, in pure mode.
    pub(super) fn items_of_dict<const ATTRIBUTES: bool>(&mut self, dict: Object<'_, 'py>) -> Saved {
        let len = look::dict_len(dict);
        let mut items = DictItems::of(dict);
        let mut written = 0;
        while written < len {
            let batch = (len - written).min(BATCH);
            if len > 1 {
                self.encoder.opcode(op::MARK);
            }
            for _ in 0..batch {
                let Some((key, value)) = items.next() else {
                    return Err(changed("dictionary changed size during iteration"));
                };
                if ATTRIBUTES {
                    self.attribute_name(key)?;
                    let saved = self.save(value);
                    self.noted(saved, || item_at(dict, &key))?;
                } else if self.pure {
                    self.save(key)?;
                    let saved = self.save(value);
                    self.noted(saved, || item_at(dict, &key))?;
                } else {
                    let (key, value) = (key.to_owned(), value.to_owned());
                    self.save(key.as_borrowed())?;
                    let saved = self.save(value.as_borrowed());
                    self.noted(saved, || item_at(dict, &key))?;
                    if look::dict_len(dict) != len {
                        return Err(changed("dictionary changed size during iteration"));
                    }
                }
            }
            self.encoder
                .opcode(if len > 1 { op::SETITEMS } else { op::SETITEM });
            written += batch;
        }
        Ok(())
    }

    /// Keys and values that an iterator gives.
    pub(super) fn dict_items(
        &mut self,
        iterator: &Bound<'py, PyAny>,
        of: Option<Object<'_, 'py>>,
    ) -> Saved {
        let mut pairs = iterator.try_iter()?;
        let mut next = || -> PyResult<Option<Bound<'py, PyTuple>>> {
            let Some(pair) = pairs.next().transpose()? else {
                return Ok(None);
            };
            match pair.cast_into::<PyTuple>() {
                Ok(pair) if pair.len() == 2 => Ok(Some(pair)),
                _ => Err(pyo3::exceptions::PyTypeError::new_err(
                    "dict items iterator must return 2-tuples",
                )),
            }
        };
        if self.encoder.protocol() == 0 {
            while let Some(pair) = next()? {
                self.pair(&pair, of)?;
                self.encoder.opcode(op::SETITEM);
            }
            return Ok(());
        }
        // One look ahead, so that a single item needs no mark.
        let Some(mut first) = next()? else {
            return Ok(());
        };
        loop {
            let Some(second) = next()? else {
                self.pair(&first, of)?;
                self.encoder.opcode(op::SETITEM);
                return Ok(());
            };
            self.encoder.opcode(op::MARK);
            self.pair(&first, of)?;
            self.pair(&second, of)?;
            let mut count = 2;
            let mut more = None;
            while count < BATCH {
                more = next()?;
                let Some(pair) = &more else { break };
                self.pair(pair, of)?;
                count += 1;
            }
            self.encoder.opcode(op::SETITEMS);
            if more.is_none() && count < BATCH {
                return Ok(());
            }
            match next()? {
                Some(pair) => first = pair,
                None => return Ok(()),
            }
        }
    }

    fn pair(&mut self, pair: &Bound<'py, PyTuple>, of: Option<Object<'_, 'py>>) -> Saved {
        let key = look::tuple_item(pair.as_any().as_borrowed(), 0);
        self.save(key)?;
        let saved = self.save(look::tuple_item(pair.as_any().as_borrowed(), 1));
        self.noted(saved, || match of {
            Some(of) => item_at(of, &key),
            None => format!("item {}", shown(&key)),
        })
    }

    pub(super) fn list(&mut self, object: Object<'_, 'py>, once: bool) -> Saved {
        if self.encoder.protocol() == 0 {
            self.encoder.opcode(op::MARK);
            self.encoder.opcode(op::LIST);
        } else {
            self.encoder.opcode(op::EMPTY_LIST);
        }
        self.remember_unless(once, object);
        let len = look::list_len(object);
        if len == 0 {
            return Ok(());
        }
        let fast = self.enter_fast(object)?;
        if self.encoder.protocol() == 0 {
            self.list_items(&object.try_iter()?.into_any(), Some(object))?;
        } else {
            self.exact_list_items(object)?;
        }
        self.leave_fast(fast);
        Ok(())
    }

    fn exact_list_items(&mut self, list: Object<'_, 'py>) -> Saved {
        let len = look::list_len(list);
        let mut written = 0;
        loop {
            let batch = (len - written).min(BATCH);
            if len > 1 {
                self.encoder.opcode(op::MARK);
            }
            for at in written..written + batch {
                let Some(item) = look::list_item(list, at) else {
                    return Err(changed("list changed size during iteration"));
                };
                let saved = self.item(item);
                self.noted(saved, || format!("{} item {at}", type_name(list)))?;
            }
            self.encoder
                .opcode(if len > 1 { op::APPENDS } else { op::APPEND });
            written += batch;
            if !self.pure && look::list_len(list) != len {
                return Err(changed("list changed size during iteration"));
            }
            if written >= len {
                return Ok(());
            }
        }
    }

    /// Items that an iterator gives.
    pub(super) fn list_items(
        &mut self,
        iterator: &Bound<'py, PyAny>,
        of: Option<Object<'_, 'py>>,
    ) -> Saved {
        let mut items = iterator.try_iter()?;
        let mut at = 0_usize;
        let mut save = |this: &mut Self, item: &Bound<'py, PyAny>| -> Saved {
            let saved = this.save(item.as_borrowed());
            at += 1;
            this.noted(saved, || match of {
                Some(of) => format!("{} item {}", type_name(of), at - 1),
                None => format!("item {}", at - 1),
            })
        };
        if self.encoder.protocol() == 0 {
            for item in items {
                save(self, &item?)?;
                self.encoder.opcode(op::APPEND);
            }
            return Ok(());
        }
        let Some(mut first) = items.next().transpose()? else {
            return Ok(());
        };
        loop {
            let Some(second) = items.next().transpose()? else {
                save(self, &first)?;
                self.encoder.opcode(op::APPEND);
                return Ok(());
            };
            self.encoder.opcode(op::MARK);
            save(self, &first)?;
            save(self, &second)?;
            let mut count = 2;
            while count < BATCH {
                let Some(item) = items.next().transpose()? else {
                    self.encoder.opcode(op::APPENDS);
                    return Ok(());
                };
                save(self, &item)?;
                count += 1;
            }
            self.encoder.opcode(op::APPENDS);
            match items.next().transpose()? {
                Some(item) => first = item,
                None => return Ok(()),
            }
        }
    }

    pub(super) fn tuple(&mut self, object: Object<'_, 'py>, once: bool) -> Saved {
        let len = look::tuple_len(object);
        if once || len == 0 {
            return self.tuple_of(object, Self::save);
        }
        self.open_tuples += 1;
        let entered = self.entered;
        self.tuple_items(object, Self::save)?;
        self.open_tuples -= 1;
        // Only by a container it can have been reached.
        let again = (self.entered != entered).then(|| self.memo.get(object));
        if let Some(number) = again.flatten() {
            // It holds itself, and was written on the way: what lies on the stack is not needed.
            let marked = self.is_marked(len);
            if !marked || self.encoder.protocol() == 0 {
                for _ in 0..len + usize::from(marked) {
                    self.encoder.opcode(op::POP);
                }
            } else {
                self.encoder.opcode(op::POP_MARK);
            }
            self.encoder.get(number);
            return Ok(());
        }
        self.tuple_end(len);
        // Nothing comes behind the root of a pure walk that could lead back to it; inside of itself it is remembered.
        let is_root = self.open_tuples == 0 && object.as_ptr() as usize == self.root;
        if !(is_root && self.pure) {
            self.remember(object);
        }
        Ok(())
    }

    /// Writes a tuple that is not remembered.
    #[inline]
    pub(super) fn tuple_of(
        &mut self,
        tuple: Object<'_, 'py>,
        save: impl Fn(&mut Self, Object<'_, 'py>) -> Saved,
    ) -> Saved {
        self.tuple_items(tuple, save)?;
        self.tuple_end(look::tuple_len(tuple));
        Ok(())
    }

    #[inline]
    fn tuple_items(
        &mut self,
        tuple: Object<'_, 'py>,
        save: impl Fn(&mut Self, Object<'_, 'py>) -> Saved,
    ) -> Saved {
        let len = look::tuple_len(tuple);
        if self.is_marked(len) {
            self.encoder.opcode(op::MARK);
        }
        for at in 0..len {
            let saved = save(self, look::tuple_item(tuple, at));
            self.noted(saved, || format!("tuple item {at}"))?;
        }
        Ok(())
    }

    #[inline]
    fn tuple_end(&mut self, len: usize) {
        self.encoder.opcode(match len {
            _ if self.is_marked(len) => op::TUPLE,
            0 => op::EMPTY_TUPLE,
            1 => op::TUPLE1,
            2 => op::TUPLE2,
            _ => op::TUPLE3,
        });
    }

    /// Whether a tuple of so many items begins with a mark.
    #[inline]
    fn is_marked(&self, len: usize) -> bool {
        match self.encoder.protocol() {
            0 => true,
            1 => len > 0,
            _ => len > 3,
        }
    }
}

fn item_at(of: Object<'_, '_>, key: &Bound<'_, PyAny>) -> String {
    format!("{} item {}", type_name(of), shown(key))
}

pub(super) fn changed(what: &'static str) -> Stop {
    PyRuntimeError::new_err(what).into()
}
