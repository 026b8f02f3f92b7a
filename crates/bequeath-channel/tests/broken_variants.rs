//! Each deliberate mistake in the protocol is caught by killing at every instruction: the harness sees what it is for.
//!
//! Run with `--features broken-variants`.
#![allow(clippy::unwrap_used)]

mod world;

use std::time::Duration;

use bequeath_channel::broken::{self, Mistake};
use bequeath_channel::Options;
use bequeath_testing::{KillPoints, Scenario, Watchdog};
use world::scenario::{Act, Cargo, Plan, QueueScenario};
use world::waits::{self, Waits};
use world::World;

fn is_caught(mistake: Mistake, plan: Plan) {
    is_caught_by(mistake, 3, &mut QueueScenario::new(plan));
}

fn is_caught_by(mistake: Mistake, every: usize, scenario: &mut impl Scenario) {
    let _watchdog = Watchdog::new(Duration::from_secs(280));
    let _turn = World::new();
    broken::make(Some(mistake));
    let report = KillPoints::every(every).search(&format!("{mistake:?}"), scenario);
    broken::make(None);
    assert!(
        report.failure.is_some() || !report.traced,
        "{mistake:?} was not caught"
    );
}

fn warm(act: Act) -> Plan {
    Plan {
        passed: 1,
        ..Plan::new(act)
    }
}

#[test]
fn a_commit_before_the_bytes_is_caught_by_kills() {
    // Not at the place of an equal message: old bytes would pass for new ones.
    let plan = Plan {
        present: 1,
        ..warm(Act::Put)
    };
    is_caught(Mistake::CommitBeforeBytes, plan);
}

#[test]
fn an_envelope_settled_before_the_commit_is_caught_by_kills() {
    let mut options = Options::default();
    options.longest_inline = Some(256);
    is_caught(
        Mistake::SettleBeforeCommit,
        Plan {
            size: 400,
            options,
            ..warm(Act::Put)
        },
    );
}

#[test]
fn a_readiness_raised_after_the_commit_is_caught_by_kills() {
    is_caught(
        Mistake::RaiseAfterCommit,
        Plan {
            watched: true,
            ..warm(Act::Put)
        },
    );
}

#[test]
fn a_parcel_sent_under_a_number_not_consumed_is_caught_by_kills() {
    is_caught(
        Mistake::NumberNotConsumed,
        Plan {
            cargo: Cargo::Descriptor,
            ..warm(Act::Put)
        },
    );
}

#[test]
fn a_parcel_taken_out_before_the_commit_is_caught_by_kills() {
    is_caught(
        Mistake::DiscardBeforeCommit,
        Plan {
            cargo: Cargo::Descriptor,
            ..Plan::new(Act::Get)
        },
    );
}

#[test]
fn a_queue_closed_in_two_steps_is_caught_by_kills() {
    let mut scenario = Waits::new(waits::Act::Close);
    is_caught_by(Mistake::ClosedInTwoSteps, 3, &mut scenario);
}

#[test]
fn a_join_that_is_told_before_all_is_done_is_caught_by_kills() {
    let mut scenario = Waits::new(waits::Act::TaskDone);
    is_caught_by(Mistake::ToldBeforeDone, 3, &mut scenario);
}

#[test]
fn a_message_that_counts_as_work_later_is_caught_by_kills() {
    is_caught(Mistake::WorkCountedLater, warm(Act::Put));
}

#[test]
fn a_queue_watched_before_there_are_sockets_is_caught_by_kills() {
    let mut scenario = Waits::new(waits::Act::FirstReadiness);
    is_caught_by(Mistake::WatchedBeforePinned, 60, &mut scenario);
}
