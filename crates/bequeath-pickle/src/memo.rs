//! What a pickle remembers by number.

use std::collections::HashMap;

use crate::decode::room_for_one;
use crate::error::Error;

/// Values by number. Numbers normally count up from zero; one that is far away (a hostile pickle names any)
/// costs no more than itself.
#[derive(Debug)]
pub(crate) struct Memo<V> {
    near: Vec<Option<V>>,
    /// Made when it is needed: a table costs more to make than a small pickle to read.
    #[allow(clippy::box_collection)] // the memo is moved for each pickle, and so is small
    far: Option<Box<HashMap<u64, V>>>,
    count: usize,
}

/// How far beyond twice the number of values the vector may reach: what it costs is bounded by how many values were
/// remembered, not by what their numbers are.
const SLACK: u64 = 1024;

impl<V> Memo<V> {
    pub(crate) fn new() -> Self {
        Self {
            near: Vec::new(),
            far: None,
            count: 0,
        }
    }

    /// An empty one in the same room.
    pub(crate) fn emptied<W>(self) -> Memo<W> {
        Memo {
            near: crate::decode::emptied(self.near),
            far: None,
            count: 0,
        }
    }

    #[inline]
    pub(crate) fn get(&self, number: u64) -> Option<&V> {
        match usize::try_from(number)
            .ok()
            .and_then(|at| self.near.get(at))
        {
            Some(found) => found.as_ref(),
            None => self.far.as_ref()?.get(&number),
        }
    }

    /// Remembers a value under the next number.
    #[inline]
    pub(crate) fn push(&mut self, value: V) -> Result<(), Error> {
        if self.near.len() == self.count && self.far.is_none() {
            room_for_one(&mut self.near)?;
            self.near.push(Some(value));
            self.count += 1;
            return Ok(());
        }
        self.put(self.count as u64, value)
    }

    pub(crate) fn put(&mut self, number: u64, value: V) -> Result<(), Error> {
        let limit = self.count as u64 * 2 + SLACK;
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let replaced = if number < limit {
            if at >= self.near.len() {
                self.reach(at)?;
            }
            self.near[at].replace(value)
        } else {
            let far = self.far.get_or_insert_default();
            far.try_reserve(1).map_err(|_| Error::NoMemory(1))?;
            far.insert(number, value)
        };
        self.count += usize::from(replaced.is_none());
        Ok(())
    }

    /// Makes the vector reach so far. Whatever was far and is near now moves over: each number has one place.
    fn reach(&mut self, at: usize) -> Result<(), Error> {
        let from = self.near.len();
        let more = at + 1 - from;
        let reserved = self.near.try_reserve(more);
        reserved.map_err(|_| Error::NoMemory(more))?;
        self.near.resize_with(at + 1, || None);
        if let Some(far) = &mut self.far {
            for (number, place) in (from as u64..).zip(&mut self.near[from..]) {
                *place = far.remove(&number);
            }
            if far.is_empty() {
                self.far = None;
            }
        }
        Ok(())
    }

    /// All of them, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        let near = self.near.iter().enumerate();
        let mut far: Vec<_> = self.far.iter().flat_map(|far| far.iter()).collect();
        far.sort_unstable_by_key(|(number, _)| **number);
        near.filter_map(|(at, value)| Some((at as u64, value.as_ref()?)))
            .chain(far.into_iter().map(|(number, value)| (*number, value)))
    }

    pub(crate) fn clear(&mut self) {
        self.near.clear();
        self.far = None;
        self.count = 0;
    }
}
