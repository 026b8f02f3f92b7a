//! Deliberate mistakes, for tests only: a model checker or a harness that passes them proves nothing.
//!
//! Without the feature `broken-variants` every question here is answered by a constant `false`.

/// Declares `Mistake`, `make` (with the feature `broken-variants` of the calling crate) and `is`.
#[doc(hidden)]
#[macro_export]
macro_rules! mistakes {
    ($about:literal; $($(#[$what:meta])* $name:ident = $number:literal,)*) => {
        #[doc = $about]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Mistake {
            $($(#[$what])* $name = $number,)*
        }

        #[cfg(feature = "broken-variants")]
        mod switch {
            // Not a shared word of any protocol: core's also under a model checker.
            use core::sync::atomic::{AtomicU8, Ordering};

            static MADE: AtomicU8 = AtomicU8::new(0);

            /// Makes the mistake from now on; `None` makes none.
            pub fn make(mistake: Option<super::Mistake>) {
                let number = mistake.map_or(0, |mistake| mistake as u8);
                MADE.store(number, Ordering::Relaxed);
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
    };
}

crate::mistakes! {
    "A mistake in a protocol: the cell's first, then one or more of each primitive.";
    /// The commit does not say that what was written before it comes before it.
    CommitRelaxed = 1,
    /// The next state is written over the committed one.
    StateInPlace = 2,
    /// A cell is taken over without asking whether its owner is dead.
    NoDeathCheck = 3,
    /// Who slept on the lock and takes it forgets that others may sleep too.
    MarkForgotten = 4,
    /// A killed holder's lock is free for the next, who is not told.
    TakenSilently = 5,
    /// A recursive lock that is recovered stays as deep as its killed holder took it.
    DepthKept = 6,
    /// A unit is taken by one commit and its holder noted by another.
    TakenBeforeNoted = 7,
    /// Waiters are told by one commit, and the event is set by another.
    ToldBeforeSet = 8,
    /// A notification given to a dead waiter is gone.
    DiesWithWaiter = 9,
    /// An arrived party is counted before its name is known.
    CountedUnnamed = 10,
}
