#![allow(unsafe_code)]
//! Anonymous memory files: made, filled with pages on demand, emptied, sealed, measured, and locked
//! by byte range.
//!
//! # Safety invariants
//! The only unsafe calls pass a fully initialised `flock` to `fcntl` on a borrowed, open descriptor.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};

use crate::errno::{last, Errno, Error, Named, Result};

/// What a file is, whatever number its descriptor has: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
}

/// A new memory file of `len` bytes without pages, that can never be executed and may be sealed.
///
/// # Errors
/// When the kernel has no memory files, descriptors ran out, or `len` is over RLIMIT_FSIZE
/// (checked before the kernel would answer with a signal).
pub fn create(name: &CStr, len: u64) -> Result<OwnedFd> {
    if len > crate::limits::file_size().soft.unwrap_or(u64::MAX) {
        // ftruncate beyond the limit raises SIGXFSZ, which kills a program that does not ignore it.
        return Err(Error::new("ftruncate", Errno::FBIG));
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know the flag.
        Err(Errno::INVAL) => fs::memfd_create(name, flags),
        made => made,
    }
    .named("memfd_create")?;
    let fd = crate::handover::beyond_standard(fd)?;
    fs::ftruncate(&fd, len).named("ftruncate")?;
    Ok(fd)
}

/// Gives pages to `offset..offset + len`, so that no later access can meet a missing page.
///
/// # Errors
/// ENOSPC and its kin instead of a SIGBUS at first touch; then some of the pages may be there. At a
/// memory cgroup's limit the kernel kills instead of failing: ask a budget first.
pub fn allocate(fd: impl AsFd, offset: u64, len: u64) -> Result<()> {
    let (mut at, end) = (offset, offset.saturating_add(len));
    let mut piece = len;
    while at < end {
        let length = piece.min(end - at);
        match fs::fallocate(fd.as_fd(), FallocateFlags::empty(), at, length) {
            // Many kernels stop at a signal and take back what they had done: a program whose timer ticks
            // faster than that takes would try for ever. So less at a time, down to a page.
            Err(Errno::INTR) => piece = (length / 2).next_multiple_of(LEAST),
            done => {
                done.named("fallocate")?;
                at += length;
            }
        }
    }
    Ok(())
}

/// Pages that come at once, whatever interrupts.
const LEAST: u64 = 4096;

/// Gives the pages of `offset..offset + len` back; they read as zero afterwards.
///
/// # Errors
/// As the kernel says; the content is then unchanged or partly zero.
pub fn punch(fd: impl AsFd, offset: u64, len: u64) -> Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    loop {
        match fs::fallocate(fd.as_fd(), flags, offset, len) {
            Err(Errno::INTR) => continue,
            done => return done.named("fallocate"),
        }
    }
}

/// Bytes of pages that the file has at this moment: the kernel's own count, which no crash can falsify.
///
/// # Errors
/// When the descriptor is not open.
pub fn used_bytes(fd: impl AsFd) -> Result<u64> {
    let stat = fs::fstat(fd).named("fstat")?;
    Ok((stat.st_blocks as u64).saturating_mul(512))
}

/// Length, as `fstat` says.
///
/// # Errors
/// When the descriptor is not open.
pub fn len(fd: impl AsFd) -> Result<u64> {
    Ok(fs::fstat(fd).named("fstat")?.st_size as u64)
}

/// Device and inode, to see whether a descriptor number still means the file it meant.
///
/// # Errors
/// When the descriptor is not open.
pub fn identity(fd: impl AsFd) -> Result<Identity> {
    let stat = fs::fstat(fd).named("fstat")?;
    Ok(Identity {
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
    })
}

/// Who may hold it: the file's owner.
///
/// # Errors
/// When the descriptor is not open.
pub fn owner_uid(fd: impl AsFd) -> Result<u32> {
    Ok(fs::fstat(fd).named("fstat")?.st_uid)
}

/// Who this process acts as: the owner of files it makes.
#[must_use]
pub fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Forbids for ever that the file shrinks or grows, or that more seals are set.
///
/// # Errors
/// When the file does not take seals.
pub fn seal(fd: impl AsFd) -> Result<()> {
    fs::fcntl_add_seals(fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).named("fcntl")
}

/// Whether [`seal`] was done: a mapped page can then never vanish under a reader.
///
/// # Errors
/// When the file is of a kind that has no seals.
pub fn is_sealed(fd: impl AsFd) -> Result<bool> {
    let seals = fs::fcntl_get_seals(fd).named("fcntl")?;
    Ok(seals.contains(SealFlags::SHRINK | SealFlags::GROW))
}

/// A fresh open file description of the same file, through procfs: its own locks, its own offset.
///
/// # Errors
/// Without procfs, or when descriptors ran out.
pub fn reopen(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).named("open")
}

/// Another descriptor of the same open file: the same locks, the same offset.
///
/// # Errors
/// When descriptors ran out.
pub fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).named("fcntl")
}

fn range(kind: i32, offset: u64) -> libc::flock {
    // SAFETY: flock is plain numbers; all zero is a valid value of it.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = kind as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_start = offset as _;
    lock.l_len = 1;
    lock
}

/// Holds the byte at `offset` with this open file description, until its last descriptor (in
/// whatever process, or in flight in a socket) is closed.
///
/// # Errors
/// When another description holds it exclusively, or locks ran out.
pub fn hold_range(fd: BorrowedFd<'_>, offset: u64) -> Result<()> {
    let lock = range(libc::F_RDLCK, offset);
    // SAFETY: the descriptor is open while borrowed, and the argument is a whole flock.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if done == 0 {
        Ok(())
    } else {
        Err(last("fcntl"))
    }
}

/// Whether another open file description than this one holds the byte at `offset`.
///
/// # Errors
/// When the descriptor is not open.
pub fn is_range_held(fd: BorrowedFd<'_>, offset: u64) -> Result<bool> {
    let mut lock = range(libc::F_WRLCK, offset);
    // SAFETY: the descriptor is open while borrowed, and the argument is a whole flock.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    if done != 0 {
        return Err(last("fcntl"));
    }
    Ok(lock.l_type != libc::F_UNLCK as i16)
}
