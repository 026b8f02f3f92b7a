#![allow(unsafe_code)]
//! `Mapping`: an owned piece of address space, unmapped when dropped.
//!
//! # Safety invariants
//! - `address..address + len` was returned by `mmap` to this value and is unmapped only by its drop.
//! - A mapping hands out raw pointers only; whoever makes references of them argues for them there.
//! - Remapping keeps the range mapped at every moment (`MAP_FIXED` replaces in one step).

use std::os::fd::AsFd;
use std::ptr::{null_mut, NonNull};

use rustix::mm::{self, Advice, MapFlags, ProtFlags};

use crate::errno::{Errno, Error, Named, Result};

/// An owned mapping.
#[derive(Debug)]
pub struct Mapping {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and only raw pointers come out of it.
unsafe impl Send for Mapping {}
// SAFETY: as above; the methods that change the mapping itself are unsafe and state their terms.
unsafe impl Sync for Mapping {}

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

impl Mapping {
    /// Maps `len` bytes of the file at `offset`, seen and changed by everyone who maps them.
    ///
    /// # Errors
    /// ENOMEM beyond RLIMIT_AS or the number of mappings, and what else `mmap` says.
    pub fn shared(fd: impl AsFd, offset: u64, len: usize) -> Result<Self> {
        Self::file(fd, offset, len, READ_WRITE, MapFlags::SHARED)
    }

    /// The same to be read only: whoever writes through it is ended by the kernel.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub fn shared_to_read(fd: impl AsFd, offset: u64, len: usize) -> Result<Self> {
        Self::file(fd, offset, len, ProtFlags::READ, MapFlags::SHARED)
    }

    /// Maps `len` bytes of the file at `offset`; later writes part this process from the others.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub fn private(fd: impl AsFd, offset: u64, len: usize) -> Result<Self> {
        Self::file(fd, offset, len, READ_WRITE, MapFlags::PRIVATE)
    }

    fn file(
        fd: impl AsFd,
        offset: u64,
        len: usize,
        access: ProtFlags,
        flags: MapFlags,
    ) -> Result<Self> {
        #[cfg(debug_assertions)]
        if fences::are_wanted() {
            return fences::file_between(fd, offset, len, access, flags);
        }
        // SAFETY: without MAP_FIXED the kernel chooses free addresses; nothing existing is touched.
        let address = unsafe { mm::mmap(null_mut(), len, access, flags, fd, offset) };
        Self::owned(address.named("mmap")?, len)
    }

    /// Fresh zeroed memory; `shared` memory stays common with forked children.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub fn anonymous(len: usize, shared: bool) -> Result<Self> {
        // (Miri has one process, and no memory that several share.)
        let flags = if shared && !cfg!(miri) {
            MapFlags::SHARED
        } else {
            MapFlags::PRIVATE
        };
        // SAFETY: without MAP_FIXED the kernel chooses free addresses; nothing existing is touched.
        let address = unsafe { mm::mmap_anonymous(null_mut(), len, READ_WRITE, flags) };
        Self::owned(address.named("mmap")?, len)
    }

    fn owned(address: *mut core::ffi::c_void, len: usize) -> Result<Self> {
        let address = NonNull::new(address.cast::<u8>()).ok_or(Error::new("mmap", Errno::NOMEM))?;
        Ok(Self { address, len })
    }

    /// The first byte.
    #[must_use]
    pub const fn as_ptr(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// The same, known not to be null.
    #[must_use]
    pub const fn as_non_null(&self) -> NonNull<u8> {
        self.address
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Never: the kernel maps no empty range.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// In a forked child this mapping reads as zero.
    ///
    /// # Errors
    /// Where the kernel does not know it, or the mapping is not private and anonymous.
    pub fn wipe_on_fork(&self) -> Result<()> {
        if self.takes_any_advice() {
            return Err(Error::new("madvise", Errno::NOSYS));
        }
        self.advise(Advice::LinuxWipeOnFork)
    }

    /// Emulators (qemu's of programs) say yes to every advice, and do nothing.
    fn takes_any_advice(&self) -> bool {
        const NONE: i32 = 0x7777;
        if cfg!(miri) {
            return false;
        }
        // SAFETY: the range is ours, and there is no such advice.
        unsafe { libc::madvise(self.as_ptr().cast(), self.len, NONE) == 0 }
    }

    /// In a forked child this mapping does not exist.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn dont_fork(&self) -> Result<()> {
        self.advise(Advice::LinuxDontFork)
    }

    /// Which of its pages are in memory (of a memory file: which it has), in order.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn resident(&self) -> Result<Vec<bool>> {
        let mut found = vec![0_u8; self.len.div_ceil(page_size())];
        let address = self.as_ptr().cast();
        // SAFETY: the range is mapped, and `found` has a byte for each of its pages.
        let done = unsafe { libc::mincore(address, self.len, found.as_mut_ptr()) };
        if done != 0 {
            return Err(crate::errno::last("mincore"));
        }
        Ok(found.into_iter().map(|byte| byte & 1 != 0).collect())
    }

    fn advise(&self, advice: Advice) -> Result<()> {
        if cfg!(miri) {
            return Err(Error::new("madvise", Errno::NOSYS));
        }
        // SAFETY: the range is ours, and both kinds of advice change only what children see.
        unsafe { mm::madvise(self.as_ptr().cast(), self.len, advice) }.named("madvise")
    }

    /// Replaces `len` bytes at `at` by the file's bytes at `offset`, in place and in one step:
    /// `shared` decides whether later writes are common.
    ///
    /// # Safety
    /// Whoever holds pointers into the range must be content with the file's bytes there; no
    /// reference may claim that they do not change.
    ///
    /// # Errors
    /// EINVAL for a range outside this mapping; the old mapping stays when the kernel refuses.
    pub unsafe fn remap(
        &self,
        at: usize,
        len: usize,
        fd: impl AsFd,
        offset: u64,
        shared: bool,
    ) -> Result<()> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::new("mmap", Errno::INVAL));
        }
        let flags = MapFlags::FIXED
            | if shared {
                MapFlags::SHARED
            } else {
                MapFlags::PRIVATE
            };
        // SAFETY: `at` is at most `len`, checked above, so the sum stays inside the mapping.
        let address = unsafe { self.as_ptr().add(at) };
        // SAFETY: the range lies in this mapping, which nobody else owns; the caller vouches for readers.
        unsafe { mm::mmap(address.cast(), len, READ_WRITE, flags, fd, offset) }.named("mmap")?;
        Ok(())
    }

    /// Gives the range up without unmapping: it lives as long as the process.
    pub fn leak(self) -> NonNull<u8> {
        let address = self.address;
        core::mem::forget(self);
        address
    }

    /// Takes over a range that was leaked.
    ///
    /// # Safety
    /// `address` and `len` are those of a leaked mapping that nobody took over yet.
    #[must_use]
    pub const unsafe fn from_leaked(address: NonNull<u8>, len: usize) -> Self {
        Self { address, len }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is ours and nobody may use its pointers after the owner is gone.
        // A refusal (too many mappings after a split) leaves the range mapped, which harms nobody.
        let _ = unsafe { mm::munmap(self.as_ptr().cast(), self.len) };
    }
}

/// For tests of what hostile bytes can do: every mapping of a file between two pages that nobody may
/// touch, so that a step beyond its bounds is a crash and not a neighbour's memory. Debug builds only;
/// the fences of a mapping that is dropped stay.
#[cfg(debug_assertions)]
mod fences {
    use super::*;

    pub(super) fn are_wanted() -> bool {
        static WANTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        *WANTED.get_or_init(|| std::env::var_os("BEQUEATH_FENCES").is_some())
    }

    pub(super) fn file_between(
        fd: impl AsFd,
        offset: u64,
        len: usize,
        access: ProtFlags,
        flags: MapFlags,
    ) -> Result<Mapping> {
        let (page, len) = (page_size(), len.next_multiple_of(page_size()));
        let room = len + 2 * page;
        // SAFETY: without MAP_FIXED the kernel chooses free addresses; nothing existing is touched.
        let around =
            unsafe { mm::mmap_anonymous(null_mut(), room, ProtFlags::empty(), MapFlags::PRIVATE) };
        let inside = around.named("mmap")?.wrapping_byte_add(page);
        let flags = flags | MapFlags::FIXED;
        // SAFETY: the range lies in the one just mapped, which nobody else knows of.
        let address = unsafe { mm::mmap(inside, len, access, flags, fd, offset) };
        Mapping::owned(address.named("mmap")?, len)
    }
}

/// The page size.
#[must_use]
pub fn page_size() -> usize {
    rustix::param::page_size()
}
