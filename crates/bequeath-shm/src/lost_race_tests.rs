//! Whoever loses a block to somebody else at the last moment keeps nothing of it: not the mapping, and
//! not the session, which would then live as long as the process.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::Arc;

use crate::block::{Block, BlockName};
use crate::reference::Reference;
use crate::{words, Memory, Options, Session};

const TRIES: usize = 100_000;

/// Takes a place away and gives it back, again and again, while `attempt` is made many times.
fn while_taken_away(session: &Session, name: BlockName, word: u64, attempt: &dyn Fn()) {
    let done = AtomicBool::new(false);
    let elsewhere = words::queued(Reference {
        offset: name.offset,
        generation: 7,
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let owner = &session.space().place(name.offset).unwrap().slot.owner;
            while !done.load(Relaxed) {
                let _ = owner.compare_exchange(word, elsewhere, AcqRel, Relaxed);
                let _ = owner.compare_exchange(elsewhere, word, AcqRel, Relaxed);
            }
            let _ = owner.compare_exchange(elsewhere, word, AcqRel, Relaxed);
        });
        for _ in 0..TRIES {
            attempt();
        }
        done.store(true, Relaxed);
    });
}

#[test]
fn a_claim_that_comes_too_late_leaves_no_trace() {
    let session = Session::create(&Options::default()).unwrap();
    let memory = session.create_sized::<Memory>(10, |_| ()).unwrap();
    let via = memory.reference();
    for len in [100, 3 << 20] {
        let outgoing = session.allocate(len).unwrap().prepare(via);
        let name = outgoing.name();
        outgoing.settle_queued();
        let before = Arc::strong_count(&session.0);
        // A claim that is dropped puts the block back.
        while_taken_away(&session, name, words::queued(via), &|| {
            drop(Block::claim(&session, name, via));
        });
        assert_eq!(Arc::strong_count(&session.0), before);
        drop(Block::claim(&session, name, via).unwrap().accept());
    }
}

#[test]
fn a_part_that_is_taken_too_late_leaves_no_trace() {
    let session = Session::create(&Options::default()).unwrap();
    let envelope = session.allocate(100).unwrap().name();
    for len in [100, 3 << 20] {
        let block = session.allocate(len).unwrap();
        let name = block.name();
        assert!(block.become_part(envelope));
        let before = Arc::strong_count(&session.0);
        while_taken_away(&session, name, words::part(envelope), &|| {
            if let Ok(block) = Block::from_part(&session, name, envelope) {
                assert!(block.become_part(envelope));
            }
        });
        assert_eq!(Arc::strong_count(&session.0), before);
        drop(Block::from_part(&session, name, envelope).unwrap());
    }
}
