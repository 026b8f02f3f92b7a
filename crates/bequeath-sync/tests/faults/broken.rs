//! Each protocol with a deliberate mistake, caught by killing at every instruction.
//!
//! What no kill can show is found by loom: see `tests/loom`.

use bequeath_sync::broken::Mistake;
use bequeath_sync::{Lock, RecursiveLock};

use crate::{barrier, cell, condition, event, locks, semaphore};

#[test]
fn a_state_in_place_is_a_mistake_that_kills_reveal() {
    cell::commit().catches(Mistake::StateInPlace);
}

#[test]
fn a_lock_taken_silently_from_the_killed_is_a_mistake() {
    locks::section::<Lock>("Lock").catches(Mistake::TakenSilently);
    locks::section::<RecursiveLock>("RecursiveLock").catches(Mistake::TakenSilently);
}

#[test]
fn the_depth_of_the_killed_kept_is_a_mistake() {
    locks::three_deep().catches(Mistake::DepthKept);
}

#[test]
fn a_unit_taken_before_its_holder_is_noted_is_a_mistake_that_kills_reveal() {
    semaphore::robust_take_and_give().catches(Mistake::TakenBeforeNoted);
}

#[test]
fn waiters_told_before_the_event_is_set_is_a_mistake_that_kills_reveal() {
    event::set_with_waiters().catches(Mistake::ToldBeforeSet);
}

#[test]
fn a_notification_that_dies_with_the_killed_waiter_is_a_mistake() {
    condition::wait_in_front().catches(Mistake::DiesWithWaiter);
}

#[test]
fn a_party_counted_unnamed_is_a_mistake_that_kills_reveal() {
    barrier::arrive_and_wait().catches(Mistake::CountedUnnamed);
}
