//! Joining: what is refused, and that it is refused with an error.

#![allow(clippy::unwrap_used)]

use std::os::fd::{AsFd, OwnedFd};

use bequeath_os::{memfd, Mapping};
use bequeath_shm::{Error, Options, Session};

fn arena() -> (Session, OwnedFd) {
    let mut options = Options::default();
    options.size = Some(64 << 20);
    let session = Session::create(&options).unwrap();
    let fd = session.descriptor().unwrap().try_clone_to_owned().unwrap();
    (session, fd)
}

/// Writes one word of the header, as a program gone mad would.
fn spoil(fd: &OwnedFd, word: usize, value: u64) {
    let mapping = Mapping::shared(fd, 0, 4096).unwrap();
    // SAFETY: within the mapped page; atomics are not needed, nobody else runs.
    #[allow(unsafe_code)]
    unsafe {
        mapping
            .as_ptr()
            .cast::<u64>()
            .wrapping_add(word)
            .write(value);
    }
}

fn refusal(fd: &OwnedFd) -> Error {
    Session::attach(fd.try_clone().unwrap())
        .err()
        .expect("refused")
}

#[test]
fn another_member_joins_by_descriptor() {
    let (session, fd) = arena();
    let other = Session::attach(fd).unwrap();
    assert_eq!(other.id(), session.id());
    assert_eq!(session.usage().unwrap().members, 2);
    other.set_limit(5 << 20);
    assert_eq!(session.limit(), 5 << 20);
    drop(other);
    assert_eq!(session.usage().unwrap().members, 1);
}

#[test]
fn what_is_no_arena_is_refused() {
    let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    assert!(matches!(refusal(&file), Error::NotASession(_)));
    let unsealed = memfd::create(c"x", 64 << 20).unwrap();
    assert!(matches!(refusal(&unsealed), Error::NotASession(_)));
    memfd::seal(unsealed.as_fd()).unwrap();
    assert!(matches!(refusal(&unsealed), Error::NotASession(_)));
    let small = memfd::create(c"x", 4096).unwrap();
    memfd::seal(small.as_fd()).unwrap();
    assert!(matches!(refusal(&small), Error::NotASession(_)));
}

#[test]
fn a_spoilt_header_is_refused() {
    // Magic, version, size, namespaces, user, first unused extent: by their words.
    for (word, kind) in [
        (0, "not a"),
        (1, "not a"),
        (4, "corrupted"),
        (5, "join"),
        (6, "join"),
        (7, "join"),
        (14, "corrupted"),
    ] {
        let (_session, fd) = arena();
        spoil(&fd, word, 0x55);
        let text = refusal(&fd).to_string();
        assert!(text.contains(kind), "word {word}: {text}");
    }
}

#[test]
fn any_garbage_behind_the_header_is_survived() {
    // Every word of the header's pages and of the tables behind it in turn: deaths, waits, members, the
    // directory of extents, the entries of the first two extents' slots (as in an arena of 64 MiB).
    let mut seed = 1_u64;
    let pages: Vec<u64> = vec![
        0,
        4096,
        8192,
        16 << 10,
        20 << 10,
        80 << 10,
        592 << 10,
        2688 << 10,
        (2688 + 128) << 10,
    ];
    for page in pages {
        for word in (0..512).step_by(7) {
            let (session, fd) = arena();
            let block = session.allocate(5000).unwrap();
            let other = session.allocate(100).unwrap();
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let value = [u64::MAX, seed, 0x55, seed & 0xffff_ffff][word % 4];
            // A cell that somebody alive seems to hold would be waited for, rightly: leave cells alone.
            if page == 0 && (16..40).contains(&word) {
                continue;
            }
            memfd::allocate(&fd, page, 4096).unwrap();
            let mapping = Mapping::shared(&fd, page, 4096).unwrap();
            // SAFETY: within the mapped page; nobody else runs.
            #[allow(unsafe_code)]
            unsafe {
                mapping
                    .as_ptr()
                    .cast::<u64>()
                    .wrapping_add(word)
                    .write(value);
            }
            let _ = session
                .allocate(5000)
                .map(|mut block| block.write_at(0, b"x"));
            let _ = session
                .allocate(5 << 20)
                .map(|mut block| block.write_at(0, b"x"));
            drop((block, other));
            let _ = session.usage();
            let _ = Session::attach(fd).map(|session| session.allocate(10).map(drop));
        }
    }
}
