//! Deliberate mistakes, for tests only: a harness that passes them proves nothing.
//!
//! Without the feature `broken-variants` every question here is answered by a constant `false`.

/// A mistake in one of the session's protocols.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mistake {
    /// A reference is counted without having been announced in its slot.
    CountUnannounced = 1,
    /// The last change of a count is overwritten before the slot it was for knows that it happened.
    ChangeNotNoted = 2,
    /// A block moves without saying which object decides about it.
    MovesWithoutVia = 3,
    /// A block becomes part of an envelope before the envelope lists it.
    PartBeforeListed = 4,
    /// What a member owns is taken for a dead one's without asking.
    NoDeathCheck = 5,
    /// What a forked child holds is counted for its parent.
    ChildCountedForParent = 6,
}

#[cfg(feature = "broken-variants")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    static MADE: AtomicU8 = AtomicU8::new(0);

    /// Makes the mistake from now on; `None` makes none.
    pub fn make(mistake: Option<super::Mistake>) {
        MADE.store(
            mistake.map_or(0, |mistake| mistake as u8),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn is(mistake: super::Mistake) -> bool {
        MADE.load(Ordering::Relaxed) == mistake as u8
    }
}

#[cfg(not(feature = "broken-variants"))]
mod switch {
    pub(crate) const fn is(_mistake: super::Mistake) -> bool {
        false
    }
}

#[cfg(feature = "broken-variants")]
pub use switch::make;

pub(crate) use switch::is;
