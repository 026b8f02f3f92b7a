//! Blocks: reuse, growth and return of memory.

#![allow(clippy::unwrap_used)]

use bequeath_shm::{Error, Options, Session};

fn session() -> Session {
    Session::create(&Options::default()).expect("a session")
}

#[test]
fn a_block_keeps_what_was_written_and_its_place_is_used_again() {
    let session = session();
    let mut block = session.allocate(10_000).unwrap();
    assert!(block.write_at(9_990, &[7; 10]));
    assert!(!block.write_at(block.capacity() - 3, &[1; 4]));
    let mut back = [0; 10];
    assert!(block.read_at(9_990, &mut back));
    assert_eq!(back, [7; 10]);
    let name = block.name();
    drop(block);
    let again = session.allocate(10_000).unwrap();
    assert_eq!(again.name().offset, name.offset);
    assert_ne!(again.name().generation, name.generation);
}

#[test]
fn blocks_of_all_sizes_do_not_overlap() {
    let session = session();
    let mut blocks = Vec::new();
    for len in [
        1,
        255,
        256,
        257,
        1000,
        5000,
        70_000,
        300_000,
        1_100_000,
        5 << 20,
        13 << 20,
    ] {
        for number in 0..5_u8 {
            let mut block = session.allocate(len).unwrap();
            assert!(block.write_at(0, &vec![number + 1; len]));
            blocks.push((block, number + 1, len));
        }
    }
    for (block, number, len) in &blocks {
        let mut bytes = vec![0; *len];
        assert!(block.read_at(0, &mut bytes));
        assert!(
            bytes.iter().all(|byte| byte == number),
            "block of {len} bytes"
        );
    }
}

#[test]
fn freed_blocks_beyond_the_warm_share_give_their_pages_back() {
    let session = session();
    session.set_limit(1 << 30);
    let blocks: Vec<_> = (0..2000)
        .map(|_| session.allocate(65_536).unwrap())
        .collect();
    let full = session.usage().unwrap();
    assert!(full.used >= 2000 * 65_536);
    drop(blocks);
    let drained = session.usage().unwrap();
    assert!(drained.used <= (64 << 20) + (8 << 20), "{drained:?}");
    assert!(drained.warm > 0);
    assert_eq!(drained.places, 0);
}

#[test]
fn large_blocks_reuse_pages_and_are_given_back_beyond_the_cap() {
    let session = session();
    session.set_limit(256 << 20);
    let block = session.allocate(32 << 20).unwrap();
    let first = block.name().offset;
    drop(block);
    let used = session.usage().unwrap().used;
    let block = session.allocate(31 << 20).unwrap();
    assert_eq!(block.name().offset, first);
    assert_eq!(session.usage().unwrap().used, used);
    drop(block);
    let blocks: Vec<_> = (0..4)
        .map(|_| session.allocate(32 << 20).unwrap())
        .collect();
    drop(blocks);
    assert!(session.usage().unwrap().used < (64 << 20) + (4 << 20));
}

#[test]
fn an_allocation_beyond_the_budget_names_bytes_and_limit_and_changes_nothing() {
    let session = session();
    session.set_limit(8 << 20);
    let before = session.usage().unwrap();
    match session.allocate(64 << 20).map(drop) {
        Err(Error::Budget { needed, limit, .. }) => {
            assert_eq!(needed, 64 << 20);
            assert_eq!(limit, 8 << 20);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(session.usage().unwrap().places, before.places);
    session.allocate(1 << 20).unwrap();
}

#[test]
fn warm_pages_are_given_up_before_an_allocation_is_refused() {
    let session = session();
    session.set_limit(64 << 20);
    drop(session.allocate(12 << 20).unwrap());
    assert!(session.usage().unwrap().warm > 0);
    session.allocate(56 << 20).unwrap();
}

#[test]
fn zeroed_blocks_are_zero_also_on_used_pages() {
    let session = session();
    for len in [100, 5000, 100_000, 6 << 20] {
        let mut block = session.allocate(len).unwrap();
        assert!(block.write_at(0, &vec![9; len]));
        drop(block);
        let block = session.allocate_zeroed(len).unwrap();
        let mut bytes = vec![1; len];
        assert!(block.read_at(0, &mut bytes));
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
}
