//! SIGKILL at every instruction of a request to a template, of the starter and of the template: the
//! program's code runs once where the starter has a child, and never where it has none; no orphan is
//! left, and no descriptor.
//!
//! Nothing here shares memory: `BEQUEATH_FAULTS=long` kills before and behind each system call and at every
//! tenth instruction in between; else two of the five at about sixty, spread over the operation.
#![allow(clippy::unwrap_used)]

mod world;

use std::time::Duration;

use bequeath_testing::{KillPoints, Watchdog};
use world::killed::{Serving, Starter};
use world::turn;

fn starter(name: &str, mut scenario: Starter) {
    let _watchdog = Watchdog::new(Duration::from_secs(1800));
    let _turn = turn();
    let report = KillPoints::from_environment()
        .around_calls()
        .run(name, &mut scenario);
    println!("{name}: {} children ran", scenario.ran);
    // (One that is tied may end before it has said anything.)
    assert!(scenario.ran < report.points && (scenario.ran > 0 || scenario.tied));
}

fn template(name: &str, mut scenario: Serving) {
    let _watchdog = Watchdog::new(Duration::from_secs(1800));
    let _turn = turn();
    let report = KillPoints::from_environment()
        .around_calls()
        .run(name, &mut scenario);
    println!("{name}: {} children ran", scenario.ran);
    assert!(scenario.ran > 0 && scenario.ran < report.points);
}

/// Some scenarios are for the long form alone: each has to be stepped through once, which takes seconds.
fn long(name: &str) -> bool {
    let long = std::env::var("BEQUEATH_FAULTS").is_ok_and(|it| it == "full" || it == "long");
    if !long {
        println!("{name}: in the long form, `make faults`");
    }
    long
}

#[test]
fn the_starter_is_killed_while_a_child_is_forked_for_it() {
    if !long("ask for a child") {
        return;
    }
    starter("ask for a child", Starter::new(false, false));
}

#[test]
fn the_starter_of_a_tied_child_is_killed() {
    starter("ask for a tied child", Starter::new(false, true));
}

#[test]
fn the_starter_is_killed_while_it_gets_a_child_that_was_kept_ahead() {
    if !long("ask for a child kept ahead") {
        return;
    }
    starter("ask for a child kept ahead", Starter::new(true, false));
}

#[test]
fn the_template_is_killed_while_it_forks() {
    template("serve, by a fork", Serving::new(false));
}

#[test]
fn the_template_is_killed_while_it_gives_away_the_child_kept_ahead() {
    if !long("serve, with the child kept ahead") {
        return;
    }
    template("serve, with the child kept ahead", Serving::new(true));
}
