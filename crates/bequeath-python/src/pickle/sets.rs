//! Exact sets and frozensets.

use bequeath_pickle::opcode as op;
use pyo3::prelude::*;

use super::containers::BATCH;
use super::look::{self, Object};
use super::save::{Saved, Saver};

impl<'py> Saver<'_, 'py> {
    pub(super) fn set(&mut self, object: Object<'_, 'py>, once: bool) -> Saved {
        if self.encoder.protocol() < 4 {
            return self.reduced_to_list(object);
        }
        self.encoder.opcode(op::EMPTY_SET);
        self.remember_unless(once, object);
        if look::set_len(object) == 0 {
            return Ok(());
        }
        if self.pure {
            let mut items = look::SetItems::of(object);
            let mut left = look::set_len(object);
            while left > 0 {
                self.encoder.opcode(op::MARK);
                for _ in 0..left.min(BATCH) {
                    if let Some(item) = items.next() {
                        let saved = self.save(item);
                        self.noted_part(saved, Some(object), "element")?;
                    }
                }
                self.encoder.opcode(op::ADDITEMS);
                left -= left.min(BATCH);
            }
            return Ok(());
        }
        let mut count = 0;
        // An iterator notices when code that runs changes the set.
        for item in object.try_iter()? {
            if count % BATCH == 0 {
                if count > 0 {
                    self.encoder.opcode(op::ADDITEMS);
                }
                self.encoder.opcode(op::MARK);
            }
            let saved = self.save(item?.as_borrowed());
            self.noted_part(saved, Some(object), "element")?;
            count += 1;
        }
        if count > 0 {
            self.encoder.opcode(op::ADDITEMS);
        }
        Ok(())
    }

    pub(super) fn frozenset(&mut self, object: Object<'_, 'py>, once: bool) -> Saved {
        if self.encoder.protocol() < 4 {
            return self.reduced_to_list(object);
        }
        self.encoder.opcode(op::MARK);
        // Items of its own could lead back to it, as with tuples.
        self.open_tuples += usize::from(!once);
        let mut items = look::SetItems::of(object);
        while let Some(item) = items.next() {
            let saved = self.item(item);
            self.noted_part(saved, Some(object), "element")?;
        }
        self.open_tuples -= usize::from(!once);
        if !once {
            if let Some(number) = self.memo.get(object) {
                self.encoder.opcode(op::POP_MARK);
                self.encoder.get(number);
                return Ok(());
            }
        }
        self.encoder.opcode(op::FROZENSET);
        self.remember_unless(once, object);
        Ok(())
    }
}
