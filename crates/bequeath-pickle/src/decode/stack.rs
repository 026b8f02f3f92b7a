//! The stack of what was read, the marks in it, and what is remembered of it.

use super::Decoder;
use crate::builder::Builder;
use crate::error::Error;

impl<V> Decoder<V> {
    #[inline(always)]
    pub(super) fn push(&mut self, value: V) -> Result<(), Error> {
        room_for_one(&mut self.stack)?;
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn mark(&mut self) -> Result<(), Error> {
        room_for_one(&mut self.marks)?;
        self.marks.push(self.stack.len());
        self.fence = self.stack.len();
        Ok(())
    }

    #[inline]
    pub(super) fn unmark(&mut self) -> Result<usize, Error> {
        let start = self.marks.pop().ok_or(Error::NoMark)?;
        self.fence = self.marks.last().copied().unwrap_or(0);
        Ok(start)
    }

    #[cold]
    pub(super) fn underflow(&self) -> Error {
        if self.marks.is_empty() {
            Error::Underflow
        } else {
            Error::UnexpectedMark
        }
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Result<V, Error> {
        if self.stack.len() <= self.fence {
            return Err(self.underflow());
        }
        self.stack.pop().ok_or(Error::Underflow)
    }

    #[inline]
    pub(super) fn top(&self) -> Result<&V, Error> {
        match self.stack.last() {
            Some(top) if self.stack.len() > self.fence => Ok(top),
            _ => Err(self.underflow()),
        }
    }

    /// The container below what lies from `start` on; where nothing lies there, only if it is `wanted` even so.
    #[inline]
    pub(super) fn container<B>(
        &mut self,
        start: usize,
        wanted: bool,
        builder: &mut B,
    ) -> Result<Option<V>, Error>
    where
        B: Builder<Value = V>,
    {
        if start <= self.fence || start > self.stack.len() {
            return Err(self.underflow());
        }
        let filled = start < self.stack.len();
        Ok((filled || wanted).then(|| builder.same(&self.stack[start - 1])))
    }

    #[inline]
    pub(super) fn push_remembered<B>(
        &mut self,
        number: u64,
        builder: &mut B,
    ) -> Result<(), B::Error>
    where
        B: Builder<Value = V>,
    {
        let found = self.memo.get(number).ok_or(Error::NotRemembered(number))?;
        let same = builder.same(found);
        self.push(same)?;
        Ok(())
    }

    pub(super) fn put<B: Builder<Value = V>>(
        &mut self,
        number: u64,
        builder: &mut B,
    ) -> Result<(), B::Error> {
        let same = builder.same(self.top()?);
        self.memo.put(number, same)?;
        Ok(())
    }
}

/// Makes room for one value more: without any a pickle ends in an error, not the process.
#[inline(always)]
pub(crate) fn room_for_one<V>(values: &mut Vec<V>) -> Result<(), Error> {
    if values.len() == values.capacity() {
        return larger(values);
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn larger<V>(values: &mut Vec<V>) -> Result<(), Error> {
    let more = values.len().max(64);
    let reserved = values.try_reserve(more);
    reserved.map_err(|_| Error::NoMemory(more))
}
