//! Deliberate mistakes, for tests only: a harness that passes them proves nothing.
//!
//! Without the feature `broken-variants` every question here is answered by a constant `false`.

bequeath_sync::mistakes! {
    "A mistake in one of the session's protocols.";
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
    /// An extent is given back without having said so first.
    EmptiedWithoutIntent = 7,
    /// Slots are not looked at again once nobody can take them any more.
    EmptiedUnseen = 8,
    /// A worker says that it has begun a task when it has done it.
    BegunAfterwards = 9,
    /// A worker says that it is at no task before it has answered.
    EndedBeforehand = 10,
    /// A worker says what it has begun before it says when.
    SinceTooLate = 11,
}
