//! What many messages name and one object holds, as a function that travels once: killed while it is made and sent,
//! or while it is received. A message that is there can always be read, and nothing is left of the others.

use std::hint::black_box;

use bequeath_shm::{AnyHandle, Envelope, Handle, Memory, Reference, Room, Session};

use super::killed::{Hands, Operation, NOTHING};
use super::World;

/// Above one page.
const BYTES: usize = 5000;

fn content() -> Vec<u8> {
    vec![0xab; BYTES]
}

fn room() -> Room {
    Room {
        payload: 8,
        blocks: 0,
        references: 1,
    }
}

/// Made, written, and named by a message that counts it, or only names it.
fn message(session: &Session, counted: bool) -> Envelope {
    let definition = Memory::create(session, BYTES).unwrap();
    definition.write(&content());
    let mut envelope = Envelope::new(session, room()).unwrap();
    let name = definition.reference().to_bits().to_ne_bytes();
    assert!(envelope.write_payload(0, &name));
    if counted {
        envelope.attach_reference(&definition.erase()).unwrap();
    }
    envelope
}

/// The definition that a message names.
fn named(session: &Session, envelope: &Envelope) -> Handle<Memory> {
    let mut name = [0; 8];
    assert!(envelope.read_payload(0, &mut name));
    let name = Reference::from_bits(u64::from_ne_bytes(name)).unwrap();
    let opened = session.open_any(name);
    let definition = opened.expect("a message names what is gone");
    definition.downcast().unwrap()
}

/// What is in the place can be read whole.
pub fn can_be_read(world: &World) {
    let session = &world.session;
    let place = &world.place;
    if let Some(envelope) = place.take_envelope(session, place.reference()) {
        assert_eq!(named(session, &envelope).read(), content(), "not whole");
    }
}

pub fn sent(counted: bool) -> Operation {
    let act: fn(&mut Hands, &World) = if counted {
        |hands, _| {
            let envelope = message(hands.session(), true);
            let place = hands.place();
            place.put_envelope(envelope, place.reference());
        }
    } else {
        |hands, _| {
            let envelope = message(hands.session(), false);
            let place = hands.place();
            place.put_envelope(envelope, place.reference());
        }
    };
    Operation { act, ..NOTHING }
}

/// Received with the message's count, which is given back once it has been read.
pub fn received() -> Operation {
    Operation {
        arrange: |world| {
            let envelope = message(&world.session, true);
            world.place.put_envelope(envelope, world.place.reference());
        },
        act: |hands, _| {
            let (session, place) = (hands.session(), hands.place());
            let mut envelope = place.take_envelope(session, place.reference()).unwrap();
            let counted: Vec<AnyHandle> = envelope.take_references().unwrap();
            let definition = named(session, &envelope);
            drop((black_box(definition.read()), definition, envelope, counted));
        },
        ..NOTHING
    }
}

/// Its sender holds it, and messages only name it: received and read.
pub fn read_by_name() -> Operation {
    Operation {
        act: |hands, world| {
            let session = hands.session();
            let opened = session.open_any(world.memory.reference()).unwrap();
            let definition: Handle<Memory> = opened.downcast().unwrap();
            black_box(definition.read());
        },
        ..NOTHING
    }
}
