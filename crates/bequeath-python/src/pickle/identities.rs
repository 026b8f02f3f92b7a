//! Which objects have been written, by identity, and under which number.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

use super::look::Object;

/// Open addressing over addresses. Remembering an object takes a reference, unless the caller vouches that it
/// lives as long as the number is used.
#[derive(Default)]
pub(super) struct Identities {
    places: Vec<Place>,
    /// What is kept alive, by number.
    kept: Vec<Py<PyAny>>,
    count: usize,
    /// Places of another age are empty: forgetting everything is one addition. Even, never 0 once there are places.
    age: u32,
    /// How far a hash is shifted to be a place.
    shift: u32,
}

#[derive(Clone, Copy, Default)]
struct Place {
    address: usize,
    number: u32,
    /// When it was filled, and in the lowest bit whether it is [checked](Identities::check).
    age: u32,
}

/// What [`Identities::enter`] found.
pub(super) enum Entry {
    /// It was remembered before.
    Known(u32),
    /// It is from now on.
    New(u32),
}

/// There is no memory for so many bytes more.
pub(super) struct NoMemory(pub(super) usize);

impl From<NoMemory> for PyErr {
    #[cold]
    fn from(NoMemory(bytes): NoMemory) -> Self {
        PyMemoryError::new_err(format!(
            "no memory to remember what is pickled: {bytes} bytes"
        ))
    }
}

const FIRST: usize = 64;
/// Larger tables are given back.
const KEEP: usize = 1 << 16;
const CHECKED: u32 = 1;

impl Identities {
    #[inline(always)]
    fn place(&self, address: usize) -> usize {
        let mask = self.places.len() - 1;
        // Fibonacci hashing; the low four bits of an address say nothing.
        let hash = ((address >> 4) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        #[allow(clippy::cast_possible_truncation)] // it is shifted down to the table's size
        let mut at = (hash >> self.shift) as usize & mask;
        loop {
            let place = &self.places[at];
            if place.age & !CHECKED != self.age || place.address == address {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    #[inline]
    pub(super) fn get(&self, object: Object<'_, '_>) -> Option<u32> {
        self.find(object).map(|(number, _)| number)
    }

    /// The number, and whether the object is checked.
    #[inline]
    pub(super) fn find(&self, object: Object<'_, '_>) -> Option<(u32, bool)> {
        if self.count == 0 {
            return None;
        }
        let place = self.places[self.place(object.as_ptr() as usize)];
        (place.age & !CHECKED == self.age).then_some((place.number, place.age & CHECKED != 0))
    }

    /// Marks an object, if it is remembered, as one that needs no further look.
    pub(super) fn check(&mut self, object: Object<'_, '_>) {
        if self.count > 0 {
            let at = self.place(object.as_ptr() as usize);
            let age = self.age;
            let place = &mut self.places[at];
            if place.age & !CHECKED == age {
                place.age |= CHECKED;
            }
        }
    }

    /// The number of an object, which is remembered under the next one if it has none: for what holds nothing, so that no
    /// other number comes in between.
    #[inline(always)]
    pub(super) fn enter(&mut self, object: Object<'_, '_>, keep: bool) -> Result<Entry, NoMemory> {
        if (self.count + 1) * 2 > self.places.len() {
            self.grow()?;
        }
        let address = object.as_ptr() as usize;
        let (at, age) = (self.place(address), self.age);
        let place = &mut self.places[at];
        if place.age & !CHECKED == age {
            return Ok(Entry::Known(place.number));
        }
        #[allow(clippy::cast_possible_truncation)] // see `add`
        let number = self.count as u32;
        *place = Place {
            address,
            number,
            age,
        };
        self.count += 1;
        if keep {
            self.keep(&object)?;
        }
        Ok(Entry::New(number))
    }

    /// Remembers an object under the next number; `keep` takes a reference.
    #[inline]
    pub(super) fn add(&mut self, object: Object<'_, '_>, keep: bool) -> Result<u32, NoMemory> {
        #[allow(clippy::cast_possible_truncation)]
        // 2**32 objects do not fit into memory, 16 bytes each and more
        let number = self.count as u32;
        self.set(object, number, keep)?;
        Ok(number)
    }

    #[inline]
    pub(super) fn set(
        &mut self,
        object: Object<'_, '_>,
        number: u32,
        keep: bool,
    ) -> Result<(), NoMemory> {
        if (self.count + 1) * 2 > self.places.len() {
            self.grow()?;
        }
        if keep {
            self.keep(&object)?;
        }
        let address = object.as_ptr() as usize;
        let at = self.place(address);
        let age = self.age;
        if self.places[at].age & !CHECKED != age {
            self.count += 1;
        }
        self.places[at] = Place {
            address,
            number,
            age,
        };
        Ok(())
    }

    /// Keeps an object alive as long as numbers are used.
    pub(super) fn keep(&mut self, object: &Bound<'_, PyAny>) -> Result<(), NoMemory> {
        if self.kept.len() == self.kept.capacity() {
            let more = self.kept.len().max(FIRST);
            let reserved = self.kept.try_reserve(more);
            reserved.map_err(|_| NoMemory(more * size_of::<Py<PyAny>>()))?;
        }
        self.kept.push(object.clone().unbind());
        Ok(())
    }

    #[cold]
    fn grow(&mut self) -> Result<(), NoMemory> {
        let larger = (self.places.len() * 4).max(FIRST);
        let mut places = Vec::new();
        let reserved = places.try_reserve_exact(larger);
        reserved.map_err(|_| NoMemory(larger * size_of::<Place>()))?;
        places.resize(larger, Place::default());
        let (old, age) = (std::mem::replace(&mut self.places, places), self.age);
        self.age = self.age.max(CHECKED + 1);
        self.shift = u64::BITS - larger.ilog2();
        let filled = |place: &Place| place.age & !CHECKED == age;
        for entry in old.into_iter().filter(filled) {
            let at = self.place(entry.address);
            self.places[at] = entry;
        }
        Ok(())
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        if self.kept.is_empty() && self.places.len() <= KEEP && self.age < u32::MAX - 1 - CHECKED {
            // No places are of no age, which is not to change.
            self.age += (CHECKED + 1) * u32::from(self.count > 0);
            self.count = 0;
            return;
        }
        if self.count > 0 || !self.kept.is_empty() {
            self.forget();
        }
    }

    fn forget(&mut self) {
        if self.count > 0 {
            match self.age.checked_add(CHECKED + 1) {
                Some(next) if self.places.len() <= KEEP => self.age = next,
                _ => (self.places, self.age) = (Vec::new(), 0),
            }
        }
        self.count = 0;
        // Dropping runs destructors: what they pickle with this table finds it empty.
        let mut kept = std::mem::take(&mut self.kept);
        kept.clear();
        if kept.capacity() <= KEEP {
            self.kept = kept;
        }
    }

    /// How many objects are remembered.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Bytes of memory.
    pub(super) fn size(&self) -> usize {
        self.places.capacity() * size_of::<Place>() + self.kept.capacity() * size_of::<Py<PyAny>>()
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

/// A table by the address of an object that is alive as long as it is in there.
pub(super) type ByAddress<V> = HashMap<usize, V, BuildHasherDefault<AddressHasher>>;

/// Addresses are spread well enough by one multiplication.
#[derive(Default)]
pub(super) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
