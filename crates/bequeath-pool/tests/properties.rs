//! Random pools and random events: the books must balance, whatever happens in whatever order.

mod world;

use std::collections::BTreeSet;

use bequeath_pool::{Escalation, Event, OnDeath, Policy};
use proptest::prelude::*;
use world::World;

#[derive(Clone, Debug)]
enum Happens {
    Submit(u64, Option<u64>),
    Step(usize),
    Die(usize),
    Cancel(u64, bool),
    Tick(u64),
    Stopped(usize, bool),
    InitializerFails(usize),
    StartFails(usize),
    Hear(usize),
    Unreadable,
    Close,
    Terminate,
    Kill,
}

fn policy() -> impl Strategy<Value = Policy> {
    let on_death = prop_oneof![
        3 => Just(OnDeath::Fail),
        2 => (0..3_u32).prop_map(OnDeath::Retry),
        1 => Just(OnDeath::Break),
    ];
    let max_tasks = proptest::option::of(1..6_u64);
    (1..5_usize, max_tasks, any::<bool>(), on_death).prop_map(
        |(workers, max_tasks, on_demand, on_death)| Policy {
            workers,
            max_tasks,
            on_demand,
            on_death,
            escalation: Escalation {
                terminate_after: 100,
                kill_after: 100,
            },
        },
    )
}

fn happens(mild: bool) -> BoxedStrategy<Happens> {
    let everyday = prop_oneof![
        6 => (1..20_u64, proptest::option::of(1..200_u64)).prop_map(|(n, t)| Happens::Submit(n, t)),
        60 => any::<usize>().prop_map(Happens::Step),
        20 => (1..4_usize).prop_map(Happens::Hear),
        5 => any::<usize>().prop_map(Happens::Die),
        5 => (any::<u64>(), any::<bool>()).prop_map(|(task, running)| Happens::Cancel(task, running)),
        10 => (0..300_u64).prop_map(Happens::Tick),
        2 => Just(Happens::Tick(30_000_000)),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(n, stopped)| Happens::Stopped(n, stopped)),
    ];
    if mild {
        return everyday.boxed();
    }
    let rare = prop_oneof![
        any::<usize>().prop_map(Happens::InitializerFails),
        any::<usize>().prop_map(Happens::StartFails),
        Just(Happens::Unreadable),
        Just(Happens::Close),
        Just(Happens::Terminate),
        Just(Happens::Kill),
    ];
    prop_oneof![114 => everyday, 6 => rare].boxed()
}

fn play(world: &mut World, events: Vec<Happens>) {
    for event in events {
        match event {
            Happens::Submit(count, timeout) => world.submit(count, timeout),
            Happens::Step(n) => {
                if let Some(worker) = world.nth(n) {
                    world.step(worker);
                    world.leave_if_done(worker);
                }
            }
            Happens::Die(n) => {
                if let Some(worker) = world.nth(n) {
                    world.end(worker);
                }
            }
            Happens::Cancel(task, running) => {
                if world.submitted > 0 {
                    world.cancel(task % world.submitted, running);
                }
            }
            Happens::Tick(passed) => world.tick(passed),
            Happens::Stopped(n, stopped) => {
                if let Some(fake) = world.nth(n).and_then(|id| world.workers.get_mut(&id)) {
                    fake.unreachable = stopped;
                }
            }
            Happens::InitializerFails(n) => {
                if let Some(worker) = world.nth(n).filter(|id| !world.workers[id].ready) {
                    world.tell(Event::InitializerFailed(worker));
                }
            }
            Happens::StartFails(n) => {
                if let Some(worker) = world.nth(n).filter(|id| !world.workers[id].ready) {
                    world.workers.remove(&worker);
                    world.tell(Event::StartFailed(worker));
                }
            }
            Happens::Hear(count) => (0..count).for_each(|_| world.hear()),
            Happens::Unreadable => world.tell(Event::Unreadable),
            Happens::Close => world.tell(Event::Closed),
            Happens::Terminate => world.tell(Event::Terminated),
            Happens::Kill => world.tell(Event::Killed),
        }
        world.check_nothing_is_done_for_nothing();
    }
}

fn check(world: &World) {
    for task in 0..world.submitted {
        assert!(world.settled.contains_key(&task), "task {task} was lost");
    }
    assert_eq!(world.settled.len() as u64, world.submitted);
    let most = match world.policy.on_death {
        OnDeath::Retry(most) => most + 1,
        _ => 1,
    };
    for (task, times) in &world.begun {
        assert!(*times <= most, "task {task} was run {times} times");
    }
    assert_eq!(world.scheduler.waiting(), 0);
    assert_eq!(world.scheduler.workers().count(), 0);
    assert_eq!(world.scheduler.next_deadline(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn each_task_is_settled_once(policy in policy(), is_slow in any::<bool>(), events in prop::collection::vec(happens(false), 0..200)) {
        let mut world = World::new(policy);
        world.is_slow = is_slow;
        play(&mut world, events);
        world.finish();
        check(&world);
    }

    #[test]
    fn only_tasks_in_hand_die(workers in 1..5_usize, events in prop::collection::vec(happens(true), 0..200)) {
        let escalation = Escalation { terminate_after: 100, kill_after: 100 };
        let policy = Policy { workers, max_tasks: None, on_demand: false, on_death: OnDeath::Fail, escalation };
        let mut world = World::new(policy);
        world.is_slow = true;
        play(&mut world, events);
        world.finish();
        check(&world);
        for (task, how) in &world.settled {
            if how.starts_with("Died") {
                prop_assert_eq!(world.begun.get(task), Some(&1));
            }
            prop_assert!(!how.starts_with("Broken") || world.broke);
        }
    }
}

/// The tests above would be worth little if they led nowhere.
#[test]
fn random_events_reach_every_state() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..150 {
        let policy = policy().new_tree(&mut runner).expect("a policy").current();
        let events = prop::collection::vec(happens(false), 200);
        let events = events.new_tree(&mut runner).expect("events").current();
        let mut world = World::new(policy);
        world.is_slow = true;
        play(&mut world, events);
        world.finish();
        seen.extend(world.seen);
    }
    let mut wanted: BTreeSet<String> = [
        "start",
        "assign",
        "recall",
        "retire",
        "interrupt",
        "terminate",
        "kill",
        "deliver",
        "died",
        "timed out",
        "cancelled",
        "stopped",
        "broken",
        "terminated",
        "broke",
        "tried again",
        "not reached",
    ]
    .map(String::from)
    .into();
    for state in [
        "starting",
        "idle",
        "at a task",
        "interrupted",
        "terminated",
        "told to end",
    ] {
        wanted.insert(format!("a worker died {state}"));
    }
    for state in [
        "waiting",
        "handed out",
        "begun",
        "waiting again after a death",
    ] {
        wanted.insert(format!("given up {state}"));
    }
    for state in ["waiting", "handed out", "begun"] {
        wanted.insert(format!("broken {state}"));
        wanted.insert(format!("terminated {state}"));
    }
    let never: Vec<_> = wanted.difference(&seen).collect();
    assert!(never.is_empty(), "never {never:?}: {seen:?}");
}
