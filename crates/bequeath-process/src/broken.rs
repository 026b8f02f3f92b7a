//! Deliberate mistakes, for tests only: a harness that passes them proves nothing.
//!
//! Without the feature `broken-variants` every question here is answered by a constant `false`.

/// A mistake in what a template and its starters agree on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mistake {
    /// A child does not wait until its starter has heard of it.
    GoesAheadUnasked = 1,
    /// The template keeps the end at which the starter tells the child to go ahead.
    LineKept = 2,
}

#[cfg(feature = "broken-variants")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    static MADE: AtomicU8 = AtomicU8::new(0);

    /// Makes the mistake from now on; `None` makes none.
    pub fn make(mistake: Option<super::Mistake>) {
        MADE.store(mistake.map_or(0, |mistake| mistake as u8), Relaxed);
    }

    pub(crate) fn is(mistake: super::Mistake) -> bool {
        MADE.load(Relaxed) == mistake as u8
    }
}

#[cfg(not(feature = "broken-variants"))]
mod switch {
    pub(crate) const fn is(_mistake: super::Mistake) -> bool {
        false
    }
}

pub(crate) use switch::is;
#[cfg(feature = "broken-variants")]
pub use switch::make;
