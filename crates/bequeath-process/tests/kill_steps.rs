//! SIGKILL at every instruction of a request to a template, of the starter and of the template: the
//! program's code runs once where the starter has a child, and never where it has none; no orphan is
//! left, and no descriptor.
//!
//! Nothing here shares memory: `BEQUEATH_FAULTS=long` kills before and behind each system call and at every
//! tenth instruction in between; else two of the five at about sixty, spread over the operation.
#![allow(clippy::unwrap_used)]

mod world;

use std::time::Duration;

use bequeath_testing::{is_long_for, KillPoints, Scenario, Watchdog};
use world::killed::{Serving, Starter, Telling};
use world::turn;

/// Where only the long form has it: each of those has to be stepped through once, which takes seconds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Both,
    Long,
}

/// Kills at each point; says at how many of them the child ran all the same.
fn kill<S: Scenario>(
    name: &str,
    form: Form,
    mut scenario: S,
    ran: fn(&S) -> usize,
) -> Option<usize> {
    if form == Form::Long && !is_long_for(name) {
        return None;
    }
    let _watchdog = Watchdog::new(Duration::from_secs(1800));
    let _turn = turn();
    let kills = KillPoints::from_environment().around_calls();
    let points = kills.run(name, &mut scenario).points;
    let ran = ran(&scenario);
    println!("{name}: {ran} were done all the same");
    assert!(ran < points);
    Some(ran)
}

fn starter(name: &str, form: Form, scenario: Starter) {
    let tied = scenario.tied;
    let done = kill(name, form, scenario, |scenario| scenario.ran);
    // (One that is tied may end before it has said anything.)
    assert!(tied || done.is_none_or(|ran| ran > 0));
}

fn template(name: &str, form: Form, scenario: Serving) {
    let done = kill(name, form, scenario, |scenario| scenario.ran);
    assert!(done.is_none_or(|ran| ran > 0));
}

#[test]
fn the_starter_is_killed_while_a_child_is_forked_for_it() {
    starter("ask for a child", Form::Long, Starter::new(false, false));
}

#[test]
fn the_starter_of_a_tied_child_is_killed() {
    starter(
        "ask for a tied child",
        Form::Both,
        Starter::new(false, true),
    );
}

#[test]
fn the_starter_is_killed_while_it_gets_a_child_that_was_kept_ahead() {
    let name = "ask for a child kept ahead";
    starter(name, Form::Long, Starter::new(true, false));
}

#[test]
fn the_template_is_killed_while_it_forks() {
    template("serve, by a fork", Form::Both, Serving::new(false));
}

#[test]
fn the_template_is_killed_while_it_gives_away_the_child_kept_ahead() {
    let name = "serve, with the child kept ahead";
    template(name, Form::Long, Serving::new(true));
}

#[test]
fn a_child_is_killed_while_it_tells_its_footprint() {
    let name = "tell the footprint";
    let told = kill(name, Form::Long, Telling::new(true), |telling| telling.told);
    assert!(told.is_none_or(|told| told > 0));
}
