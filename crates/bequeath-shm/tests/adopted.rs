//! Adopted blocks: one's own after a fork, without having been copied.

#![allow(clippy::unwrap_used)]

use bequeath_shm::{Adopted, Memory, Options, Session};
use bequeath_testing::{wait_until, Peer};
use std::sync::atomic::{AtomicU64, Ordering::*};

fn word(adopted: &Adopted, at: usize) -> u64 {
    assert!(at + 8 <= adopted.len());
    // SAFETY: inside the adopted bytes, aligned.
    #[allow(unsafe_code)]
    unsafe {
        adopted
            .as_ptr()
            .wrapping_add(at)
            .cast::<u64>()
            .read_volatile()
    }
}

fn set(adopted: &Adopted, at: usize, value: u64) {
    assert!(at + 8 <= adopted.len());
    // SAFETY: inside the adopted bytes, aligned.
    #[allow(unsafe_code)]
    unsafe {
        adopted
            .as_ptr()
            .wrapping_add(at)
            .cast::<u64>()
            .write_volatile(value);
    }
}

fn filled(session: &Session, len: usize) -> Adopted {
    let mut block = session.allocate(len).unwrap();
    assert!(block.write_at(0, &vec![3; len]));
    block.adopt()
}

const THREES: u64 = 0x0303_0303_0303_0303;

fn parts_after_a_fork(len: usize) {
    let session = Session::create(&Options::default()).unwrap();
    let board = Memory::create(&session, 64).unwrap();
    // SAFETY: eight aligned shared words.
    #[allow(unsafe_code)]
    let board = unsafe { &*board.extra().0.cast::<[AtomicU64; 8]>() };
    let before = session.usage().unwrap();
    let adopted = filled(&session, len);
    let (address, last) = (adopted.as_ptr(), len / 8 * 8 - 8);
    set(&adopted, 0, 7);
    let mut ticket = Some(session.before_fork().unwrap());
    let child = {
        let (ticket, session, adopted) = (&mut ticket, &session, &adopted);
        Peer::spawn(move || {
            session.after_fork_child(ticket.take().unwrap()).unwrap();
            let intact = word(adopted, 0) == 7 && word(adopted, last) == THREES;
            set(adopted, last, 9);
            board[0].store(1 + u64::from(intact), Release);
            while board[1].load(Acquire) == 0 {
                std::thread::yield_now();
            }
            let own = word(adopted, 0) == 7 && word(adopted, last) == 9;
            board[2].store(1 + u64::from(own), Release);
            loop {
                std::thread::park();
            }
        })
    };
    session.after_fork_parent(ticket.take().unwrap(), Some(child.pid()));
    wait_until("the child looked", || board[0].load(Acquire) != 0);
    assert_eq!(board[0].load(Acquire), 2, "the child sees what was there");
    assert_eq!(adopted.as_ptr(), address);
    assert_eq!(
        (word(&adopted, 0), word(&adopted, last)),
        (7, THREES),
        "the child's write is its own"
    );
    set(&adopted, 0, 8);
    // Given up here, the block is still the child's: it must not be used for others.
    drop(adopted);
    let others: Vec<_> = (0..4).map(|_| filled(&session, len)).collect();
    board[1].store(1, Release);
    wait_until("the child looked again", || board[2].load(Acquire) != 0);
    assert_eq!(board[2].load(Acquire), 2, "the parent's write is its own");
    child.kill();
    child.wait_dead();
    session.scavenge();
    drop(others);
    let after = session.usage().unwrap();
    assert_eq!(
        (after.places, after.references),
        (before.places, before.references)
    );
}

#[test]
fn pages_of_a_slot_part_at_the_first_write_after_a_fork() {
    parts_after_a_fork(200_000);
    parts_after_a_fork(64 << 10);
}

#[test]
fn a_small_block_is_copied_out_and_parts_too() {
    parts_after_a_fork(100);
    parts_after_a_fork(20_000);
}

#[test]
fn a_run_parts_at_the_first_write_after_a_fork() {
    parts_after_a_fork(9 << 20);
}

#[test]
fn the_place_of_an_adopted_block_serves_others_afterwards() {
    let session = Session::create(&Options::default()).unwrap();
    for len in [200_000, 5 << 20] {
        let adopted = filled(&session, len);
        let first = adopted.as_ptr();
        let ticket = session.before_fork().unwrap();
        session.after_fork_parent(ticket, None);
        set(&adopted, 8, 1);
        drop(adopted);
        // The same place, seen through a second membership: what is written is in the file.
        let fd = session.descriptor().unwrap().try_clone_to_owned().unwrap();
        let other = Session::attach(fd).unwrap();
        let mut block = session.allocate(len).unwrap();
        assert!(block.write_at(8, b"common!!"));
        let memory = Memory::create(&session, 1).unwrap();
        let name = block.name();
        let outgoing = block.prepare(memory.reference());
        outgoing.settle_queued();
        let seen = bequeath_shm::Block::claim(&other, name, memory.reference())
            .unwrap()
            .accept();
        let mut bytes = [0; 8];
        assert!(seen.read_at(8, &mut bytes));
        assert_eq!(&bytes, b"common!!", "at {first:?}");
    }
}
