//! Hostile bytes: they end in an error or a value, within the bound on memory; the bytes that hand themselves out in
//! pieces say the same.
#![no_main]

use std::alloc::System;

use bequeath_fuzz::bound;
use bequeath_fuzz::graph::Graph;
use bequeath_pickle::{Decoder, Error, Source};
use cap::Cap;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// The same bytes through a buffer, as a stream's reader has them.
struct Stream<'a> {
    rest: &'a [u8],
    buffer: Vec<u8>,
    /// How much of a frame is left.
    frame: Option<usize>,
}

impl Source for Stream<'_> {
    type Error = Error;

    fn byte(&mut self) -> Result<u8, Error> {
        self.frame = self.frame.filter(|left| *left > 0);
        self.take(1).map(|bytes| bytes[0]).map_err(|_| Error::Ended)
    }

    fn take(&mut self, len: usize) -> Result<&[u8], Error> {
        // Checked before anything is allocated for it.
        if let Some(left) = &mut self.frame {
            *left = left.checked_sub(len).ok_or(Error::Truncated)?;
        }
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Error::Truncated)?;
        self.buffer.clear();
        self.buffer.extend_from_slice(taken);
        self.rest = rest;
        Ok(&self.buffer)
    }

    fn line(&mut self) -> Result<&[u8], Error> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').ok_or(Error::Truncated)?;
        self.take(end + 1).map(|line| &line[..end])
    }

    fn frame(&mut self, len: usize) -> Result<(), Error> {
        if len > self.rest.len() || self.frame.is_some_and(|left| left > 0) {
            return Err(Error::Truncated);
        }
        self.frame = Some(len);
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    bound::within(&ALLOCATOR, bytes.len(), || {
        let whole = Graph::read(bytes);
        let mut graph = Graph::default();
        let mut source = Stream { rest: bytes, buffer: Vec::new(), frame: None };
        let pieces = Decoder::new().read(&mut source, &mut graph);
        match (whole, pieces) {
            (Ok((whole, root)), Ok(other)) => assert!(whole.0 == graph.0 && root == other),
            (whole, pieces) => assert_eq!(whole.err(), pieces.err()),
        }
    });
});
