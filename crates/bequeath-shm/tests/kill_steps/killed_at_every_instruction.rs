//! The operations, one by one.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::Duration;

use crate::world::at_task::AtTask;
use crate::world::definition;
use crate::world::killed::{fill, shrinks_and_grows, Hands, Killed, Operation, NOTHING, SMALLER};
use crate::world::{envelope, turn, Place, World};
use bequeath_shm::{BlockName, Envelope, Memory, Reference, Session};
use bequeath_testing::{is_long_for, KillPoints, Peer, Watchdog};

fn run(name: &str, operation: Operation) {
    let _watchdog = Watchdog::new(Duration::from_secs(900));
    let _turn = turn();
    KillPoints::from_environment().run(name, &mut Killed::new(operation));
}

#[test]
fn joining() {
    let _watchdog = Watchdog::new(Duration::from_secs(900));
    let _turn = turn();
    let mut scenario = Killed::new(Operation {
        act: |hands, _| hands.session = Session::attach(hands.descriptor.take().unwrap()).ok(),
        ..NOTHING
    });
    scenario.joins = false;
    KillPoints::from_environment().run("joining", &mut scenario);
}

#[test]
fn making_an_object() {
    let act = |hands: &mut Hands, _: &World| {
        hands.any.push(
            hands
                .session()
                .create_object(|_: &Place| {})
                .unwrap()
                .erase(),
        );
    };
    run("making an object", Operation { act, ..NOTHING });
}

#[test]
fn making_an_object_with_bytes_in_a_block() {
    let act = |hands: &mut Hands, _: &World| {
        hands
            .any
            .push(Memory::create(hands.session(), 5000).unwrap().erase());
    };
    run(
        "making an object with a block",
        Operation { act, ..NOTHING },
    );
}

#[test]
fn opening_an_object() {
    let act = |hands: &mut Hands, world: &World| {
        hands
            .any
            .push(hands.session().open_any(world.memory.reference()).unwrap());
    };
    run("opening an object", Operation { act, ..NOTHING });
}

#[test]
fn dropping_a_reference() {
    let enter = |hands: &mut Hands, world: &World| {
        hands
            .any
            .push(hands.session().open_any(world.memory.reference()).unwrap());
    };
    run(
        "dropping a reference",
        Operation {
            enter,
            act: |hands, _| hands.any.clear(),
            ..NOTHING
        },
    );
}

#[test]
fn dropping_the_last_reference() {
    let enter = |hands: &mut Hands, _: &World| {
        hands
            .any
            .push(Memory::create(hands.session(), 5000).unwrap().erase());
    };
    run(
        "dropping the last reference",
        Operation {
            enter,
            act: |hands, _| hands.any.clear(),
            ..NOTHING
        },
    );
}

#[test]
fn dropping_the_last_reference_to_what_holds_an_envelope() {
    let enter = |hands: &mut Hands, world: &World| {
        let session = hands.session().clone();
        let handle = session.open_any(world.memory.reference()).unwrap();
        let holder = session.create_object(|_: &Place| {}).unwrap();
        holder.put_envelope(envelope(&session, &handle), holder.reference());
        hands.any.push(holder.erase());
    };
    run(
        "destroying what holds an envelope",
        Operation {
            enter,
            act: |hands, _| hands.any.clear(),
            ..NOTHING
        },
    );
}

#[test]
fn taking_a_small_block() {
    let act =
        |hands: &mut Hands, _: &World| hands.blocks.push(hands.session().allocate(100).unwrap());
    run("taking a small block", Operation { act, ..NOTHING });
}

#[test]
fn taking_a_block_of_pages() {
    let act =
        |hands: &mut Hands, _: &World| hands.blocks.push(hands.session().allocate(20_000).unwrap());
    run("taking a block of pages", Operation { act, ..NOTHING });
}

#[test]
fn taking_a_run() {
    let act = |hands: &mut Hands, _: &World| {
        hands
            .blocks
            .push(hands.session().allocate(9 << 20).unwrap())
    };
    run("taking a run", Operation { act, ..NOTHING });
}

#[test]
fn freeing_a_block() {
    let enter = |hands: &mut Hands, _: &World| {
        for len in [100, 20_000, 9 << 20] {
            hands.blocks.push(hands.session().allocate(len).unwrap());
        }
    };
    run(
        "freeing blocks",
        Operation {
            enter,
            act: |hands, _| hands.blocks.clear(),
            ..NOTHING
        },
    );
}

#[test]
fn freeing_a_block_beyond_the_warm_share() {
    let enter = |hands: &mut Hands, _: &World| {
        hands.session().set_limit(1 << 20);
        hands
            .blocks
            .push(hands.session().allocate(100_000).unwrap());
    };
    run(
        "freeing a block for good",
        Operation {
            enter,
            act: |hands, _| hands.blocks.clear(),
            ..NOTHING
        },
    );
}

/// Lengths of blocks that are slots within a page, slots of pages, and a run.
const LENGTHS: [usize; 3] = [100, 20_000, 9 << 20];

fn giving_back(name: &str, len: usize) {
    let enter: fn(&mut Hands, &World) = match LENGTHS.iter().position(|known| *known == len) {
        Some(0) => |hands, _| drop(hands.session().allocate(LENGTHS[0]).unwrap()),
        Some(1) => |hands, _| drop(hands.session().allocate(LENGTHS[1]).unwrap()),
        _ => |hands, _| drop(hands.session().allocate(LENGTHS[2]).unwrap()),
    };
    let act = |hands: &mut Hands, _: &World| {
        hands.session().trim().unwrap();
    };
    let operation = Operation {
        enter,
        act,
        ..NOTHING
    };
    run(name, operation);
}

#[test]
fn giving_back_an_extent_of_small_slots() {
    giving_back("giving back an extent of small slots", LENGTHS[0]);
}

#[test]
fn giving_back_an_extent_of_slots() {
    giving_back("giving back an extent of slots", LENGTHS[1]);
}

#[test]
fn giving_back_a_run() {
    giving_back("giving back a run", LENGTHS[2]);
}

#[test]
fn taking_a_block_in_an_extent_that_another_size_had() {
    let enter = |hands: &mut Hands, _: &World| {
        for len in LENGTHS {
            drop(hands.session().allocate(len).unwrap());
        }
        hands.session().trim().unwrap();
    };
    let act = |hands: &mut Hands, _: &World| {
        hands.blocks.push(hands.session().allocate(300).unwrap());
    };
    let operation = Operation {
        enter,
        act,
        ..NOTHING
    };
    run("taking from an extent that was given back", operation);
}

fn in_a_tiny_arena(name: &str, operation: Operation) {
    let _watchdog = Watchdog::new(Duration::from_secs(900));
    let _turn = turn();
    KillPoints::from_environment().run(name, &mut Killed::in_a_tiny_arena(operation));
}

#[test]
fn growing_until_a_tiny_arena_is_full() {
    let enter = |hands: &mut Hands, _: &World| {
        hands.blocks = fill(hands.session(), SMALLER);
        drop(hands.blocks.pop());
    };
    let act = |hands: &mut Hands, _: &World| {
        hands
            .blocks
            .push(hands.session().allocate(SMALLER).unwrap());
    };
    let operation = Operation {
        enter,
        act,
        ..NOTHING
    };
    in_a_tiny_arena("taking the last place of an arena", operation);
}

#[test]
fn shrinking_and_growing_in_a_tiny_arena() {
    let name = "giving back and growing in a tiny arena";
    if !is_long_for(name) {
        return;
    }
    in_a_tiny_arena(name, shrinks_and_grows());
}

#[test]
fn moving_a_block_in() {
    let enter = |hands: &mut Hands, _: &World| {
        hands.blocks.push(hands.session().allocate(5000).unwrap());
    };
    let act = |hands: &mut Hands, _: &World| {
        let block = hands.blocks.pop().unwrap();
        hands.place().put(block, hands.place().reference());
    };
    run(
        "moving a block in",
        Operation {
            enter,
            act,
            ..NOTHING
        },
    );
}

fn one_block_in(world: &World) {
    world.place.put(
        world.session.allocate(5000).unwrap(),
        world.place.reference(),
    );
}

#[test]
fn moving_a_block_out() {
    let act = |hands: &mut Hands, _: &World| {
        let block = hands
            .place()
            .take(hands.session(), hands.place().reference());
        hands.blocks.extend(block);
    };
    run(
        "moving a block out",
        Operation {
            arrange: one_block_in,
            act,
            ..NOTHING
        },
    );
}

#[test]
fn a_block_taken_out_in_the_wrong_order_is_found_leaked() {
    let _watchdog = Watchdog::new(Duration::from_secs(900));
    let _turn = turn();
    let act = |hands: &mut Hands, _: &World| {
        let block = hands
            .place()
            .take_wrongly(hands.session(), hands.place().reference());
        hands.blocks.extend(block);
    };
    let mut scenario = Killed::new(Operation {
        arrange: one_block_in,
        act,
        ..NOTHING
    });
    let report = KillPoints::every(2).search("the wrong order", &mut scenario);
    assert!(report
        .failure
        .is_some_and(|text| text.contains("leaked or lost")));
}

#[test]
fn making_and_sending_an_envelope() {
    let enter = |hands: &mut Hands, world: &World| {
        hands
            .any
            .push(hands.session().open_any(world.memory.reference()).unwrap());
    };
    let act = |hands: &mut Hands, _: &World| {
        let envelope = envelope(hands.session(), &hands.any[0]);
        hands
            .place()
            .put_envelope(envelope, hands.place().reference());
    };
    run(
        "making and sending an envelope",
        Operation {
            enter,
            act,
            ..NOTHING
        },
    );
}

#[test]
fn receiving_an_envelope() {
    let arrange = |world: &World| {
        let envelope = envelope(&world.session, &world.memory.erase());
        world.place.put_envelope(envelope, world.place.reference());
    };
    let act = |hands: &mut Hands, _: &World| {
        let place = hands.place().clone();
        let mut envelope = place
            .take_envelope(hands.session(), place.reference())
            .unwrap();
        hands.blocks = envelope.take_blocks().unwrap();
        hands.any = envelope.take_references().unwrap();
    };
    run(
        "receiving an envelope",
        Operation {
            arrange,
            act,
            ..NOTHING
        },
    );
}

fn on_a_definition(name: &str, operation: Operation) {
    let _watchdog = Watchdog::new(Duration::from_secs(900));
    let _turn = turn();
    let mut scenario = Killed::new(operation);
    scenario.looks = definition::can_be_read;
    KillPoints::from_environment().run(name, &mut scenario);
}

#[test]
fn sending_a_definition_that_many_messages_name() {
    on_a_definition("making and sending a definition", definition::sent(true));
}

#[test]
fn receiving_a_definition_that_its_message_holds() {
    on_a_definition("receiving a definition", definition::received());
}

#[test]
fn reading_a_definition_that_its_sender_holds() {
    on_a_definition("reading a definition by name", definition::read_by_name());
}

#[test]
fn a_definition_that_its_message_does_not_hold_is_found_gone() {
    let _watchdog = Watchdog::new(Duration::from_secs(900));
    let _turn = turn();
    let mut scenario = Killed::new(definition::sent(false));
    scenario.looks = definition::can_be_read;
    // (Found already when nobody has been killed yet.)
    let found = catch_unwind(AssertUnwindSafe(|| {
        KillPoints::every(20).search("a definition uncounted", &mut scenario)
    }));
    assert!(found.is_err() || found.is_ok_and(|report| report.failure.is_some()));
}

#[test]
fn at_a_task() {
    let _watchdog = Watchdog::new(Duration::from_secs(900));
    let _turn = turn();
    let mut scenario = AtTask::default();
    KillPoints::from_environment().run("a worker at a task", &mut scenario);
}

#[test]
fn an_envelope_through_the_kernel() {
    let enter = |hands: &mut Hands, world: &World| {
        hands
            .any
            .push(hands.session().open_any(world.memory.reference()).unwrap());
        hands.envelope = Some(envelope(hands.session(), &hands.any[0]));
    };
    let act = |hands: &mut Hands, _: &World| {
        let envelope = hands.envelope.take().unwrap();
        let (name, token) = envelope.into_kernel_token().unwrap();
        hands.envelope = Envelope::from_kernel_token(hands.session(), name, token).ok();
    };
    run(
        "an envelope through the kernel",
        Operation {
            enter,
            act,
            ..NOTHING
        },
    );
}

#[test]
fn preparing_a_fork_that_does_not_happen() {
    let enter = |hands: &mut Hands, world: &World| {
        hands
            .any
            .push(hands.session().open_any(world.memory.reference()).unwrap());
        let block = hands.session().allocate(bequeath_shm::IN_PLACE).unwrap();
        hands.adopted.push(block.adopt());
    };
    let act = |hands: &mut Hands, _: &World| {
        let session = hands.session().clone();
        let ticket = session.before_fork().unwrap();
        session.after_fork_parent(ticket, None);
        hands.adopted.clear();
    };
    let _watchdog = Watchdog::new(Duration::from_secs(900));
    let _turn = turn();
    let mut scenario = Killed::new(Operation {
        enter,
        act,
        ..NOTHING
    });
    let report = KillPoints::from_environment().run("a fork that does not happen", &mut scenario);
    assert!(
        scenario.undecided * 20 < report.points,
        "{} undecided",
        scenario.undecided
    );
}

#[test]
fn cleaning_up_after_another() {
    let arrange = |world: &World| {
        let peer = Peer::spawn(|| {
            let fd = world
                .session
                .descriptor()
                .unwrap()
                .try_clone_to_owned()
                .unwrap();
            let session = Session::attach(fd).unwrap();
            let handle = session.open_any(world.memory.reference()).unwrap();
            let own = Memory::create(&session, 5000).unwrap();
            let mut things = (
                envelope(&session, &handle),
                session.allocate(20_000).unwrap(),
                own,
                handle,
            );
            things.1.set_len(1);
            std::process::abort();
        });
        peer.wait_dead();
    };
    let act = |hands: &mut Hands, _: &World| {
        hands.session().scavenge();
    };
    run(
        "cleaning up after another",
        Operation {
            arrange,
            act,
            ..NOTHING
        },
    );
}

/// A number that nobody changes, to see that a stale word is not read as one.
#[test]
fn a_name_is_never_zero() {
    let counter = AtomicU64::new(0);
    assert!(BlockName::from_bits(counter.load(Relaxed)).is_none());
    assert!(Reference::from_bits(counter.load(Relaxed)).is_none());
}
