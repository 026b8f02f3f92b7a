//! Adopted blocks: private writable memory that arrived without a copy.

/// A block that became this process's private memory.
///
/// # After fork
/// Parent and child keep the content; later writes of either are its own.
///
/// # If a peer dies
/// Nothing changes here; what a dead process had adopted is freed.
pub struct Adopted {
    session: crate::session::Session,
}

impl Adopted {
    /// First byte; stays where it is for the value's life.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        let _ = &self.session;
        unimplemented!()
    }

    /// Bytes in use.
    #[must_use]
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
