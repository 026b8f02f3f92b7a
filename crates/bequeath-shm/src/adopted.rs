#![allow(unsafe_code)]
//! Adopted blocks: private writable memory that arrived without a copy.
//!
//! A received block belongs to this process alone, so its bytes can serve in place as the memory of
//! an array. Only a fork would make them common. Before a fork the pages are therefore laid over
//! with a private mapping of themselves: same bytes at the same address in one step, later writes of
//! either process are its own. From then on the block itself is a constant that both may still read:
//! a *keeper* object counts who does, and frees it after the last.
//!
//! # Safety invariants
//! - The range is mapped and backed until drop; a keeper's block is not freed while a process that
//!   maps it privately holds the keeper.
//! - Before the range goes back into the pool the shared mapping is restored (slots) or the mapping
//!   is dropped altogether (runs), since the next user of the place must see the file.

use std::alloc::Layout;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bequeath_sync::atomic::{AtomicU64, Ordering::*};

use crate::block::{Block, BlockName};
use crate::kind;
use crate::layout::PAGE;
use crate::object::{Handle, Object};
use crate::reference::Reference;
use crate::session::Session;
use crate::Result;

/// Counts the processes that still read an adopted block after a fork.
#[repr(C)]
pub(crate) struct Keeper {
    block: AtomicU64,
}

// SAFETY: one atomic; zero and every other value is valid.
unsafe impl Object for Keeper {
    const KIND: u32 = kind::KEEPER;

    fn destroy(&self, session: &Session, me: Reference) {
        if let Some(name) = BlockName::from_bits(self.block.load(Relaxed)) {
            if let Ok(incoming) = Block::claim(session, name, me) {
                drop(incoming.accept());
            }
        }
    }

    fn refers_to(&self, _: &Session, _: Reference, block: BlockName) -> bool {
        self.block.load(Relaxed) == block.to_bits()
    }
}

/// A block that became this process's private memory. A large one in place, without a copy; one below
/// [`IN_PLACE`] is copied out, which costs less than the mappings that a fork would split for it.
///
/// # After fork
/// Parent and child keep the content; later writes of either are its own.
///
/// # If a peer dies
/// Nothing changes here; what a dead process had adopted is freed.
#[derive(Clone)]
pub struct Adopted(Arc<Memory>);

/// Blocks of so many bytes and more are adopted in place.
pub const IN_PLACE: usize = 64 << 10;

enum Memory {
    InPlace(Arc<AdoptedBlock>),
    Copied(Private),
}

pub(crate) struct AdoptedBlock {
    block: ManuallyDrop<Block>,
    /// Set once the memory is private and the block kept for several processes.
    keeper: Mutex<Option<Handle<Keeper>>>,
}

impl Adopted {
    pub(crate) fn new(block: Block) -> Self {
        if block.len() < IN_PLACE || !block.adopts_in_place() {
            return Self(Arc::new(Memory::Copied(Private::copy_of(&block))));
        }
        let (session, offset) = (block.session().clone(), block.name().offset);
        let shared = Arc::new(AdoptedBlock {
            block: ManuallyDrop::new(block),
            keeper: Mutex::new(None),
        });
        session
            .local()
            .adopted
            .insert(offset, Arc::downgrade(&shared));
        Self(Arc::new(Memory::InPlace(shared)))
    }

    /// First byte, 64-byte aligned; stays where it is for the value's life.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        match &*self.0 {
            Memory::InPlace(adopted) => adopted.block.as_ptr(),
            Memory::Copied(private) => private.first.as_ptr(),
        }
    }

    /// Bytes in use.
    #[must_use]
    pub fn len(&self) -> usize {
        match &*self.0 {
            Memory::InPlace(adopted) => adopted.block.len(),
            Memory::Copied(private) => private.len,
        }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Memory of this process alone.
struct Private {
    first: NonNull<u8>,
    len: usize,
}

// SAFETY: owned memory, like a vector's; only the raw address comes out of it.
unsafe impl Send for Private {}
// SAFETY: as above.
unsafe impl Sync for Private {}

impl Private {
    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len.max(1), 64).expect("the length of a block that exists")
    }

    fn copy_of(block: &Block) -> Self {
        let len = block.len();
        let layout = Self::layout(len);
        // SAFETY: the layout is not empty.
        let first = NonNull::new(unsafe { std::alloc::alloc(layout) });
        let Some(first) = first else {
            std::alloc::handle_alloc_error(layout)
        };
        // SAFETY: `len` bytes of the block are mapped and ours, and so are those just allocated.
        unsafe { block.as_ptr().copy_to_nonoverlapping(first.as_ptr(), len) };
        Self { first, len }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // SAFETY: allocated by `copy_of` with this layout, and freed once.
        unsafe { std::alloc::dealloc(self.first.as_ptr(), Self::layout(self.len)) };
    }
}

impl AdoptedBlock {
    pub(crate) fn offset(&self) -> u64 {
        self.block.name().offset
    }

    fn keeper(&self) -> MutexGuard<'_, Option<Handle<Keeper>>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the memory private and the block kept, if it is not yet.
    fn keep(&self) -> Result<()> {
        let mut keeper = self.keeper();
        if keeper.is_some() {
            return Ok(());
        }
        let session = self.block.session();
        let handle = session.create_object::<Keeper>(|body| {
            body.block.store(self.block.name().to_bits(), Relaxed);
        })?;
        self.relay(false)?;
        self.block.settle_with(handle.reference());
        *keeper = Some(handle);
        Ok(())
    }

    /// Whole pages: smaller blocks are not adopted in place.
    fn relay(&self, shared: bool) -> Result<()> {
        let block = &self.block;
        let len = block
            .len()
            .next_multiple_of(PAGE as usize)
            .min(block.capacity());
        let Some(address) = NonNull::new(block.as_ptr()) else {
            return Ok(());
        };
        // SAFETY: mapped there for the block's life, page-aligned (`Block::adopts_in_place`), and the
        // content is this process's own until it is given back.
        unsafe {
            block
                .session()
                .space()
                .relay(address, block.name().offset, len, shared)
        }
    }
}

impl Drop for AdoptedBlock {
    fn drop(&mut self) {
        let session = self.block.session().clone();
        let offset = self.block.name().offset;
        let mut local = session.local();
        if local
            .adopted
            .get(&offset)
            .is_some_and(|weak: &Weak<Self>| weak.strong_count() == 0)
        {
            local.adopted.remove(&offset);
        }
        drop(local);
        let keeper = self.keeper().take();
        if keeper.is_none() {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.block) };
            return;
        }
        if self.block.is_run() {
            session.local().runs.forget(offset);
        } else if self.relay(true).is_err() {
            // The place must not be used again through private pages: it stays this process's.
            std::mem::forget(keeper);
        }
        // SAFETY: the block is not used again; its session is what has to be dropped of it.
        drop(unsafe { std::ptr::read(self.block.session()) });
    }
}

impl Session {
    /// Before a fork: every adopted block becomes private and kept.
    pub(crate) fn keep_adopted(&self) -> Result<()> {
        let adopted: Vec<_> = self
            .local()
            .adopted
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        adopted.iter().try_for_each(|block| block.keep())
    }
}
