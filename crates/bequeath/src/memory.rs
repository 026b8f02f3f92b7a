#![allow(unsafe_code)]
//! `Memory`: bytes that several processes use at a time.
//!
//! # Safety invariants
//! The bytes behind the handle are mapped while it lives; they are touched by raw copies only, never by reference,
//! whose range is checked against their length first.

use bequeath_shm::{AnyHandle, Handle};

use crate::error::Result;
use crate::session::Session;
use crate::transfer::transferable;

/// A block of shared memory that any number of processes read and write; it may stand anywhere inside
/// a message, and none of its bytes travels.
///
/// Nothing keeps a reader from seeing half of what a writer writes at the same time: a
/// [`Lock`](crate::Lock) or a message says when it is whole. Memory that only one process at a time
/// shall have is a [`Block`](crate::Block).
///
/// # After fork
/// See [`Session`].
///
/// # If a peer dies
/// What it had written is there, maybe half of it; the memory lives as long as anybody has it.
///
/// ```
/// let session = bequeath::Session::new()?;
/// let memory = session.memory(1 << 20)?;
/// let queue = session.queue::<(usize, bequeath::Memory)>(None)?;
/// assert!(memory.write_at(7, b"shared"));
/// queue.send(&(7, memory))?;
/// let (at, memory) = queue.recv()?;
/// let mut text = [0; 6];
/// assert!(memory.read_at(at, &mut text));
/// assert_eq!(&text, b"shared");
/// # Ok::<(), bequeath::Error>(())
/// ```
#[derive(Clone)]
pub struct Memory(Handle<bequeath_shm::Memory>);

transferable!(Memory);

impl std::fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Memory")
            .field("len", &self.len())
            .finish()
    }
}

impl Memory {
    #[track_caller]
    pub(crate) fn create(session: &Session, len: usize) -> Result<Self> {
        Ok(Self(bequeath_shm::Memory::create(session.engine(), len)?))
    }

    /// The memory that a received handle refers to; a Python program's `Value` and `Array` are such
    /// memory, too.
    ///
    /// # Errors
    /// For an object of another kind.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let memory = session.memory(8)?;
    /// let same = bequeath::Memory::from_handle(&memory.to_handle())?;
    /// assert_eq!(same.len(), memory.len());
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn from_handle(handle: &AnyHandle) -> Result<Self> {
        Ok(Self(handle.downcast()?))
    }

    /// A handle to pass on inside a [`Message`](crate::Message).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let handle = session.memory(8)?.to_handle();
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn to_handle(&self) -> AnyHandle {
        self.0.erase()
    }

    /// How many bytes it has.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert_eq!(session.memory(100)?.len(), 100);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.extra().1
    }

    /// Whether it has no bytes.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert!(!session.memory(1)?.is_empty());
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes out; false (and no copy) when the range lies outside.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let memory = session.memory(4)?;
    /// let mut bytes = [1; 4];
    /// assert!(memory.read_at(0, &mut bytes) && bytes == [0; 4]);
    /// assert!(!memory.read_at(1, &mut bytes));
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn read_at(&self, at: usize, into: &mut [u8]) -> bool {
        let Some(from) = self.place(at, into.len()) else {
            return false;
        };
        // SAFETY: the range was checked, and what is private to this process overlaps nothing shared.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        true
    }

    /// Copies bytes in; false (and no copy) when the range lies outside.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let memory = session.memory(4)?;
    /// assert!(memory.write_at(2, b"ab") && !memory.write_at(3, b"ab"));
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn write_at(&self, at: usize, bytes: &[u8]) -> bool {
        let Some(into) = self.place(at, bytes.len()) else {
            return false;
        };
        // SAFETY: the range was checked, and what is private to this process overlaps nothing shared.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), into, bytes.len()) };
        true
    }

    /// The first of `count` bytes from `at` on, if there are so many.
    fn place(&self, at: usize, count: usize) -> Option<*mut u8> {
        let (first, len) = self.0.extra();
        (at <= len && count <= len - at).then(|| first.wrapping_add(at))
    }
}
