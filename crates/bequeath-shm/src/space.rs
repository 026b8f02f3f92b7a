#![allow(unsafe_code)]
//! The arena as this process sees it: the descriptor, and granules of 4 MiB mapped when they are first used.
//!
//! No address space is reserved ahead (programs live under RLIMIT_AS); a granule is mapped on first
//! use and then stays, so that an address once given out is good as long as the session lives in
//! this process. Runs are mapped as a whole and elsewhere (`runs.rs`).
//!
//! # Safety invariants
//! - The file is sealed against shrinking and `at` admits only offsets below its size: a mapped page
//!   always exists.
//! - An entry of the table of granules is null or the address of a leaked shared mapping of exactly
//!   that granule (the last one ends with the file), set once and unmapped only when the space is dropped.
//! - `shared` hands out references to [`Plain`] types only: atomics, in mapped memory, aligned.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{null_mut, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::*};

use bequeath_os::{memfd, Mapping};

use crate::budget::{self, LimitSource};
use crate::layout::{Extent, Geometry, Header, Plain, GRANULE, GRANULE_SHIFT, PAGE};
use crate::{Error, Result};

/// What may be done with an arena's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// A member's.
    Write,
    /// An observer's: it has no way to change anything.
    Read,
}

pub(crate) struct Space {
    access: Access,
    fd: ManuallyDrop<OwnedFd>,
    identity: memfd::Identity,
    pub(crate) geometry: Geometry,
    /// One `AtomicPtr<u8>` per granule; anonymous memory, zero means not mapped yet.
    table: Mapping,
    /// Bytes that this process may add before it looks again at what the machine has left.
    stride: AtomicU64,
    /// What it had left when this process looked last.
    room: AtomicU64,
}

impl Space {
    /// Wraps a sealed arena of at least `geometry.size` bytes.
    pub(crate) fn new(fd: OwnedFd, geometry: Geometry, access: Access) -> Result<Self> {
        let identity = memfd::identity(&fd)?;
        let table = Mapping::anonymous(
            granules(&geometry) as usize * size_of::<AtomicPtr<u8>>(),
            false,
        )?;
        Ok(Self {
            access,
            fd: ManuallyDrop::new(fd),
            identity,
            geometry,
            table,
            stride: AtomicU64::new(budget::UNSEEN),
            room: AtomicU64::new(u64::MAX),
        })
    }

    /// The descriptor, after checking that its number still means the arena: a program may have
    /// closed it (`os.closerange`) and opened something else under the same number.
    pub(crate) fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        match memfd::identity(&*self.fd) {
            Ok(identity) if identity == self.identity => Ok(self.fd.as_fd()),
            _ => Err(Error::DescriptorLost {
                fd: self.fd.as_raw_fd(),
            }),
        }
    }

    fn entry(&self, granule: u64) -> &AtomicPtr<u8> {
        debug_assert!(granule < granules(&self.geometry));
        // SAFETY: callers checked `granule` against the geometry, by which the table was sized.
        let entry = unsafe {
            self.table
                .as_ptr()
                .cast::<AtomicPtr<u8>>()
                .add(granule as usize)
        };
        // SAFETY: the table lives as long as `self`, is zeroed (null is valid) and aligned to a page.
        unsafe { &*entry }
    }

    /// The address of a place, mapping its granule if need be.
    pub(crate) fn at(&self, offset: u64) -> Result<NonNull<u8>> {
        if offset >= self.geometry.size {
            return Err(Error::Corrupted("an offset beyond the arena"));
        }
        let base = self.granule_base(offset >> GRANULE_SHIFT)?;
        // SAFETY: the granule is mapped as far as the file goes, and the offset lies in the file.
        Ok(unsafe { base.add((offset & (GRANULE - 1)) as usize) })
    }

    fn granule_base(&self, granule: u64) -> Result<NonNull<u8>> {
        let entry = self.entry(granule);
        if let Some(base) = NonNull::new(entry.load(Acquire)) {
            return Ok(base);
        }
        let map = match self.access {
            Access::Write => Mapping::shared,
            Access::Read => Mapping::shared_to_read,
        };
        let start = granule << GRANULE_SHIFT;
        let len = self.mapped_from(start) as usize;
        let mapping = map(self.descriptor()?, start, len)?;
        // No lock: two threads may map the same granule, the loser unmaps; a fork finds nothing held.
        #[cfg(shuttle)]
        bequeath_sync::park::note_mapping(
            mapping.as_ptr().addr(),
            len,
            self.identity.inode << 40 | start,
        );
        match entry.compare_exchange(null_mut(), mapping.as_ptr(), AcqRel, Acquire) {
            Ok(_) => Ok(mapping.leak()),
            Err(other) => Ok(NonNull::new(other).expect("only null is ever replaced")),
        }
    }

    /// How many bytes are mapped in one piece from a place of the arena on.
    pub(crate) fn mapped_from(&self, offset: u64) -> u64 {
        let granule = GRANULE - (offset & (GRANULE - 1));
        granule.min(self.geometry.size.saturating_sub(offset))
    }

    /// A shared structure at a place.
    pub(crate) fn shared<T: Plain>(&self, offset: u64) -> Result<&T> {
        let size = size_of::<T>() as u64;
        if offset % align_of::<T>() as u64 != 0 || self.mapped_from(offset) < size {
            return Err(Error::Corrupted("a misplaced structure"));
        }
        let address = self.at(offset)?.cast::<T>();
        // SAFETY: mapped (invariant 2) and inside one granule, aligned, and Plain: any bytes are a value,
        // and it consists of atomics, so others may change it meanwhile. Granules outlive the borrow.
        Ok(unsafe { address.as_ref() })
    }

    /// As many of the `count` structures from `offset` on as lie in one granule.
    pub(crate) fn shared_row<T: Plain>(&self, offset: u64, count: u64) -> Result<&[T]> {
        let size = size_of::<T>() as u64;
        let first: &T = self.shared(offset)?;
        let fit = self.mapped_from(offset) / size;
        // SAFETY: `first` is mapped with its whole granule (invariant 2), which has room for `fit` of them;
        // they are Plain: any bytes are a value, and others may change them meanwhile.
        Ok(unsafe { std::slice::from_raw_parts(first, fit.min(count) as usize) })
    }

    /// The header; mapped since the space was made.
    pub(crate) fn header(&self) -> &Header {
        self.shared(0)
            .expect("the first granule is mapped when a space is made")
    }

    /// The directory's entry of an extent.
    pub(crate) fn extent(&self, extent: u64) -> Result<&Extent> {
        if extent < self.geometry.first || extent >= self.geometry.extents {
            return Err(Error::Corrupted("an extent beyond the arena"));
        }
        self.shared(self.geometry.entry_at(extent))
    }

    /// Gives pages to a range, within the budget. Pages that are there already stay as they are.
    pub(crate) fn back(&self, offset: u64, len: u64) -> Result<()> {
        let fd = self.descriptor()?;
        let used = memfd::used_bytes(fd)?;
        let limit = self.header().limit.load(Relaxed);
        if used.saturating_add(len) > limit {
            return Err(Error::Budget {
                needed: len,
                used,
                limit,
                from: self.limit_source(),
            });
        }
        self.look_ahead(used, len)?;
        memfd::allocate(fd, offset, len).map_err(|source| Error::OutOfMemory {
            needed: len,
            source,
        })
    }

    /// Refuses what the kernel would kill for. It looks now and then only: a look costs some files.
    fn look_ahead(&self, used: u64, len: u64) -> Result<()> {
        let covered = |left: u64| left.checked_sub(len);
        if self.stride.fetch_update(Relaxed, Relaxed, covered).is_ok() {
            return Ok(());
        }
        let (room, from) = budget::room_now();
        self.room.store(room, Relaxed);
        if len > room {
            return Err(Error::Budget {
                needed: len,
                used,
                limit: used.saturating_add(room),
                from,
            });
        }
        self.stride.store(budget::stride(room - len), Relaxed);
        Ok(())
    }

    /// What may be kept for the next user of a freed place, as far as what is left decides.
    pub(crate) fn warm_cap(&self) -> u64 {
        self.room.load(Relaxed) / 4
    }

    /// What set the budget.
    pub(crate) fn limit_source(&self) -> LimitSource {
        LimitSource::from_word(self.header().limit_source.load(Relaxed) & 0xff)
    }

    /// What set the arena's size.
    pub(crate) fn size_source(&self) -> LimitSource {
        LimitSource::from_word(self.header().limit_source.load(Relaxed) >> 8 & 0xff)
    }

    /// Notes both.
    pub(crate) fn note_sources(&self, limit: LimitSource, size: LimitSource) {
        let word = limit.to_word() | size.to_word() << 8;
        self.header().limit_source.store(word, Relaxed);
    }

    /// The same without asking the budget: for the few pages of tables that cleaning up needs too.
    pub(crate) fn back_tables(&self, offset: u64, len: u64) -> Result<()> {
        memfd::allocate(self.descriptor()?, offset, len).map_err(|source| Error::OutOfMemory {
            needed: len,
            source,
        })
    }

    /// Gives pages back.
    pub(crate) fn punch(&self, offset: u64, len: u64) -> Result<()> {
        Ok(memfd::punch(self.descriptor()?, offset, len)?)
    }

    /// Bytes of pages, by the kernel's count.
    pub(crate) fn used(&self) -> Result<u64> {
        Ok(memfd::used_bytes(self.descriptor()?)?)
    }

    /// A private mapping laid over mapped bytes of the arena, or the shared one laid back.
    ///
    /// # Safety
    /// `address` is where `offset` is mapped, page-aligned, and the caller owns the range's content.
    pub(crate) unsafe fn relay(
        &self,
        address: NonNull<u8>,
        offset: u64,
        len: usize,
        shared: bool,
    ) -> Result<()> {
        // SAFETY: the range is mapped and ours to remap by the caller's word; leaked again below.
        let range = unsafe { Mapping::from_leaked(address, len) };
        // SAFETY: the file's bytes are what stands there now, by the caller's word.
        let done = unsafe { range.remap(0, len, self.descriptor()?, offset, shared) };
        let _ = range.leak();
        Ok(done?)
    }
}

/// How many granules an arena has.
fn granules(geometry: &Geometry) -> u64 {
    geometry.size.div_ceil(GRANULE)
}

/// Rounds a length up to whole pages.
pub(crate) fn pages(len: u64) -> u64 {
    len.div_ceil(PAGE)
}

impl Space {
    /// Unmaps and closes everything, once. Nothing of the space may be used afterwards.
    pub(crate) fn let_go(&self) {
        for granule in 0..granules(&self.geometry) {
            if let Some(base) = NonNull::new(self.entry(granule).swap(null_mut(), AcqRel)) {
                let len = self.mapped_from(granule << GRANULE_SHIFT) as usize;
                #[cfg(shuttle)]
                bequeath_sync::park::forget_mapping(base.as_ptr().addr());
                // SAFETY: leaked by `granule_base` with this length, and taken out of the table for good.
                drop(unsafe { Mapping::from_leaked(base, len) });
            }
        }
        // A number that means something else by now is not ours to close.
        if self.descriptor().is_ok() {
            // SAFETY: ours, and not used afterwards.
            drop(unsafe { OwnedFd::from_raw_fd(self.fd.as_raw_fd()) });
        }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.let_go();
    }
}
