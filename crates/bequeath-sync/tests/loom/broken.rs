//! What kills cannot show, or not surely: each mistake must be found in some interleaving.

use bequeath_sync::broken::Mistake;

use crate::explore::finds;

#[test]
fn a_relaxed_commit_is_found() {
    let test = "living::additions_are_not_lost";
    finds(Mistake::CommitRelaxed, test, "assertion `left == right`");
}

#[test]
fn a_state_written_in_place_is_found() {
    let test = "dying::an_addition_of_the_dying_happens_wholly_or_not";
    finds(Mistake::StateInPlace, test, "torn");
}

#[test]
fn a_missing_look_at_the_owners_death_is_found() {
    let test = "living::a_cell_is_not_taken_from_the_living";
    finds(Mistake::NoDeathCheck, test, "panicked");
}

#[test]
fn a_forgotten_mark_of_sleepers_is_found() {
    let test = "living::two_who_sleep_on_the_lock_are_both_woken";
    finds(Mistake::MarkForgotten, test, "deadlock");
}

#[test]
fn a_relaxed_commit_of_a_queues_message_is_found() {
    // The receiver sees no message, or an old state, and sleeps for ever.
    let test = "queue::messages_arrive_whole";
    finds(Mistake::CommitRelaxed, test, "deadlock");
}

#[test]
fn a_queues_state_written_in_place_is_found() {
    let test = "queue::a_message_of_the_dying_is_there_wholly_or_not";
    finds(Mistake::StateInPlace, test, "torn");
}

#[test]
fn a_missing_look_at_the_death_of_a_queues_owner_is_found() {
    let test = "queue::a_queue_is_not_taken_from_the_living";
    finds(Mistake::NoDeathCheck, test, "panicked");
}
