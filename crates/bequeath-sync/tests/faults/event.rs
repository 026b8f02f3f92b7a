//! Event: set or not set, and everybody told or nobody.

use bequeath_sync::{Event, Never};
use bequeath_testing::Death;

use crate::play::{Play, Stage, NEVER};

fn wait(event: &Event) {
    event.wait(NEVER, &mut Never).unwrap();
}

/// Whatever happened, it can be set, cleared, and waited for.
fn works(stage: &mut Stage<Event>) {
    stage.world.set();
    stage.everybody_ends_well();
    stage.world.clear();
    assert!(!stage.world.is_set());
    stage.sleeper(wait);
    stage.world.set();
    stage.everybody_ends_well();
}

pub fn set_with_waiters() -> Play<Event> {
    Play::new("Event: set with two waiters", Event::set, |stage, death| {
        assert!(!death.completed || stage.world.is_set());
        if !stage.world.is_set() {
            stage.everybody_sleeps();
        }
        works(stage);
    })
    .set_up(|stage| {
        stage.sleeper(wait);
        stage.sleeper(wait);
    })
}

#[test]
fn a_killed_setter_leaves_an_event_that_can_be_set() {
    set_with_waiters().run();
}

#[test]
fn an_event_without_waiters_is_set_or_not_when_its_setter_is_killed() {
    Play::new("Event: set", Event::set, |stage, death: &Death| {
        assert!(!death.completed || stage.world.is_set());
        works(stage);
    })
    .run();
}

#[test]
fn an_event_is_clear_or_not_when_its_clearer_is_killed() {
    Play::new("Event: clear", Event::clear, |stage, death: &Death| {
        assert!(!death.completed || !stage.world.is_set());
        works(stage);
    })
    .set_up(|stage| stage.world.set())
    .run();
}

#[test]
fn a_killed_waiter_for_an_event_hurts_nobody() {
    Play::new("Event: wait", wait, |stage, _| works(stage))
        .woken_by(|stage| stage.world.set())
        .run();
}
