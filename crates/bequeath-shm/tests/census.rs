//! The census tells what there is, from inside and from outside.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use bequeath_shm::{kind, Envelope, HeldBy, Memory, Observer, Options, Room, Session};
use bequeath_testing::{Outcome, Peer};

/// The arena as another program of the same user finds it: through procfs, to be read only.
fn from_outside(pid: u32, number: i32) -> OwnedFd {
    File::open(format!("/proc/{pid}/fd/{number}"))
        .unwrap()
        .into()
}

#[test]
fn an_observer_sees_what_a_member_sees_and_is_none() {
    let session = Session::create(&Options::default()).unwrap();
    let line = line!() + 1;
    let memory = Memory::create(&session, 100_000).unwrap();
    let block = session.allocate(9 << 20).unwrap();
    let room = Room {
        payload: 300,
        blocks: 1,
        references: 1,
    };
    let mut envelope = Envelope::new(&session, room).unwrap();
    envelope
        .attach_block(session.allocate(5000).unwrap())
        .unwrap();
    envelope.attach_reference(&memory.erase()).unwrap();
    let number = session.descriptor().unwrap().as_raw_fd();
    let pid = std::process::id();
    let peer = Peer::spawn(|| {
        let observer = Observer::open(from_outside(pid, number)).unwrap();
        let census = observer.census().unwrap();
        assert_eq!(census.id, session.id());
        let own: Vec<_> = census
            .members
            .iter()
            .map(|seen| seen.process.pid())
            .collect();
        assert_eq!(own, [pid], "an observer is no member");
        assert_eq!(census.references.len(), 2);
        let find = |name| census.places.iter().find(|seen| seen.name == name).unwrap();
        let seen = find(block.name());
        assert!(seen.run && seen.length == 9 << 20 && seen.backed >= 9 << 20);
        assert!(matches!(seen.held_by, HeldBy::Member(Some(process)) if process.pid() == pid));
        assert!(find(envelope.name()).envelope);
        let is_part = |held| held == HeldBy::PartOf(envelope.name());
        assert_eq!(
            census
                .places
                .iter()
                .filter(|seen| is_part(seen.held_by))
                .count(),
            1
        );
        assert!(census.references.iter().any(|seen| is_part(seen.held_by)));
        let found = census.places.iter().find_map(|seen| {
            seen.object
                .clone()
                .filter(|_| seen.held_by == HeldBy::Object)
        });
        let object = found.unwrap();
        assert_eq!(object.reference, memory.reference());
        assert_eq!((object.kind, object.count), (kind::MEMORY, 2));
        assert_eq!((object.maker.pid, object.maker.line), (pid, line));
        assert!(object.maker.file.ends_with("tests/census.rs"), "{object:?}");
        assert_eq!(object.extra_length, 100_000);
        observer.view::<Memory>(&object).unwrap();
        assert!(observer.view::<bequeath_sync::Lock>(&object).is_err());
        let kept = object.extra.unwrap();
        assert_eq!(find(kept).held_by, HeldBy::Kept(memory.reference()));
        assert_eq!(
            observer.read(kept.offset, 100_000).unwrap(),
            vec![0; 100_000]
        );
        assert!(observer.read(u64::MAX - 5, 10).is_err());
    });
    assert!(matches!(peer.join(), Outcome::Exited(0)));
    let own = session.census().unwrap();
    assert_eq!(own.members.len(), 1, "the observer left nothing");
    assert_eq!(own.used, session.usage().unwrap().used);
}

#[test]
fn what_is_no_arena_is_not_observed() {
    let file = File::open("/dev/null").unwrap();
    assert!(Observer::open(file.into()).is_err());
}
