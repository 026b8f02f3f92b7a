//! Registry, blocks, envelopes and scavenger under shuttle: `make long` runs these with `RUSTFLAGS="--cfg shuttle"`.
//!
//! Threads play processes: each joins the session by itself, maps the arena for itself and has its own identity. One of them, the
//! victim, stops for ever after its first store, after its second and so on, while the others go on at the same time.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used)]

mod world;

use bequeath_shm::Memory;
use world::model::{explore, scavenge, tiny, Member, Plan, PLAN};
use world::{envelope, Place};

#[test]
fn an_object_is_made_and_given_back() {
    let act = |member: &Member| {
        let object = member.session.create_object(|_: &Place| {}).unwrap();
        let again = member.session.open_any(object.reference()).unwrap();
        drop((object, again));
    };
    explore(
        "making and dropping objects",
        Plan {
            victim: act,
            others: [act, scavenge],
            ..PLAN
        },
    );
}

#[test]
fn references_to_one_object_come_and_go() {
    let act = |member: &Member| drop((member.memory(), member.place()));
    explore(
        "counting references",
        Plan {
            victim: act,
            others: [act, act],
            ..PLAN
        },
    );
}

#[test]
fn an_object_with_bytes_in_a_block() {
    let act = |member: &Member| drop(Memory::create(&member.session, 5000).unwrap());
    explore(
        "objects with a block",
        Plan {
            victim: act,
            others: [act, scavenge],
            ..PLAN
        },
    );
}

#[test]
fn blocks_move_in_and_out() {
    let put = |member: &Member| {
        let place = member.place();
        if place.cell.lock().state() == [0] {
            let block = member.session.allocate(5000).unwrap();
            place.put_if_empty(block, place.reference());
        }
    };
    let take = |member: &Member| {
        let place = member.place();
        drop(place.take(&member.session, place.reference()));
    };
    explore(
        "blocks, the sender stops",
        Plan {
            victim: put,
            others: [take, scavenge],
            ..PLAN
        },
    );
    explore(
        "blocks, the receiver stops",
        Plan {
            arrange: |world| {
                let block = world.session.allocate(5000).unwrap();
                world.place.put(block, world.place.reference());
            },
            victim: take,
            others: [take, scavenge],
            ..PLAN
        },
    );
}

#[test]
fn envelopes_move_in_and_out() {
    let put = |member: &Member| {
        let place = member.place();
        place.put_envelope(
            envelope(&member.session, &member.memory()),
            place.reference(),
        );
    };
    let take = |member: &Member| {
        let place = member.place();
        if let Some(mut envelope) = place.take_envelope(&member.session, place.reference()) {
            let blocks = envelope.take_blocks().unwrap();
            let references = envelope.take_references().unwrap();
            assert_eq!((blocks.len(), references.len()), (2, 2));
        }
    };
    explore(
        "envelopes, the sender stops",
        Plan {
            victim: put,
            others: [take, scavenge],
            ..PLAN
        },
    );
    explore(
        "envelopes, the receiver stops",
        Plan {
            arrange: |world| {
                let envelope = envelope(&world.session, &world.memory.erase());
                world.place.put_envelope(envelope, world.place.reference());
            },
            victim: take,
            others: [take, scavenge],
            ..PLAN
        },
    );
}

#[test]
fn runs_are_laid_out() {
    let act = |member: &Member| drop(member.session.allocate(5 << 20).unwrap());
    explore(
        "runs",
        Plan {
            victim: act,
            others: [act, scavenge],
            ..PLAN
        },
    );
}

#[test]
fn extents_of_a_tiny_arena_are_given_back_and_serve_another_size() {
    explore("extents of a tiny arena", tiny());
}

#[test]
fn scavengers_clean_up_at_once_and_one_of_them_stops() {
    let dead = |member: &Member| {
        let memory = member.memory();
        let object = Memory::create(&member.session, 5000).unwrap();
        let holder = member.session.create_object(|_: &Place| {}).unwrap();
        holder.put_envelope(envelope(&member.session, &memory), holder.reference());
        let block = member
            .session
            .allocate(5000)
            .unwrap()
            .prepare(member.world.place.reference());
        std::mem::forget((memory, object, holder, block));
    };
    explore(
        "scavengers",
        Plan {
            dead: Some(dead),
            victim: scavenge,
            others: [scavenge, scavenge],
            ..PLAN
        },
    );
}
