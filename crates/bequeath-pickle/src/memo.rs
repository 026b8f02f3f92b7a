//! What a pickle remembers by number.

use std::collections::BTreeMap;

/// Values by number. Numbers normally count up from zero; one that is far away (a hostile pickle names any)
/// costs no more than itself.
#[derive(Debug)]
pub(crate) struct Memo<V> {
    near: Vec<Option<V>>,
    far: BTreeMap<u64, V>,
    count: usize,
}

/// How far beyond twice the number of values the vector may reach: what it costs is bounded by how many values were
/// remembered, not by what their numbers are.
const SLACK: u64 = 1024;

impl<V> Memo<V> {
    pub(crate) fn new() -> Self {
        Self {
            near: Vec::new(),
            far: BTreeMap::new(),
            count: 0,
        }
    }

    /// An empty one in the same room.
    pub(crate) fn emptied<W>(self) -> Memo<W> {
        Memo {
            near: crate::decode::emptied(self.near),
            far: BTreeMap::new(),
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
            None => self.far.get(&number),
        }
    }

    /// Remembers a value under the next number.
    #[inline]
    pub(crate) fn push(&mut self, value: V) {
        if self.near.len() == self.count && self.far.is_empty() {
            self.near.push(Some(value));
            self.count += 1;
        } else {
            self.put(self.count as u64, value);
        }
    }

    pub(crate) fn put(&mut self, number: u64, value: V) {
        let limit = self.count as u64 * 2 + SLACK;
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let replaced = if number < limit {
            if at >= self.near.len() {
                self.near.resize_with(at + 1, || None);
                // Whatever was far and is near now moves over, so that each number has one place.
                let beyond = self.far.split_off(&(at as u64 + 1));
                for (number, value) in std::mem::replace(&mut self.far, beyond) {
                    if let Some(place) = usize::try_from(number)
                        .ok()
                        .and_then(|at| self.near.get_mut(at))
                    {
                        *place = Some(value);
                    }
                }
            }
            self.near[at].replace(value)
        } else {
            self.far.insert(number, value)
        };
        self.count += usize::from(replaced.is_none());
    }

    /// All of them, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        let near = self.near.iter().enumerate();
        near.filter_map(|(at, value)| Some((at as u64, value.as_ref()?)))
            .chain(self.far.iter().map(|(number, value)| (*number, value)))
    }

    pub(crate) fn clear(&mut self) {
        self.near.clear();
        self.far.clear();
        self.count = 0;
    }
}
