//! Where a pickle's bytes come from.

use crate::error::Error;

/// Hands out a pickle's bytes in order. A stream's implementation must not read past the STOP opcode for
/// more than it can give back: it is told by [`Source::frame`] how much belongs together.
pub trait Source {
    /// What else can go wrong where the bytes come from.
    type Error: From<Error>;

    /// The next byte.
    ///
    /// # Errors
    /// [`Error::Ended`] where there is none.
    fn byte(&mut self) -> Result<u8, Self::Error>;

    /// Whether these bytes are next, where saying so costs nothing.
    #[inline]
    fn starts_with(&self, _next: &[u8]) -> bool {
        false
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`Error::Truncated`] where there are fewer.
    fn take(&mut self, len: usize) -> Result<&[u8], Self::Error>;

    /// The bytes before the next newline; the newline is consumed.
    ///
    /// # Errors
    /// [`Error::Truncated`] where there is none.
    fn line(&mut self) -> Result<&[u8], Self::Error>;

    /// The next `len` bytes belong together and will all be read: no opcode reaches over their end, and the next frame begins
    /// there at the earliest.
    ///
    /// # Errors
    /// [`Error::Truncated`] where there are fewer, or the frame before has not ended.
    fn frame(&mut self, len: usize) -> Result<(), Self::Error>;

    /// Whether so many bytes are there and are better copied to where they go than taken.
    fn is_for_copying(&self, _len: usize) -> bool {
        false
    }

    /// Copies the next bytes.
    ///
    /// # Errors
    /// [`Error::Truncated`] where there are fewer.
    fn copy(&mut self, into: &mut [u8]) -> Result<(), Self::Error> {
        into.copy_from_slice(self.take(into.len())?);
        Ok(())
    }
}

/// A pickle in memory.
#[derive(Clone, Debug)]
pub struct Slice<'a> {
    all: &'a [u8],
    /// What has not been read of the frame; without one, of all.
    rest: &'a [u8],
    /// What is behind the frame that is being read.
    behind: Option<&'a [u8]>,
}

impl<'a> Slice<'a> {
    /// Reads from the front of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            all: bytes,
            rest: bytes,
            behind: None,
        }
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        let left = self.rest.len() + self.behind.map_or(0, <[u8]>::len);
        &self.all[self.all.len() - left..]
    }

    /// Goes on behind a frame that has been read.
    #[cold]
    fn leave_frame(&mut self) {
        if let (true, Some(behind)) = (self.rest.is_empty(), self.behind) {
            (self.rest, self.behind) = (behind, None);
        }
    }
}

impl Source for Slice<'_> {
    type Error = Error;

    #[inline]
    fn byte(&mut self) -> Result<u8, Error> {
        if self.rest.is_empty() {
            self.leave_frame();
        }
        let (first, rest) = self.rest.split_first().ok_or(Error::Ended)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    fn starts_with(&self, next: &[u8]) -> bool {
        self.rest.starts_with(next)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&[u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn line(&mut self) -> Result<&[u8], Error> {
        let newline = self.rest.iter().position(|byte| *byte == b'\n');
        let (line, rest) = self.rest.split_at(newline.ok_or(Error::Truncated)?);
        self.rest = &rest[1..];
        Ok(line)
    }

    fn frame(&mut self, len: usize) -> Result<(), Error> {
        self.leave_frame();
        let (frame, behind) = match self.behind {
            None => self.rest.split_at_checked(len).ok_or(Error::Truncated)?,
            Some(_) => return Err(Error::Truncated),
        };
        (self.rest, self.behind) = (frame, Some(behind));
        Ok(())
    }
}
