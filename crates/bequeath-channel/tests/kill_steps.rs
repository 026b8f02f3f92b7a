//! SIGKILL at every instruction of each operation; then nothing may be lost, torn, doubled, leaked or stuck.
//!
//! `BEQUEATH_FAULTS=long` kills at each instruction; else at about sixty, spread over the operation.
#![allow(clippy::unwrap_used)]

mod world;

use std::time::Duration;

use bequeath_channel::Options;
use bequeath_testing::{KillPoints, Watchdog};
use world::scenario::{Act, Cargo, Plan, QueueScenario, Sleeper};
use world::World;

fn run(name: &str, plan: Plan) {
    let _watchdog = Watchdog::new(Duration::from_secs(900));
    let _turn = World::new();
    KillPoints::from_environment().run(name, &mut QueueScenario::new(plan));
}

fn bounded(capacity: u64) -> Options {
    let mut options = Options::default();
    options.capacity = Some(capacity);
    options
}

/// Large payloads begin at a few hundred bytes, so that few instructions lead there.
fn soon_large() -> Options {
    let mut options = Options::default();
    options.longest_inline = Some(256);
    options
}

mod killed_at_every_instruction {
    use super::*;

    #[test]
    fn put() {
        let plan = Plan {
            passed: 1,
            ..Plan::new(Act::Put)
        };
        run("put", plan);
    }

    #[test]
    fn the_first_put_of_all() {
        run("first put", Plan::new(Act::Put));
    }

    #[test]
    fn get() {
        run("get", Plan::new(Act::Get));
    }

    #[test]
    fn put_to_a_sleeping_receiver() {
        run(
            "put to a sleeper",
            Plan {
                sleeper: Sleeper::Receiver,
                ..Plan::new(Act::Put)
            },
        );
    }

    #[test]
    fn get_that_wakes_a_sleeping_sender() {
        let plan = Plan {
            sleeper: Sleeper::Sender,
            options: bounded(3),
            ..Plan::new(Act::Get)
        };
        run("get by which a sleeper wakes", plan);
    }

    #[test]
    fn get_by_a_sleeper() {
        let plan = Plan {
            sleeper: Sleeper::Victim,
            present: 0,
            options: bounded(3),
            ..Plan::new(Act::Get)
        };
        run("get by a sleeper", plan);
    }

    #[test]
    fn put_by_a_sleeper() {
        let plan = Plan {
            sleeper: Sleeper::Victim,
            present: 3,
            options: bounded(3),
            ..Plan::new(Act::Put)
        };
        run("put by a sleeper", plan);
    }

    /// 3980 + 16 rounds to 4000: sixteen records fill a segment.
    const SEGMENT_FULL: u64 = 16;

    #[test]
    fn put_that_needs_a_further_segment() {
        let plan = Plan {
            size: 3980,
            present: SEGMENT_FULL,
            ..Plan::new(Act::Put)
        };
        run("put at a segment's end", plan);
    }

    #[test]
    fn put_that_takes_the_spare_segment() {
        let plan = Plan {
            size: 3980,
            passed: 2 * SEGMENT_FULL,
            present: SEGMENT_FULL,
            ..Plan::new(Act::Put)
        };
        run("put into the spare segment", plan);
    }

    #[test]
    fn get_that_drains_a_segment() {
        let plan = Plan {
            size: 3980,
            passed: SEGMENT_FULL,
            present: 3,
            ..Plan::new(Act::Get)
        };
        run("get at a segment's end", plan);
    }

    #[test]
    fn get_that_gives_a_segment_back() {
        let plan = Plan {
            size: 3980,
            passed: 2 * SEGMENT_FULL,
            present: 3,
            ..Plan::new(Act::Get)
        };
        run("get that frees a segment", plan);
    }

    #[test]
    fn put_of_a_large_payload() {
        run(
            "put, large",
            Plan {
                size: 400,
                options: soon_large(),
                ..Plan::new(Act::Put)
            },
        );
    }

    #[test]
    fn get_of_a_large_payload() {
        run(
            "get, large",
            Plan {
                size: 400,
                options: soon_large(),
                ..Plan::new(Act::Get)
            },
        );
    }

    #[test]
    fn put_with_a_handle_inside() {
        run(
            "put, handle inside",
            Plan {
                cargo: Cargo::Reference,
                ..Plan::new(Act::Put)
            },
        );
    }

    #[test]
    fn get_with_a_handle_inside() {
        run(
            "get, handle inside",
            Plan {
                cargo: Cargo::Reference,
                ..Plan::new(Act::Get)
            },
        );
    }

    #[test]
    fn put_with_a_block() {
        run(
            "put, block",
            Plan {
                cargo: Cargo::Block,
                ..Plan::new(Act::Put)
            },
        );
    }

    #[test]
    fn get_with_a_block() {
        run(
            "get, block",
            Plan {
                cargo: Cargo::Block,
                ..Plan::new(Act::Get)
            },
        );
    }

    #[test]
    fn put_with_a_descriptor() {
        run(
            "put, descriptor",
            Plan {
                cargo: Cargo::Descriptor,
                ..Plan::new(Act::Put)
            },
        );
    }

    #[test]
    fn get_with_a_descriptor() {
        run(
            "get, descriptor",
            Plan {
                cargo: Cargo::Descriptor,
                ..Plan::new(Act::Get)
            },
        );
    }

    #[test]
    fn put_that_raises_the_readiness_descriptor() {
        run(
            "put, watched",
            Plan {
                watched: true,
                ..Plan::new(Act::Put)
            },
        );
    }

    #[test]
    fn get_that_lowers_the_readiness_descriptor() {
        run(
            "get, watched",
            Plan {
                watched: true,
                present: 1,
                ..Plan::new(Act::Get)
            },
        );
    }
}
