//! Each deliberate mistake of templates is caught by killing at every instruction: the harness sees what it is for.
//!
//! Run with `--features broken-variants`.
#![allow(clippy::unwrap_used)]

mod world;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::Duration;

use bequeath_process::broken::{self, Mistake};
use bequeath_testing::{KillPoints, Scenario, Watchdog};
use world::killed::{Serving, Starter, Telling};
use world::turn;

fn is_caught(mistake: Mistake, scenario: &mut impl Scenario) {
    let _watchdog = Watchdog::new(Duration::from_secs(600));
    let _turn = turn();
    broken::make(Some(mistake));
    let name = format!("{mistake:?}");
    // A panic: caught before anybody was killed inside the operation.
    let caught = catch_unwind(AssertUnwindSafe(|| {
        KillPoints::every(5).search(&name, scenario)
    }));
    broken::make(None);
    let Ok(report) = caught else { return };
    assert!(
        report.failure.is_some() || !report.traced,
        "{mistake:?} was not caught"
    );
}

#[test]
fn a_child_that_goes_ahead_unasked_is_caught_by_kills() {
    is_caught(Mistake::GoesAheadUnasked, &mut Serving::new(false));
}

#[test]
fn a_child_kept_ahead_that_goes_ahead_unasked_is_caught_by_kills() {
    is_caught(Mistake::GoesAheadUnasked, &mut Serving::new(true));
}

#[test]
fn a_line_that_the_template_keeps_is_caught_by_kills() {
    is_caught(Mistake::LineKept, &mut Starter::new(false, false));
}

#[test]
fn a_teller_whose_end_is_not_noted_is_caught_by_kills() {
    let _watchdog = Watchdog::new(Duration::from_secs(600));
    let _turn = turn();
    let report = KillPoints::every(5).search("an end not noted", &mut Telling::new(false));
    assert!(report.failure.is_some() || !report.traced);
}
