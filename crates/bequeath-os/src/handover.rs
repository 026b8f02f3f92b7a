#![allow(unsafe_code)]
//! Handing bytes and descriptors to a program that is being exec'ed.
//!
//! # Safety invariants
//! A descriptor number that came across an exec is taken over once, by the code that the starter
//! meant it for, before anything else in the program can know the number.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;

use crate::errno::{Errno, Error, Named, Result};

/// A memory file that holds these bytes, read from their start.
///
/// # Errors
/// When memory or descriptors ran out, or the bytes exceed RLIMIT_FSIZE.
pub fn with_content(name: &CStr, content: &[u8]) -> Result<OwnedFd> {
    if content.len() as u64 > crate::limits::file_size().soft.unwrap_or(u64::MAX) {
        // A write beyond the limit raises SIGXFSZ, which kills a program that does not ignore it.
        return Err(Error::new("write", Errno::FBIG));
    }
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).named("memfd_create")?;
    let mut file = File::from(beyond_standard(file)?);
    file.write_all(content)
        .and_then(|()| file.rewind())
        .map_err(|error| failed("write", &error))?;
    Ok(file.into())
}

/// The same file under a number that is nobody's standard stream: in a process that has closed one,
/// the next descriptor would become it, and its children's.
pub(crate) fn beyond_standard(fd: OwnedFd) -> Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    rustix::io::fcntl_dupfd_cloexec(&fd, 3).named("fcntl")
}

/// Everything in a file, from its start.
///
/// # Errors
/// EBADF, EIO.
pub fn content(file: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let mut file = File::from(rustix::io::fcntl_dupfd_cloexec(file, 3).named("fcntl")?);
    let mut content = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut content))
        .map_err(|error| failed("read", &error))?;
    Ok(content)
}

/// Where nothing is read and nothing is kept.
///
/// # Errors
/// When descriptors ran out, or there is no such device.
pub fn null_device() -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).named("open")
}

/// A descriptor that came across an exec: close-on-exec from now on, and owned.
///
/// # Errors
/// EBADF when no such descriptor is open.
pub fn adopt_inherited(number: u32) -> Result<OwnedFd> {
    let number = RawFd::try_from(number).map_err(|_| Error::new("fcntl", Errno::BADF))?;
    if number < 3 {
        // The standard streams belong to everybody.
        return Err(Error::new("fcntl", Errno::BADF));
    }
    // SAFETY: only to ask and to mark; fails when the number is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC).named("fcntl")?;
    // SAFETY: open, and by the module's invariant nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Leaves a descriptor open when this process runs another program.
///
/// # Errors
/// EBADF.
pub fn keep_across_exec(fd: BorrowedFd<'_>) -> Result<()> {
    rustix::io::fcntl_setfd(fd, FdFlags::empty()).named("fcntl")
}

fn failed(call: &'static str, error: &std::io::Error) -> Error {
    Error::new(call, Errno::from_io_error(error).unwrap_or(Errno::IO))
}
