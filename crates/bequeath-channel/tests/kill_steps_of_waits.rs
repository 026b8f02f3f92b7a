//! SIGKILL at every instruction of what a queue has beside put and get: closing it, reporting work done,
//! waiting for all of it, and asking for its descriptor for the first time; with others waiting meanwhile.
//!
//! `BEQUEATH_FAULTS=long` kills at each instruction; else at about sixty, spread over the operation.
#![allow(clippy::unwrap_used)]

mod world;

use std::time::Duration;

use bequeath_testing::{KillPoints, Watchdog};
use world::waits::{Act, Waits};
use world::World;

fn run(name: &str, act: Act) {
    let _watchdog = Watchdog::new(Duration::from_secs(900));
    let _turn = World::new();
    KillPoints::from_environment().run(name, &mut Waits::new(act));
}

mod killed_at_every_instruction {
    use super::*;

    #[test]
    fn close_with_a_receiver_and_a_sender_waiting() {
        run("close", Act::Close);
    }

    #[test]
    fn task_done_that_ends_a_join() {
        run("task_done", Act::TaskDone);
    }

    #[test]
    fn join() {
        run("join", Act::Join);
    }

    #[test]
    fn the_first_to_ask_for_the_descriptor() {
        run("first readiness, pinned to the board", Act::FirstReadiness);
    }
}
