//! The bytes of an envelope as the pickle's reader takes them: copied out by and by, for what lies in shared memory is
//! read once and then looked at.

use bequeath_pickle::{Error, Source};
use bequeath_shm::Envelope;

/// How much is copied at once; longer byte strings are copied right to where they go.
const WINDOW: usize = 1 << 16;

/// A payload that is being read.
pub(super) struct Arrived<'e> {
    envelope: &'e Envelope,
    len: usize,
    /// How much of the payload has been copied.
    copied: usize,
    window: Vec<u8>,
    used: usize,
}

impl<'e> Arrived<'e> {
    pub(super) fn new(envelope: &'e Envelope, len: usize) -> Self {
        Self {
            envelope,
            len,
            copied: 0,
            window: Vec::new(),
            used: 0,
        }
    }

    fn rest(&self) -> usize {
        self.window.len() - self.used + self.len - self.copied
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), Error> {
        if !self.envelope.read_payload(self.copied, into) {
            return Err(Error::Truncated);
        }
        self.copied += into.len();
        Ok(())
    }

    /// Makes the window hold so many bytes that are not used.
    #[cold]
    fn fill(&mut self, len: usize) -> Result<(), Error> {
        if len > self.rest() {
            return Err(Error::Truncated);
        }
        let mut window = std::mem::take(&mut self.window);
        window.drain(..self.used);
        self.used = 0;
        let start = window.len();
        let len = len.max(WINDOW).min(start + self.len - self.copied);
        window.resize(len, 0);
        let read = self.read(&mut window[start..]);
        self.window = window;
        read
    }
}

impl Source for Arrived<'_> {
    type Error = Error;

    #[inline]
    fn byte(&mut self) -> Result<u8, Error> {
        if self.used == self.window.len() {
            self.fill(1).map_err(|_| Error::Ended)?;
        }
        let byte = *self.window.get(self.used).ok_or(Error::Ended)?;
        self.used += 1;
        Ok(byte)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&[u8], Error> {
        if self.window.len() - self.used < len {
            self.fill(len)?;
        }
        let from = self.used;
        self.used += len;
        self.window.get(from..self.used).ok_or(Error::Truncated)
    }

    fn line(&mut self) -> Result<&[u8], Error> {
        loop {
            let unused = &self.window[self.used..];
            if let Some(len) = unused.iter().position(|byte| *byte == b'\n') {
                let from = self.used;
                self.used += len + 1;
                return Ok(&self.window[from..from + len]);
            }
            let len = unused.len() + 1;
            self.fill(len)?;
        }
    }

    fn frame(&mut self, len: usize) -> Result<(), Error> {
        if len > self.rest() {
            return Err(Error::Truncated);
        }
        Ok(())
    }

    fn is_for_copying(&self, len: usize) -> bool {
        len > WINDOW && len <= self.rest()
    }

    fn copy(&mut self, into: &mut [u8]) -> Result<(), Error> {
        let ready = (self.window.len() - self.used).min(into.len());
        let (first, rest) = into.split_at_mut(ready);
        first.copy_from_slice(self.take(ready)?);
        self.read(rest)
    }
}
