//! Which objects have been written, by identity, and under which number.

use pyo3::prelude::*;

use super::look::Object;

/// Open addressing over addresses. Remembering an object takes a reference, unless the caller vouches that it
/// lives as long as the number is used.
#[derive(Default)]
pub(super) struct Identities {
    /// Address and number; address 0 is an empty place.
    places: Vec<(usize, u32)>,
    /// What is kept alive, by number.
    kept: Vec<Py<PyAny>>,
    count: usize,
}

const FIRST: usize = 64;
/// Larger tables are given back instead of being wiped for the next pickle.
const KEEP: usize = 1 << 14;

impl Identities {
    #[inline]
    fn place(&self, address: usize) -> usize {
        let mask = self.places.len() - 1;
        // Fibonacci hashing; the low four bits of an address say nothing.
        let mut at = ((address >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) & mask;
        while self.places[at].0 != 0 && self.places[at].0 != address {
            at = (at + 1) & mask;
        }
        at
    }

    #[inline]
    pub(super) fn get(&self, object: Object<'_, '_>) -> Option<u32> {
        if self.count == 0 {
            return None;
        }
        let address = object.as_ptr() as usize;
        let (found, number) = self.places[self.place(address)];
        (found == address).then_some(number)
    }

    /// Remembers an object under the next number; `keep` takes a reference.
    #[inline]
    pub(super) fn add(&mut self, object: Object<'_, '_>, keep: bool) -> u32 {
        #[allow(clippy::cast_possible_truncation)]
        // 2**32 objects do not fit into memory, 16 bytes each and more
        let number = self.count as u32;
        self.set(object, number, keep);
        number
    }

    pub(super) fn set(&mut self, object: Object<'_, '_>, number: u32, keep: bool) {
        if (self.count + 1) * 2 > self.places.len() {
            self.grow();
        }
        let address = object.as_ptr() as usize;
        let at = self.place(address);
        if self.places[at].0 == 0 {
            self.count += 1;
        }
        self.places[at] = (address, number);
        if keep {
            self.kept.push(object.to_owned().unbind());
        }
    }

    /// Keeps an object alive as long as numbers are used.
    pub(super) fn keep(&mut self, object: &Bound<'_, PyAny>) {
        self.kept.push(object.clone().unbind());
    }

    #[cold]
    fn grow(&mut self) {
        let larger = (self.places.len() * 4).max(FIRST);
        let old = std::mem::replace(&mut self.places, vec![(0, 0); larger]);
        for entry in old.into_iter().filter(|entry| entry.0 != 0) {
            let at = self.place(entry.0);
            self.places[at] = entry;
        }
    }

    pub(super) fn clear(&mut self) {
        if self.places.len() > KEEP {
            self.places = Vec::new();
        } else if self.count > 0 {
            self.places.fill((0, 0));
        }
        self.count = 0;
        // Dropping runs destructors: what they pickle with this table finds it empty.
        drop(std::mem::take(&mut self.kept));
    }

    /// Bytes of memory.
    pub(super) fn size(&self) -> usize {
        self.places.capacity() * size_of::<(usize, u32)>()
            + self.kept.capacity() * size_of::<Py<PyAny>>()
    }

    /// Shows what is kept alive to the garbage collector.
    pub(super) fn visit<E>(
        &self,
        mut visit: impl FnMut(&Py<PyAny>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.kept.iter().try_for_each(&mut visit)
    }

    /// Numbers with their objects, of those that are kept alive.
    pub(super) fn kept<'py>(&self, py: Python<'py>) -> Vec<(u32, Bound<'py, PyAny>)> {
        let mut all: Vec<_> = self
            .kept
            .iter()
            .filter_map(|object| {
                let object = object.bind(py).clone();
                Some((self.get(object.as_borrowed())?, object))
            })
            .collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all
    }
}
