//! Each deliberate mistake in the session's protocols is caught by kills: they see what they are for.
//! (`model_broken.rs` has those that the model finds.)
//!
//! Run with `--features broken-variants`.
#![cfg(not(shuttle))]
#![allow(clippy::unwrap_used, clippy::incompatible_msrv)]

mod world;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::Duration;

use bequeath_shm::broken::{self, Mistake};
use bequeath_shm::Memory;
use bequeath_testing::{Death, KillPoints, Scenario, Watchdog};
use world::at_task::AtTask;
use world::fork::InTheParent;
use world::killed::{shrinks_and_grows, Hands, Killed, Operation, NOTHING};
use world::{envelope, loses_pages, turn, World};

/// The victim, a process of its own, makes the mistake in what it does.
struct Mistaken<S>(Mistake, S);

impl<S: Scenario> Scenario for Mistaken<S> {
    fn arrange(&mut self) {
        self.1.arrange();
    }

    fn forked(&mut self, victim: u32) {
        self.1.forked(victim);
    }

    fn enter(&mut self) {
        self.1.enter();
        broken::make(Some(self.0));
    }

    fn act(&mut self) {
        self.1.act();
    }

    fn check(&mut self, death: &Death) {
        self.1.check(death);
    }
}

fn is_caught(mistake: Mistake, every: usize, scenario: impl Scenario) {
    let _watchdog = Watchdog::new(Duration::from_secs(600));
    let _turn = turn();
    let mut scenario = Mistaken(mistake, scenario);
    // A panic: caught before anybody was killed.
    let caught = catch_unwind(AssertUnwindSafe(|| {
        KillPoints::every(every).search(&format!("{mistake:?}"), &mut scenario)
    }));
    let Ok(report) = caught else { return };
    assert!(
        report.failure.is_some() || !report.traced,
        "{mistake:?} was not caught"
    );
}

fn opening() -> Operation {
    Operation {
        act: |hands: &mut Hands, world: &World| {
            let opened = hands.session().open_any(world.memory.reference());
            hands.any.push(opened.unwrap());
        },
        ..NOTHING
    }
}

#[test]
fn a_count_that_was_not_announced_is_caught_by_kills() {
    is_caught(Mistake::CountUnannounced, 5, Killed::new(opening()));
}

#[test]
fn a_block_that_moves_without_saying_whereto_is_caught_by_kills() {
    let operation = Operation {
        enter: |hands, _| hands.blocks.push(hands.session().allocate(5000).unwrap()),
        act: |hands, _| {
            let block = hands.blocks.pop().unwrap();
            hands.place().put(block, hands.place().reference());
        },
        ..NOTHING
    };
    is_caught(Mistake::MovesWithoutVia, 20, Killed::new(operation));
}

#[test]
fn a_part_that_is_not_listed_yet_is_caught_by_kills() {
    let operation = Operation {
        enter: |hands, world| {
            let opened = hands.session().open_any(world.memory.reference());
            hands.any.push(opened.unwrap());
        },
        act: |hands, _| hands.envelope = Some(envelope(hands.session(), &hands.any[0])),
        ..NOTHING
    };
    is_caught(Mistake::PartBeforeListed, 20, Killed::new(operation));
}

#[test]
fn an_extent_that_is_given_back_without_notice_is_caught_by_kills() {
    let scenario = Killed::in_a_tiny_arena(shrinks_and_grows());
    is_caught(Mistake::EmptiedWithoutIntent, 7, scenario);
}

/// Nobody has to die for this one.
#[test]
fn an_extent_that_is_emptied_without_a_second_look_is_caught() {
    let _watchdog = Watchdog::new(Duration::from_secs(600));
    let _turn = turn();
    broken::make(Some(Mistake::EmptiedUnseen));
    // A panic: what was taken was gone.
    let lost = catch_unwind(|| loses_pages(usize::MAX));
    broken::make(None);
    assert!(lost.unwrap_or(true));
}

#[test]
fn cleaning_up_after_the_living_is_caught() {
    let operation = Operation {
        enter: |hands, _| {
            hands
                .any
                .push(Memory::create(hands.session(), 5000).unwrap().erase());
        },
        act: |hands, _| {
            // It is alive, whatever the others think.
            let memory = hands.any[0].downcast::<Memory>().unwrap();
            let again = hands.session().open_any(memory.reference());
            assert!(again.is_ok());
        },
        ..NOTHING
    };
    let mut scenario = Killed::new(operation);
    scenario.wrongs = |world, member| {
        broken::make(Some(Mistake::NoDeathCheck));
        world.session.scavenge();
        broken::make(None);
        !world.session.has_member(member)
    };
    is_caught(Mistake::NoDeathCheck, 500, scenario);
}

#[test]
fn a_child_that_is_counted_for_its_parent_is_caught_by_kills() {
    // Only the last point of all is needed: there the child goes on, and its parent is gone.
    is_caught(
        Mistake::ChildCountedForParent,
        100_000,
        InTheParent::default(),
    );
}

#[test]
fn a_task_that_is_begun_afterwards_is_caught_by_kills() {
    is_caught(Mistake::BegunAfterwards, 5, AtTask::default());
}

#[test]
fn a_task_that_ends_before_its_answer_is_caught_by_kills() {
    is_caught(Mistake::EndedBeforehand, 5, AtTask::default());
}

#[test]
fn a_task_that_is_begun_before_its_time_is_said_is_caught_by_kills() {
    // (The wrong moment is an instruction or two.)
    let mut at_task = AtTask::default();
    at_task.taken = true;
    is_caught(Mistake::SinceTooLate, 1, at_task);
}
