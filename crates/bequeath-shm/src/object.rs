#![allow(unsafe_code)]
//! Shared objects as programs hold them: `Handle<T>` and the type-erased `AnyHandle`.
//!
//! A handle is one counted reference of this *process*; clones share it, the last drop gives it
//! back. The count of all processes and envelopes lives in the object's header (`counting.rs`).
//!
//! # Safety invariants
//! - `body` points behind the header of an object slot, in an extent that stays mapped as long as the
//!   session lives in this process, and the slot is large enough for every `T` of the entry's kind
//!   that a handle was made for (checked in `typed`).
//! - `Object` types are atomics through and through: a `&T` is fine whatever others write.

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::sync::Arc;

use crate::block::BlockName;
use crate::reference::Reference;
use crate::session::Session;
use crate::site::Maker;
use crate::{Error, Result};

/// What a shared object is made of.
///
/// # Safety
/// The type is `repr(C)`, consists of atomics (or of such types), has an alignment of at most 64, is
/// valid for every bit pattern, and all zero is its initial state.
pub unsafe trait Object: Sized + Send + Sync + 'static {
    /// Which kind of object this is; one number per type, see [`crate::kind`].
    const KIND: u32;

    /// Gives back what the object holds: blocks it keeps or has queued. Called once nobody
    /// refers to the object any more. It may be called again after its caller died half-way, so
    /// it works like a receiver: take one thing off in a commit, free it, repeat.
    fn destroy(&self, session: &Session, me: Reference) {
        let _ = (session, me);
    }

    /// Whether the committed state refers to `block`; asked by the scavenger about a block that a
    /// dead member was moving in or out.
    fn refers_to(&self, session: &Session, me: Reference, block: BlockName) -> bool {
        let _ = (session, me, block);
        false
    }
}

/// One live reference of this process to an object; shared by all handles to it here.
pub(crate) struct Entry {
    pub(crate) session: Session,
    pub(crate) reference: Reference,
    pub(crate) kind: u32,
    /// Behind the header.
    pub(crate) body: NonNull<u8>,
    /// Bytes of the slot from there on.
    pub(crate) room: usize,
    pub(crate) extra: (NonNull<u8>, usize),
    /// The run that holds the extra bytes, if one does.
    pub(crate) run: Option<u64>,
    /// The slot in the table of references; another one in a forked child.
    pub(crate) slot: AtomicU32,
}

// SAFETY: the pointers are to shared memory that stays mapped; all access goes through `Object` types.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

impl Drop for Entry {
    fn drop(&mut self) {
        self.session.close_entry(self);
    }
}

/// A counted reference of this process to an object of type `T`.
///
/// # After fork
/// Valid in parent and child, each with its own count.
///
/// # If a peer dies
/// Its count is given back; the object lives as long as anybody's count lasts.
pub struct Handle<T: Object> {
    entry: Arc<Entry>,
    kind: PhantomData<fn() -> T>,
}

/// A counted reference of this process to an object of whatever kind.
///
/// # After fork
/// Valid in parent and child, each with its own count.
///
/// # If a peer dies
/// Its count is given back; the object lives as long as anybody's count lasts.
#[derive(Clone)]
pub struct AnyHandle(pub(crate) Arc<Entry>);

impl<T: Object> Handle<T> {
    /// The session that the object lives in.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.entry.session
    }

    /// The name under which others can open the object, as long as somebody holds it.
    #[must_use]
    pub fn reference(&self) -> Reference {
        self.entry.reference
    }

    /// Who made it, and at which line of its program.
    #[must_use]
    pub fn maker(&self) -> Maker {
        let header = self
            .session()
            .space()
            .object_header(self.reference().offset);
        header.map_or_else(|_| Maker::default(), |header| header.maker.read())
    }

    /// The same reference without the type.
    #[must_use]
    pub fn erase(&self) -> AnyHandle {
        AnyHandle(Arc::clone(&self.entry))
    }

    /// The variable bytes behind the body, as given to `create_sized`: first byte and length. Mapped
    /// as long as a handle lives.
    #[must_use]
    pub fn extra(&self) -> (*mut u8, usize) {
        (self.entry.extra.0.as_ptr(), self.entry.extra.1)
    }
}

impl AnyHandle {
    /// The name of the object.
    #[must_use]
    pub fn reference(&self) -> Reference {
        self.0.reference
    }

    /// The object's kind.
    #[must_use]
    pub fn kind(&self) -> u32 {
        self.0.kind
    }

    /// The session that the object lives in.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.0.session
    }

    /// What its header says of it: who made it, where, and how many refer to it.
    #[must_use]
    pub fn identity(&self) -> Option<crate::Identity> {
        self.0.session.space().identity(self.0.reference.offset)
    }

    /// The typed handle.
    ///
    /// # Errors
    /// [`Error::WrongKind`].
    pub fn downcast<T: Object>(&self) -> Result<Handle<T>> {
        typed(Arc::clone(&self.0))
    }
}

pub(crate) fn typed<T: Object>(entry: Arc<Entry>) -> Result<Handle<T>> {
    const { assert!(align_of::<T>() <= 64) };
    if entry.kind != T::KIND || entry.room < size_of::<T>() {
        return Err(Error::WrongKind {
            reference: entry.reference,
            found: entry.kind,
            wanted: T::KIND,
        });
    }
    Ok(Handle {
        entry,
        kind: PhantomData,
    })
}

impl<T: Object> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Self {
            entry: Arc::clone(&self.entry),
            kind: PhantomData,
        }
    }
}

impl<T: Object> Deref for Handle<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY:
        // - the body is mapped and backed as long as the session lives here, and the entry holds it;
        // - it is 64-byte aligned and has room for T (`typed`);
        // - T is atomics, valid whatever the bytes (contract of `Object`).
        unsafe { self.entry.body.cast::<T>().as_ref() }
    }
}

impl<T: Object> std::fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({}, kind {})", self.entry.reference, T::KIND)
    }
}

/// What the registry does for a kind, without its type.
#[derive(Clone, Copy)]
pub(crate) struct Hooks {
    pub(crate) kind: u32,
    room: usize,
    destroy: unsafe fn(NonNull<u8>, &Session, Reference),
    refers_to: unsafe fn(NonNull<u8>, &Session, Reference, BlockName) -> bool,
}

impl Hooks {
    pub(crate) fn of<T: Object>() -> Self {
        Self {
            kind: T::KIND,
            room: size_of::<T>(),
            destroy: destroy::<T>,
            refers_to: refers_to::<T>,
        }
    }

    /// Calls the kind's `destroy` on the body of an object slot with `room` bytes.
    pub(crate) fn destroy(&self, body: NonNull<u8>, room: usize, session: &Session, me: Reference) {
        if room >= self.room {
            // SAFETY: the body lies in mapped object memory with room for the hook's type.
            unsafe { (self.destroy)(body, session, me) }
        }
    }

    /// Calls the kind's `refers_to` likewise.
    pub(crate) fn refers_to(
        &self,
        body: NonNull<u8>,
        room: usize,
        session: &Session,
        me: Reference,
        block: BlockName,
    ) -> bool {
        // SAFETY: the body lies in mapped object memory with room for the hook's type.
        room >= self.room && unsafe { (self.refers_to)(body, session, me, block) }
    }
}

/// # Safety
/// `body` is a mapped, 64-byte aligned place with room for a `T`.
unsafe fn destroy<T: Object>(body: NonNull<u8>, session: &Session, me: Reference) {
    // SAFETY: by this function's contract, and `Object` types are valid whatever the bytes.
    let object = unsafe { body.cast::<T>().as_ref() };
    object.destroy(session, me);
}

/// # Safety
/// As [`destroy`].
unsafe fn refers_to<T: Object>(
    body: NonNull<u8>,
    session: &Session,
    me: Reference,
    block: BlockName,
) -> bool {
    // SAFETY: by this function's contract, and `Object` types are valid whatever the bytes.
    let object = unsafe { body.cast::<T>().as_ref() };
    object.refers_to(session, me, block)
}

/// The kinds that this program knows. A fixed table, filled once per kind, read without a lock.
pub(crate) mod hooks {
    use super::*;
    use std::sync::OnceLock;

    static KNOWN: [OnceLock<Hooks>; 64] = [const { OnceLock::new() }; 64];

    pub(crate) fn register<T: Object>() {
        for place in &KNOWN {
            if place.get_or_init(Hooks::of::<T>).kind == T::KIND {
                return;
            }
        }
        panic!("more than {} kinds of objects in one program", KNOWN.len());
    }

    pub(crate) fn of(kind: u32) -> Option<&'static Hooks> {
        KNOWN
            .iter()
            .map_while(OnceLock::get)
            .find(|hooks| hooks.kind == kind)
    }
}

/// Makes a kind known in this process, so that it can destroy and answer for objects that others
/// made. Making or opening one does the same.
pub fn register_kind<T: Object>() {
    hooks::register::<T>();
}
