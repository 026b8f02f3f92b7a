#![allow(unsafe_code)]
//! Shared objects as programs hold them: `Handle<T>` and the type-erased `AnyHandle`.
//!
//! A handle is one counted reference of this *process*; clones share it, the last drop gives it
//! back. The count of all processes and envelopes lives in the object's header (`registry.rs`).

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use crate::block::BlockName;
use crate::reference::Reference;
use crate::session::Session;
use crate::Result;

/// What a shared object is made of.
///
/// # Safety
/// The type is `repr(C)`, consists of atomics (or of such types), has no padding that matters, an
/// alignment of at most 64, is valid for every bit pattern, and all zero is its initial state.
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
    pub(crate) body: *const u8,
}

/// A counted reference of this process to an object of type `T`.
pub struct Handle<T: Object> {
    entry: Arc<Entry>,
    kind: PhantomData<fn() -> T>,
}

/// A counted reference of this process to an object of whatever kind.
#[derive(Clone)]
pub struct AnyHandle(Arc<Entry>);

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

    /// The same reference without the type.
    #[must_use]
    pub fn erase(&self) -> AnyHandle {
        AnyHandle(Arc::clone(&self.entry))
    }

    /// The variable bytes behind the body, as given to `create_sized`: first byte and length.
    #[must_use]
    pub fn extra(&self) -> (*mut u8, usize) {
        unimplemented!()
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

    /// The typed handle.
    ///
    /// # Errors
    /// [`crate::Error::WrongKind`].
    pub fn downcast<T: Object>(&self) -> Result<Handle<T>> {
        unimplemented!()
    }
}

impl<T: Object> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Self { entry: Arc::clone(&self.entry), kind: PhantomData }
    }
}

impl<T: Object> Deref for Handle<T> {
    type Target = T;

    fn deref(&self) -> &T {
        unimplemented!()
    }
}
