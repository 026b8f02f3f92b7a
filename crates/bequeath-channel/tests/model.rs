//! The queue under shuttle: `make long` runs these with `RUSTFLAGS="--cfg shuttle"`.
//!
//! Threads play processes, as in the models of `bequeath-shm`: one of them, the victim, stops for ever after its first
//! store, after its second and so on, while the others send, receive and clean up at the same time. Afterwards each
//! message is accounted for: delivered once, in its sender's order, whole, or lost with the victim that was receiving it.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used)]

mod world;

use bequeath_testing::model::schedules;
use world::ending::{explore_close, explore_join, explore_task_done};
use world::model::{explore, Member, Plan, Shape, SMALL};

fn puts(member: &Member) {
    [100, 101].into_iter().for_each(|number| member.put(number));
}

fn puts_too(member: &Member) {
    [200, 201].into_iter().for_each(|number| member.put(number));
}

fn gets_two(member: &Member) {
    member.get();
    member.get();
}

const SENDER: Plan = Plan {
    shape: SMALL,
    passed: 0,
    present: 0,
    victim: puts,
    victims: &[100, 101],
    others: [puts_too, gets_two],
    theirs: &[200, 201],
};

const RECEIVER: Plan = Plan {
    present: 4,
    victim: gets_two,
    victims: &[],
    ..SENDER
};

fn run(name: &str, plan: Plan) {
    explore(name, schedules(4, 40), plan);
}

#[test]
fn a_sender_stops() {
    run("queue, a sender stops", SENDER);
}

#[test]
fn a_receiver_stops() {
    run("queue, a receiver stops", RECEIVER);
}

#[test]
fn one_stops_at_a_bounded_queue() {
    let shape = Shape {
        capacity: Some(1),
        ..SMALL
    };
    let sender = Plan {
        shape,
        victim: |member| member.put(100),
        victims: &[100],
        ..SENDER
    };
    run("bounded queue, a sender stops", sender);
    let receiver = Plan {
        shape,
        present: 1,
        victim: Member::get,
        others: [puts_too, gets_two],
        theirs: &[200, 201],
        ..RECEIVER
    };
    run("bounded queue, a receiver stops", receiver);
}

#[test]
fn one_stops_that_closes_the_queue() {
    explore_close("close", schedules(4, 40));
}

#[test]
fn one_stops_that_reports_work_done() {
    explore_task_done("task_done", schedules(4, 40));
}

#[test]
fn one_stops_that_waits_for_all_work_to_be_done() {
    explore_join("join", schedules(4, 40));
}

/// 3980 + 16 rounds to 4000: sixteen records fill a segment.
const BOUNDARY: Shape = Shape {
    bytes: 3980,
    ..SMALL
};

#[test]
fn one_stops_at_the_end_of_a_segment() {
    let sender = Plan {
        shape: BOUNDARY,
        passed: 14,
        present: 1,
        ..SENDER
    };
    run("end of a segment, a sender stops", sender);
    let receiver = Plan {
        shape: BOUNDARY,
        passed: 13,
        ..RECEIVER
    };
    run("end of a segment, a receiver stops", receiver);
}

const LARGE: Shape = Shape {
    bytes: 400,
    longest_inline: 256,
    ..SMALL
};

fn puts_large(member: &Member) {
    member.put(100);
}

#[test]
fn one_stops_with_a_large_message() {
    let sender = Plan {
        shape: LARGE,
        victim: puts_large,
        victims: &[100],
        others: [puts_too, gets_two],
        ..SENDER
    };
    run("large message, a sender stops", sender);
    let receiver = Plan {
        shape: LARGE,
        present: 2,
        victim: Member::get,
        others: [Member::get, Member::scavenge],
        theirs: &[],
        ..RECEIVER
    };
    run("large message, a receiver stops", receiver);
}

#[test]
fn one_stops_with_a_parcel() {
    // Sockets are pinned to a board.
    bequeath_channel::board::ensure().unwrap();
    let shape = Shape {
        with_descriptor: true,
        ..SMALL
    };
    let sender = Plan {
        shape,
        victim: puts_large,
        victims: &[100],
        others: [puts_too, gets_two],
        ..SENDER
    };
    // The dead keep their descriptors: a process of this test has room for so many.
    explore("parcel, a sender stops", schedules(4, 10), sender);
    let receiver = Plan {
        shape,
        present: 2,
        victim: Member::get,
        others: [Member::get, Member::scavenge],
        theirs: &[],
        ..RECEIVER
    };
    explore("parcel, a receiver stops", schedules(4, 10), receiver);
}
