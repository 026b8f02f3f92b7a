//! Plain bytes between a starter and what it starts: little-endian numbers and counted strings.
//!
//! Whoever reads believes nothing: every count is checked against what is there.

use crate::error::{Error, Result};

/// Appends values.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn list<T>(&mut self, values: &[T], mut one: impl FnMut(&mut Self, &T)) {
        self.u32(values.len() as u32);
        for value in values {
            one(self, value);
        }
    }

    /// Counted bytes. Everything written here is far below 4 GiB except payloads, which are sent apart.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.u64(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Takes values off the front.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8]> {
        if count > self.0.len() {
            return Err(Error::Malformed { what });
        }
        let (head, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        self.take(N, what)?
            .try_into()
            .map_err(|_| Error::Malformed { what })
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn i32(&mut self, what: &'static str) -> Result<i32> {
        Ok(i32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        one: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.u32(what)? as usize;
        // Each value takes a byte at least: a count that lies reserves nothing.
        if count > self.0.len() {
            return Err(Error::Malformed { what });
        }
        let mut one = one;
        (0..count).map(|_| one(self)).collect()
    }

    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8]> {
        let count = usize::try_from(self.u64(what)?).map_err(|_| Error::Malformed { what })?;
        self.take(count, what)
    }
}
