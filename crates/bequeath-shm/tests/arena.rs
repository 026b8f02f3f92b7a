//! The arena: limits of the process, lost descriptors, growth from many processes at once.

#![allow(clippy::unwrap_used)]

mod world;

use std::os::fd::AsRawFd;

use bequeath_shm::{parse_limit, Block, Error, Memory, Options, Session};
use bequeath_testing::{Leftovers, Outcome, Peer};

fn small(size: u64) -> Session {
    let mut options = Options::default();
    options.size = Some(size);
    Session::create(&options).unwrap()
}

#[test]
fn blocks_keep_their_pages_while_extents_are_given_back() {
    assert!(!world::loses_pages(20_000));
}

#[test]
fn a_session_leaves_no_descriptor() {
    // In a process of its own: other tests' sessions come and go in this one.
    let peer = Peer::spawn(|| {
        let leftovers = Leftovers::snapshot();
        let session = Session::create(&Options::default()).unwrap();
        let block = session.allocate(9 << 20).unwrap();
        let memory = Memory::create(&session, 100_000).unwrap();
        drop((block, memory, session));
        leftovers.check();
    });
    assert!(matches!(peer.join(), Outcome::Exited(0)));
}

#[test]
fn an_arena_that_is_too_small_is_an_error() {
    let mut options = Options::default();
    options.size = Some(100_000);
    assert!(matches!(
        Session::create(&options).map(drop),
        Err(Error::FileSizeLimit { .. })
    ));
}

#[test]
fn a_full_arena_is_an_error_and_frees_again() {
    let session = small(64 << 20);
    session.set_limit(1 << 40);
    let mut blocks: Vec<Block> = Vec::new();
    let error = loop {
        match session.allocate(4 << 20) {
            Ok(block) => blocks.push(block),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::ArenaFull { .. }), "{error}");
    assert!(blocks.len() >= 12);
    blocks.clear();
    let again: Vec<_> = (0..12)
        .map(|_| session.allocate(4 << 20).unwrap())
        .collect();
    drop(again);
    assert!(matches!(
        session.allocate(usize::MAX).map(drop),
        Err(Error::TooLarge { .. } | Error::Budget { .. })
    ));
}

#[test]
fn a_descriptor_that_was_closed_or_replaced_is_not_used() {
    // In a process of its own: closing numbers disturbs other tests.
    let peer = Peer::spawn(|| {
        let session = Session::create(&Options::default()).unwrap();
        let memory = Memory::create(&session, 8).unwrap();
        let number = session.descriptor().unwrap().as_raw_fd();
        // SAFETY: this is the misuse under test; nothing of this process relies on the number.
        #[allow(unsafe_code)]
        unsafe {
            bequeath_os::raw::close(number).unwrap();
        }
        let foreign = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(foreign.as_raw_fd(), number);
        assert!(matches!(
            session.descriptor(),
            Err(Error::DescriptorLost { .. })
        ));
        assert!(matches!(
            session.allocate(9 << 20).map(drop),
            Err(Error::DescriptorLost { .. })
        ));
        // What is mapped still serves.
        assert_eq!(memory.extra().1, 8);
        drop(session.open::<Memory>(memory.reference()).unwrap());
        drop((memory, session));
        // And the foreign file is still open.
        assert!(foreign.metadata().is_ok());
    });
    assert!(matches!(peer.join(), Outcome::Exited(0)));
}

#[test]
fn processes_that_allocate_at_once_get_different_blocks() {
    let session = Session::create(&Options::default()).unwrap();
    let work = |seed: u64| {
        let session =
            Session::attach(session.descriptor().unwrap().try_clone_to_owned().unwrap()).unwrap();
        let mut held: Vec<(Block, u8)> = Vec::new();
        let mut random = seed;
        for round in 0..3000_u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let len = [60, 700, 3000, 9000, 70_000, 300_000][(random >> 40) as usize % 6];
            let mut block = session.allocate(len).unwrap();
            let mark = (seed * 31 + round) as u8;
            assert!(block.write_at(0, &[mark; 60]));
            held.push((block, mark));
            if held.len() > 30 {
                let (block, mark) = held.swap_remove((random >> 20) as usize % 30);
                let mut bytes = [0; 60];
                assert!(block.read_at(0, &mut bytes));
                assert!(
                    bytes.iter().all(|byte| *byte == mark),
                    "somebody else wrote here"
                );
            }
        }
    };
    let peers: Vec<_> = (1..4).map(|seed| Peer::spawn(|| work(seed))).collect();
    for peer in peers {
        assert!(matches!(peer.join(), Outcome::Exited(0)));
    }
    session.scavenge();
    assert_eq!(session.usage().unwrap().places, 0);
}

/// Blocks of one size fill a small arena, then blocks of another.
#[test]
fn extents_serve_another_size_once_they_are_empty() {
    for size in [300_000, 1_000_000, 1 << 20, 16 << 20, 64 << 20] {
        let session = small(size);
        session.set_limit(1 << 40);
        let mut fits = Vec::new();
        for round in 0..2 {
            for (at, len) in [100, 3000, 60_000, 16_000, 200_000, 250]
                .into_iter()
                .enumerate()
            {
                let mut blocks: Vec<Block> = Vec::new();
                while let Ok(block) = session.allocate(len) {
                    blocks.push(block);
                }
                let bytes = blocks.iter().map(Block::capacity).sum::<usize>() as u64;
                assert!(bytes * 3 > size, "{size}, {len}: only {bytes} bytes");
                match round {
                    0 => fits.push(bytes),
                    _ => assert!(bytes >= fits[at], "{size}, {len}: {bytes} and {}", fits[at]),
                }
            }
        }
        session.trim().unwrap();
        let usage = session.usage().unwrap();
        assert_eq!((usage.places, usage.warm), (0, 0));
        assert!(usage.used < 400_000, "{usage:?}");
    }
}

/// Extents are given back and used for other sizes while others take from them and give to them.
#[test]
fn extents_change_hands_while_processes_allocate() {
    let session = small(2 << 20);
    session.set_limit(1 << 40);
    let work = |seed: u64| {
        let session =
            Session::attach(session.descriptor().unwrap().try_clone_to_owned().unwrap()).unwrap();
        let mut held: Vec<(Block, u8)> = Vec::new();
        let mut random = seed;
        for round in 0..6000_u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // Each size for a while, in all processes at different times.
            let len = [60, 700, 9000, 40_000, 2500, 300][(round / 50 + seed) as usize % 6];
            let mark = (seed * 31 + round) as u8;
            if let Ok(mut block) = session.allocate(len) {
                assert!(block.write_at(0, &[mark; 60]) && block.write_at(len - 1, &[mark]));
                held.push((block, mark));
            }
            let most = if round % 50 < 25 { 12 } else { 2 };
            while held.len() > most {
                let at = (random >> 20) as usize % held.len();
                let (block, mark) = held.swap_remove(at);
                let mut bytes = [0; 61];
                assert!(block.read_at(0, &mut bytes[..60]));
                assert!(block.read_at(block.len() - 1, &mut bytes[60..]));
                assert!(
                    bytes.iter().all(|byte| *byte == mark),
                    "somebody else wrote here"
                );
            }
            if random >> 60 == 0 {
                session.trim().unwrap();
            }
        }
    };
    let peers: Vec<_> = (1..4).map(|seed| Peer::spawn(|| work(seed))).collect();
    for peer in peers {
        assert!(matches!(peer.join(), Outcome::Exited(0)));
    }
    session.scavenge();
    session.trim().unwrap();
    let usage = session.usage().unwrap();
    assert_eq!((usage.places, usage.warm), (0, 0));
    assert!(usage.used < 400_000, "{usage:?}");
}

#[test]
fn many_objects_made_and_dropped_need_no_more_memory_each_time() {
    let session = Session::create(&Options::default()).unwrap();
    let mut used = 0;
    for round in 0..4 {
        let objects: Vec<_> = (0..30_000)
            .map(|_| Memory::create(&session, 8).unwrap())
            .collect();
        assert_eq!(session.usage().unwrap().references, 30_000);
        drop(objects);
        let usage = session.usage().unwrap();
        assert_eq!((usage.references, usage.places), (0, 0));
        if round > 0 {
            assert_eq!(usage.used, used, "round {round}");
        }
        used = usage.used;
    }
}

#[test]
fn limits_are_read_with_their_units() {
    for (text, value) in [
        ("1500000", 1_500_000),
        ("512M", 512 << 20),
        (" 2 GiB ", 2 << 30),
        ("7k", 7 << 10),
        ("1T", 1 << 40),
    ] {
        assert_eq!(parse_limit(text), Some(value), "{text}");
    }
    for text in [
        "",
        "M",
        "-1",
        "1.5G",
        "2X",
        "99999999999999999999",
        "999999999999T",
    ] {
        assert_eq!(parse_limit(text), None, "{text}");
    }
}
