//! Deliberate mistakes, for tests only: a harness that passes them proves nothing.
//!
//! Without the feature `broken-variants` every question here is answered by a constant `false`.

/// A mistake in the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mistake {
    /// The record's bytes are written after the commit that makes it reachable.
    CommitBeforeBytes = 1,
    /// The envelope is given to the queue before the commit that names it.
    SettleBeforeCommit = 2,
    /// The readiness descriptor is raised after the commit.
    RaiseAfterCommit = 3,
    /// The parcel's number is not committed before the parcel is sent.
    NumberNotConsumed = 4,
    /// A received parcel is taken out before the commit that removes its record.
    DiscardBeforeCommit = 5,
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
