//! Particular lies in the arena, each of which once was believed.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering::Relaxed;

use crate::members::Standing;
use crate::words::{self, Use, UseWord};
use crate::{Error, Memory, Options, Session};

const SIZE: u64 = 1 << 40;

fn session() -> Session {
    let size = Some(SIZE);
    Session::create(&Options {
        size,
        ..Options::default()
    })
    .unwrap()
}

/// A run of a few extents that says it reaches far beyond all pages that there are.
fn stretch(session: &Session, offset: u64) {
    let geometry = session.space().geometry;
    let index = geometry.index_of(offset);
    let extent = session.space().extent(index).unwrap();
    let whole = Use::Run(geometry.extents - index);
    let word = UseWord(extent.shape.load(Relaxed)).with(whole);
    extent.shape.store(word.0, Relaxed);
    extent.run.backed.store(u32::MAX, Relaxed);
    extent.run.length.store(1 << 34, Relaxed);
}

#[test]
fn an_object_whose_bytes_claim_more_than_all_pages_is_refused() {
    let session = session();
    let memory = session.create_sized::<Memory>(6 << 20, |_| ()).unwrap();
    let reference = memory.reference();
    let header = session.space().object_header(reference.offset).unwrap();
    let name = crate::BlockName::from_bits(header.extra.load(Relaxed)).unwrap();
    stretch(&session, name.offset);
    header.extra_length.store(1 << 34, Relaxed);
    // As another member, who has not mapped it yet.
    let other =
        Session::attach(session.descriptor().unwrap().try_clone_to_owned().unwrap()).unwrap();
    assert!(matches!(
        other.open::<Memory>(reference),
        Err(Error::Corrupted(_))
    ));
}

/// Whoever finds its own entry spoilt took its own places for a dead member's: an unknown kind of
/// object was then taken apart for ever.
#[test]
fn a_member_whose_entry_is_spoilt_is_not_dead_to_itself() {
    let session = session();
    let memory = session.create_sized::<Memory>(10, |_| ()).unwrap();
    let me = session.me().unwrap();
    let generation = u64::from(me.generation) + 1;
    let entry = session.space().member(me.index).unwrap();
    entry.state.store(generation << 32, Relaxed);
    assert!(!session.is_gone(me));
    let seen = session.space().see(me.index).unwrap();
    assert_eq!(seen.standing, Standing::Free);
    // The object becomes one of a kind that nobody knows, and dies.
    let reference = memory.reference();
    let header = session.space().object_header(reference.offset).unwrap();
    let mut guard = header.cell.lock();
    let [count, last, identity] = guard.state();
    guard.stage([count, last, identity & !0xffff | 0x7777]);
    guard.commit();
    drop(memory);
    session.scavenge();
    let place = session.space().place(reference.offset).unwrap();
    assert_eq!(place.slot.owner.load(Relaxed), words::owned(me));
}

/// What the header calls the first unused extent was believed, even where the tables are.
#[test]
fn no_extent_of_the_tables_is_given_away() {
    let session = session();
    let header = session.space().header();
    header.fresh.store(0, Relaxed);
    let first = session.space().geometry.first;
    for len in [100, 5000, 70_000, 300_000] {
        let block = session.allocate(len).unwrap();
        assert!(session.space().geometry.index_of(block.name().offset) >= first);
    }
}
