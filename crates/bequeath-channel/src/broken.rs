//! Deliberate mistakes, for tests only: a harness that passes them proves nothing.
//!
//! Without the feature `broken-variants` every question here is answered by a constant `false`.

bequeath_sync::mistakes! {
    "A mistake in the protocol.";
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
    /// The queue is said to be watched before there are sockets to watch.
    WatchedBeforePinned = 6,
    /// Senders are refused by one commit, and receivers told that it is the end by another.
    ClosedInTwoSteps = 7,
    /// Who waits for all work to be done is told so, and believes it, before the commit that says so.
    ToldBeforeDone = 8,
    /// A message is work to be reported done by a commit of its own, after the one that makes it visible.
    WorkCountedLater = 9,
    /// Closing a queue, and reporting work done, start from a state that was read before the cell was held.
    ReadBeforeHeld = 10,
}
