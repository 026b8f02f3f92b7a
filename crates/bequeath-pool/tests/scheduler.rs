//! What the scheduler does, one promise per test.

mod world;

use bequeath_pool::{Escalation, Event, OnDeath, Policy};
use world::World;

const POLICY: Policy = Policy {
    workers: 2,
    max_tasks: None,
    on_demand: false,
    on_death: OnDeath::Fail,
    escalation: Escalation {
        terminate_after: 100,
        kill_after: 100,
    },
};

fn ready(policy: Policy) -> World {
    let mut world = World::new(policy);
    for worker in 0..world.workers.len() as u32 {
        world.step(worker);
    }
    world
}

#[test]
fn tasks_are_spread_before_they_are_stacked() {
    let mut world = ready(POLICY);
    world.submit(2, None);
    assert_eq!(world.workers[&0].queue, [0]);
    assert_eq!(world.workers[&1].queue, [1]);
}

#[test]
fn what_a_worker_cannot_be_sent_goes_to_another_or_waits_for_it() {
    let mut world = ready(POLICY);
    world.workers.get_mut(&0).expect("it is there").unreachable = true;
    world.submit(1, None);
    assert_eq!(world.workers[&1].queue, [0]);
    world.workers.get_mut(&1).expect("it is there").unreachable = true;
    world.submit(2, None);
    assert_eq!(world.scheduler.waiting(), 2);
    let at = world.scheduler.next_deadline().expect("it tries again");
    for fake in world.workers.values_mut() {
        fake.unreachable = false;
    }
    world.tick(at - world.now);
    assert_eq!(world.workers[&0].queue, [1, 2]);
}

#[test]
fn nobody_waits_behind_a_long_task_while_another_is_idle() {
    let mut world = ready(POLICY);
    world.submit(4, None); // two each
    world.step(0); // begins the first
    for _ in 0..6 {
        world.step(1);
    }
    assert_eq!(world.workers[&0].in_hand, Some(0));
    assert!(world.workers[&0].queue.is_empty());
    assert_eq!(world.settled.len(), 3);
}

#[test]
fn short_tasks_are_handed_out_ahead_and_long_ones_are_not() {
    let mut world = ready(POLICY);
    world.submit(1000, None);
    for _ in 0..20 {
        world.step(0);
    }
    assert!(world.workers[&0].queue.len() > 50);
    world.now += 1_000_000_000;
    let task = world.workers[&0].queue[0];
    world.step(0);
    let took = 100_000_000;
    world.workers.get_mut(&0).expect("it is there").in_hand = None;
    let worker = 0;
    world.tell(Event::Answered { worker, task, took });
    let before = world.workers[&1].queue.len();
    world.step(1);
    world.step(1);
    assert!(world.workers[&1].queue.len() <= before);
}

#[test]
fn a_death_costs_the_task_in_hand_and_the_worker_is_replaced() {
    let mut world = ready(POLICY);
    world.submit(4, None);
    world.step(0);
    world.end(0);
    assert_eq!(world.settled.keys().copied().collect::<Vec<_>>(), [0]);
    assert!(world.workers.contains_key(&2));
    world.finish();
    assert_eq!(world.settled.len(), 4);
}

#[test]
fn a_death_of_one_that_had_begun_nothing_costs_nothing() {
    let mut world = ready(POLICY);
    world.submit(4, None);
    world.end(0);
    assert!(world.settled.is_empty());
    world.finish();
    assert!(world.settled.values().all(|how| how == "delivered"));
}

#[test]
fn under_break_the_death_of_an_idle_worker_ends_all_too() {
    let on_death = OnDeath::Break;
    let mut world = ready(Policy { on_death, ..POLICY });
    world.end(1);
    assert!(world.broke);
    world.submit(1, None);
    assert!(world.settled[&0].starts_with("Broken"));
}

#[test]
fn under_break_so_does_the_death_of_one_that_is_not_ready() {
    let on_death = OnDeath::Break;
    let mut world = World::new(Policy { on_death, ..POLICY });
    world.submit(1, None);
    world.end(world.nth(0).expect("one is started"));
    assert!(world.broke);
    assert!(world.settled[&0].starts_with("Broken"));
}

#[test]
fn waiting_is_not_counted_as_running() {
    let mut world = ready(Policy {
        workers: 1,
        ..POLICY
    });
    world.submit(2, Some(50));
    world.step(0);
    world.tick(30);
    world.step(0); // the first is answered
    world.tick(45); // the second has been waiting for longer than it may run
    assert!(world.settled.values().all(|how| how == "delivered"));
    world.step(0);
    world.tick(60);
    world.tick(60);
    assert!(world.settled[&1].starts_with("TimedOut"));
}

#[test]
fn workers_end_after_their_tasks_and_are_replaced() {
    let max_tasks = Some(2);
    let mut world = World::new(Policy {
        workers: 1,
        max_tasks,
        ..POLICY
    });
    world.submit(5, None);
    world.finish();
    assert_eq!(world.settled.len(), 5);
    assert!(world.settled.values().all(|how| how == "delivered"));
}

#[test]
fn workers_that_never_get_ready_break_the_pool() {
    let mut world = World::new(POLICY);
    world.submit(1, None);
    for _ in 0..100 {
        if let Some(worker) = world.nth(0).filter(|_| !world.broke) {
            world.end(worker);
        }
    }
    assert!(world.broke && world.settled[&0].contains("NeverReady"));
}

#[test]
fn on_demand_nobody_is_started_for_nothing() {
    let on_demand = true;
    let mut world = World::new(Policy {
        on_demand,
        ..POLICY
    });
    assert!(world.workers.is_empty());
    world.submit(1, None);
    assert_eq!(world.workers.len(), 1);
    for _ in 0..3 {
        world.step(0);
    }
    world.submit(1, None);
    assert_eq!(world.workers.len(), 1, "the idle one is there");
    world.submit(5, None);
    assert_eq!(world.workers.len(), 2);
}

#[test]
fn what_is_cancelled_does_not_run_unless_it_has_begun() {
    let mut world = ready(POLICY);
    world.submit(6, None);
    world.step(0);
    world.cancel(0, false);
    assert!(world.settled.is_empty(), "it runs");
    world.cancel(1, false);
    world.cancel(5, false);
    world.cancel(0, true);
    let settled: Vec<_> = world.settled.keys().copied().collect();
    assert_eq!(settled, [0, 1, 5]);
    assert!(world.seen.contains("interrupt"));
    world.finish();
    assert_eq!(world.begun.len(), 4);
}

/// It has ended one task, which nobody has heard yet, and is late at the next: giving up the first calls off nothing.
#[test]
fn an_interrupt_is_not_taken_from_the_task_that_needs_it() {
    let mut world = ready(Policy {
        workers: 1,
        ..POLICY
    });
    world.is_slow = true;
    world.submit(1, None);
    world.submit(1, Some(1));
    for _ in 0..3 {
        world.step(0); // begins the first, answers, begins the second
    }
    world.workers.get_mut(&0).unwrap().unreachable = true;
    world.tick(5);
    world.tick(5);
    world.cancel(0, true);
    assert_eq!(world.workers[&0].in_hand, Some(1));
    assert_eq!(world.workers[&0].asked, Some(1));
    world.hear();
    world.check_nothing_is_done_for_nothing();
}

#[test]
fn what_a_worker_came_to_while_it_was_being_stopped_is_stopped_too() {
    let mut world = ready(Policy {
        workers: 1,
        ..POLICY
    });
    world.is_slow = true;
    world.submit(2, None);
    world.step(0);
    world.cancel(0, true); // follows at once and begins the next, and nobody has heard of it
    world.cancel(1, true);
    assert_eq!(world.workers[&0].in_hand, Some(1));
    world.hear();
    world.check_nothing_is_done_for_nothing();
    world.finish();
    assert_eq!(world.settled.len(), 2);
}
