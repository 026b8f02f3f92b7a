//! Objects: counts over real forks and kills.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering::*};

use bequeath_shm::{Envelope, Error, Memory, Object, Options, Reference, Room, Session};
use bequeath_testing::{wait_until, Outcome, Peer};

#[repr(C)]
struct Number(AtomicU64);

// SAFETY: one atomic.
#[allow(unsafe_code)]
unsafe impl Object for Number {
    const KIND: u32 = 2000;
}

fn session() -> Session {
    Session::create(&Options::default()).expect("a session")
}

#[test]
fn an_object_lives_as_long_as_a_handle_and_not_longer() {
    let session = session();
    let number = session
        .create_object::<Number>(|number| number.0.store(5, Relaxed))
        .unwrap();
    let reference = number.reference();
    let again = session.open::<Number>(reference).unwrap();
    assert_eq!(again.0.load(Relaxed), 5);
    drop(number);
    assert_eq!(again.0.load(Relaxed), 5);
    drop(again);
    assert!(matches!(
        session.open::<Number>(reference),
        Err(Error::Stale(_))
    ));
    let usage = session.usage().unwrap();
    assert_eq!((usage.references, usage.places), (0, 0));
    let next = session.create_object::<Number>(|_| {}).unwrap();
    assert_eq!(next.0.load(Relaxed), 0);
    assert_eq!(next.reference().offset, reference.offset);
    assert!(matches!(
        session.open::<Number>(reference),
        Err(Error::Stale(_))
    ));
}

#[test]
fn forged_references_are_refused() {
    let session = session();
    let number = session.create_object::<Number>(|_| {}).unwrap();
    let good = number.reference();
    let block = session.allocate(256).unwrap();
    for reference in [
        Reference {
            offset: 0,
            generation: 0,
        },
        Reference {
            offset: good.offset + 256,
            generation: good.generation,
        },
        Reference {
            offset: good.offset + 64,
            generation: good.generation,
        },
        Reference {
            offset: good.offset,
            generation: good.generation + 1,
        },
        Reference {
            offset: u64::MAX - 255,
            generation: 1,
        },
        Reference {
            offset: block.name().offset,
            generation: block.name().generation,
        },
    ] {
        assert!(
            matches!(
                session.open_any(reference),
                Err(Error::Stale(_) | Error::Corrupted(_))
            ),
            "{reference}"
        );
    }
    assert!(matches!(
        session.open::<Memory>(good),
        Err(Error::WrongKind { .. })
    ));
}

#[test]
fn extra_bytes_are_zero_inline_or_in_a_block_of_their_own() {
    let session = session();
    for len in [0, 8, 100, 1500, 5000, 3 << 20] {
        let memory = Memory::create(&session, len).unwrap();
        let other = session.open::<Memory>(memory.reference()).unwrap();
        assert_eq!(memory.extra().1, len);
        assert_eq!(memory.extra(), other.extra());
    }
    assert_eq!(session.usage().unwrap().places, 0);
}

#[test]
fn a_child_that_is_killed_gives_back_what_it_held() {
    let session = session();
    let number = session.create_object::<Number>(|_| {}).unwrap();
    let mine = session.usage().unwrap().references;
    let peer = Peer::spawn(|| {
        session.join_forked_child().unwrap();
        let _block = session.allocate(1 << 20).unwrap();
        let _other = session.create_object::<Number>(|_| {}).unwrap();
        number.0.store(1, Release);
        loop {
            std::thread::park();
        }
    });
    wait_until("the child holds its things", || number.0.load(Acquire) == 1);
    let held = session.usage().unwrap();
    assert_eq!(
        (held.members, held.references, held.places),
        (2, mine + 2, 3)
    );
    assert_eq!(session.scavenge(), 0);
    peer.kill();
    peer.wait_dead();
    assert_eq!(session.scavenge(), 1);
    assert_eq!(session.scavenge(), 0);
    let after = session.usage().unwrap();
    assert_eq!(
        (after.members, after.references, after.places),
        (1, mine, 1)
    );
}

#[test]
fn a_childs_references_are_counted_before_the_fork() {
    let session = session();
    let number = session.create_object::<Number>(|_| {}).unwrap();
    let reference = number.reference();
    let go = session.create_object::<Number>(|_| {}).unwrap();
    let ticket = session.before_fork().unwrap();
    let mut ticket = Some(ticket);
    let peer = {
        let ticket = &mut ticket;
        let (number, session, go) = (&number, &session, &go);
        Peer::spawn(move || {
            session.after_fork_child(ticket.take().unwrap()).unwrap();
            while go.0.load(Acquire) == 0 {
                std::thread::yield_now();
            }
            number.0.store(7, Release);
            loop {
                std::thread::park();
            }
        })
    };
    session.after_fork_parent(ticket.take().unwrap(), Some(peer.pid()));
    // The child alone holds it now.
    let address: *const Number = &*number;
    drop(number);
    go.0.store(1, Release);
    let number = session.open::<Number>(reference).unwrap();
    assert_eq!(address, &raw const *number);
    wait_until("the child writes", || number.0.load(Acquire) == 7);
    drop(number);
    session.open::<Number>(reference).unwrap();
    peer.kill();
    peer.wait_dead();
    assert_eq!(session.scavenge(), 1);
    assert!(matches!(
        session.open::<Number>(reference),
        Err(Error::Stale(_))
    ));
}

#[test]
fn a_fork_that_fails_or_a_child_that_never_claims_leaves_no_count() {
    let session = session();
    let _number = session.create_object::<Number>(|_| {}).unwrap();
    let before = session.usage().unwrap();
    let ticket = session.before_fork().unwrap();
    session.after_fork_parent(ticket, None);
    assert_eq!(session.usage().unwrap(), before);
    let ticket = session.before_fork().unwrap();
    let peer = Peer::spawn(|| {});
    session.after_fork_parent(ticket, Some(peer.pid()));
    peer.wait_dead();
    assert_eq!(session.usage().unwrap().references, before.references + 1);
    assert_eq!(session.scavenge(), 1);
    assert_eq!(session.usage().unwrap().references, before.references);
}

#[test]
fn an_envelope_carries_blocks_and_references_and_frees_them() {
    let session = session();
    let number = session
        .create_object::<Number>(|number| number.0.store(3, Relaxed))
        .unwrap();
    let before = session.usage().unwrap();
    let make = || {
        let room = Room {
            payload: 5,
            blocks: 2,
            references: 1,
        };
        let mut envelope = Envelope::new(&session, room).unwrap();
        assert!(envelope.write_payload(0, b"hello"));
        assert!(!envelope.write_payload(1, b"hello"));
        for len in [100_000, 5 << 20] {
            let mut block = session.allocate(len).unwrap();
            assert!(block.write_at(len - 1, &[8]));
            envelope.attach_block(block).unwrap();
        }
        envelope.attach_reference(&number.erase()).unwrap();
        envelope.set_tag(77);
        envelope
    };
    let mut envelope = make();
    assert_eq!(session.usage().unwrap().references, before.references + 1);
    let blocks = envelope.take_blocks().unwrap();
    assert_eq!(
        blocks.iter().map(|block| block.len()).collect::<Vec<_>>(),
        [100_000, 5 << 20]
    );
    let mut last = [0];
    assert!(blocks[1].read_at((5 << 20) - 1, &mut last));
    assert_eq!((last, envelope.tag()), ([8], 77));
    let handles = envelope.take_references().unwrap();
    assert_eq!(handles[0].downcast::<Number>().unwrap().0.load(Relaxed), 3);
    drop((blocks, handles, envelope));
    drop(make());
    let after = session.usage().unwrap();
    assert_eq!(
        (after.references, after.places),
        (before.references, before.places)
    );
}

#[test]
fn a_token_that_the_kernel_destroys_frees_the_envelope() {
    // In a process of its own: a child that another test forks meanwhile would have the token, too.
    let peer = Peer::spawn(|| {
        let session = session();
        let number = session.create_object::<Number>(|_| {}).unwrap();
        let before = session.usage().unwrap();
        let make = || {
            let mut envelope = Envelope::new(
                &session,
                Room {
                    payload: 1,
                    blocks: 0,
                    references: 1,
                },
            )
            .unwrap();
            envelope.attach_reference(&number.erase()).unwrap();
            envelope.into_kernel_token().unwrap()
        };
        let (name, token) = make();
        session.scavenge();
        let envelope = Envelope::from_kernel_token(&session, name, token).unwrap();
        drop(envelope);
        let (_, token) = make();
        session.scavenge();
        assert_eq!(session.usage().unwrap().references, before.references + 1);
        drop(token);
        session.scavenge();
        assert_eq!(session.usage().unwrap().references, before.references);
        assert_eq!(session.usage().unwrap().places, before.places);
    });
    assert!(matches!(peer.join(), Outcome::Exited(0)));
}
