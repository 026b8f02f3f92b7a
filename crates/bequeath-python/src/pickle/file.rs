//! A pickle that comes from an object with `read` and `readline`.

use bequeath_pickle::{Error, Source};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::intern;

use super::failure::Failure;

/// Reads no byte behind the pickle's end, so that whatever follows it in the file stays there: what `peek` shows is
/// only read once it is used, and a frame's length is known.
pub(super) struct File<'py> {
    read: Bound<'py, PyAny>,
    readline: Bound<'py, PyAny>,
    peek: Option<Bound<'py, PyAny>>,
    buffer: Vec<u8>,
    used: usize,
    /// The buffer has only been peeked at: what is used of it must still be read.
    peeked: bool,
    /// How much of a frame is left.
    frame: Option<usize>,
}

/// How much is peeked at.
const PEEK: usize = 128 * 1024;
/// How much is asked for at once before any of it has arrived; then as much again as there is.
const AT_ONCE: usize = 1 << 20;

impl<'py> File<'py> {
    pub(super) fn of(file: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = file.py();
        // What raises when it is looked at raises here.
        let peek = file.getattr_opt(intern!(py, "peek"))?;
        file.getattr_opt(intern!(py, "readinto"))?;
        let read = file.getattr_opt(intern!(py, "read"))?;
        let readline = file.getattr_opt(intern!(py, "readline"))?;
        let (Some(read), Some(readline)) = (read, readline) else {
            return Err(pyo3::exceptions::PyTypeError::new_err(
                "file must have 'read' and 'readline' attributes",
            ));
        };
        Ok(Self {
            peek,
            read,
            readline,
            buffer: Vec::new(),
            used: 0,
            peeked: false,
            frame: None,
        })
    }

    /// Takes so many bytes from the frame that is being read.
    #[inline]
    fn of_frame(&mut self, len: usize) -> Result<(), Error> {
        if let Some(left) = &mut self.frame {
            *left = left.checked_sub(len).ok_or(Error::Truncated)?;
        }
        Ok(())
    }

    /// Reads what was used of a peek, so that the file stands where this reader does.
    pub(super) fn settle(&mut self) -> PyResult<()> {
        if self.peeked && self.used > 0 {
            self.read.call1((self.used,))?;
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        if self.peeked {
            self.buffer.clear();
            self.peeked = false;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> PyResult<()> {
        if self.buffer.try_reserve(bytes.len()).is_err() {
            let (text, have) = ("no memory to read", self.buffer.len() + bytes.len());
            return Err(PyMemoryError::new_err(format!("{text} {have} bytes")));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn fetch(&self, len: usize) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.read.call1((len,))?;
        bytes.cast_into::<PyBytes>().map_err(|error| {
            let name = error
                .into_inner()
                .get_type()
                .name()
                .map_or_else(|_| "?".into(), |name| name.to_string());
            pyo3::exceptions::PyTypeError::new_err(format!(
                "read() returned non-bytes object ({name})"
            ))
        })
    }

    /// Makes the buffer hold `len` bytes that are not used, unless the file ends.
    #[cold]
    fn fill(&mut self, len: usize) -> Result<(), Failure> {
        self.settle()?;
        if let Some(peek) = &self.peek {
            match peek.call1((PEEK,)) {
                Ok(seen) => {
                    if let Ok(seen) = seen.cast::<PyBytes>() {
                        if seen.as_bytes().len() >= len && self.used == self.buffer.len() {
                            self.buffer.clear();
                            self.append(seen.as_bytes())?;
                            (self.used, self.peeked) = (0, true);
                            return Ok(());
                        }
                    }
                }
                Err(error)
                    if error
                        .is_instance_of::<pyo3::exceptions::PyNotImplementedError>(peek.py()) =>
                {
                    self.peek = None;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.buffer.drain(..self.used);
        self.used = 0;
        // A length is believed by and by: `read` makes room for all that it is asked for.
        while self.buffer.len() < len {
            let most = self.buffer.len().max(AT_ONCE);
            let wanted = most.min(len - self.buffer.len());
            let more = self.fetch(wanted)?;
            self.append(more.as_bytes())?;
            if more.as_bytes().len() < wanted {
                break;
            }
        }
        Ok(())
    }
}

impl Source for File<'_> {
    type Error = Failure;

    fn byte(&mut self) -> Result<u8, Failure> {
        self.frame = self.frame.filter(|left| *left > 0);
        self.of_frame(1)?;
        if self.used == self.buffer.len() {
            self.fill(1)?;
        }
        let byte = *self.buffer.get(self.used).ok_or(Error::Ended)?;
        self.used += 1;
        Ok(byte)
    }

    fn take(&mut self, len: usize) -> Result<&[u8], Failure> {
        self.of_frame(len)?;
        if self.buffer.len() - self.used < len {
            self.fill(len)?;
        }
        let from = self.used;
        if self.buffer.len() - from < len {
            return Err(Error::Truncated.into());
        }
        self.used += len;
        Ok(&self.buffer[from..from + len])
    }

    fn line(&mut self) -> Result<&[u8], Failure> {
        let newline = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n');
        if newline(&self.buffer[self.used..]).is_none() {
            self.settle()?;
            let line = self.readline.call0()?;
            let line = line.cast_into::<PyBytes>().map_err(PyErr::from)?;
            self.buffer.drain(..self.used);
            self.used = 0;
            self.append(line.as_bytes())?;
        }
        let from = self.used;
        let len = newline(&self.buffer[from..]).ok_or(Error::Truncated)?;
        self.of_frame(len + 1)?;
        self.used = from + len + 1;
        Ok(&self.buffer[from..from + len])
    }

    fn frame(&mut self, len: usize) -> Result<(), Failure> {
        if self.frame.is_some_and(|left| left > 0) {
            return Err(Error::Truncated.into());
        }
        if self.buffer.len() - self.used < len {
            self.fill(len)?;
        }
        if self.buffer.len() - self.used < len {
            return Err(Error::Truncated.into());
        }
        self.frame = Some(len);
        Ok(())
    }
}
