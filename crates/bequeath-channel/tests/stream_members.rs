//! Frames between members of a session: blocks, handles and descriptors ride along, none is lost when
//! a table is full, and what nobody reads is given back.

// Tests may need a newer compiler than the library.
#![allow(clippy::incompatible_msrv)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use bequeath_channel::stream::{set_inline_limit, Error, Incoming, Stream};
use bequeath_channel::{Message, Outgoing, Payload};
use bequeath_os::socket::{self, SocketType};
use bequeath_os::Errno;
use bequeath_shm::{ForkTicket, Options, Session};
use bequeath_sync::Never;
use bequeath_testing::{with_descriptors_left, Outcome, Peer};

/// Forks and limits of descriptors concern the whole process.
static TURN: Mutex<()> = Mutex::new(());

struct World {
    session: Session,
    reader: OwnedFd,
    writer: OwnedFd,
    stream: Stream,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (reader, writer) = socket::pair(SocketType::Stream).expect("a pair");
        Self {
            session: Session::create(&Options::default()).expect("a session"),
            reader,
            writer,
            stream: Stream::new(),
            _turn: turn,
        }
    }

    fn send(&self, message: Outgoing<'_>) -> Result<(), Error> {
        self.stream
            .send_message(self.writer.as_fd(), &self.session, message, &mut Never)
    }

    fn receive(&self) -> Result<Message, Error> {
        match self.stream.receive(self.reader.as_fd(), None, &mut Never)? {
            Incoming::Plain(bytes) => Ok(Message {
                payload: Payload::Inline(bytes),
                ..Message::default()
            }),
            Incoming::Member(frame) => frame.open(Some(&self.session)),
        }
    }

    fn places(&self) -> u64 {
        self.session.scavenge();
        self.session.usage().expect("figures").places
    }

    fn spawn(&self, body: impl FnOnce()) -> Peer {
        let mut ticket: Option<ForkTicket> = Some(self.session.before_fork().expect("a ticket"));
        let peer = Peer::spawn(|| {
            let ticket = ticket.take().expect("not used yet");
            self.session.after_fork_child(ticket).expect("joined");
            body();
        });
        let ticket = ticket.take().expect("not used yet");
        self.session.after_fork_parent(ticket, Some(peer.pid()));
        peer
    }
}

fn descriptor() -> OwnedFd {
    std::fs::File::open("/dev/null").expect("opened").into()
}

fn large(byte: u8) -> Vec<u8> {
    vec![byte; 100_000]
}

#[test]
fn a_large_message_goes_by_envelope_and_leaves_nothing() {
    let world = World::new();
    let before = world.places();
    for byte in 0..5 {
        world
            .send(Outgoing::bytes(byte, &large(byte)))
            .expect("sent");
    }
    for byte in 0..5 {
        let message = world.receive().expect("came");
        assert_eq!(message.kind, byte);
        assert!(matches!(message.payload, Payload::Envelope(_)));
        assert_eq!(message.payload.into_vec(), large(byte));
    }
    assert_eq!(world.places(), before);
}

#[test]
fn small_and_large_messages_keep_their_order() {
    let world = World::new();
    for number in 0..30_u8 {
        let payload = vec![number; if number % 3 == 0 { 50_000 } else { 10 }];
        world.send(Outgoing::bytes(0, &payload)).expect("sent");
    }
    for number in 0..30_u8 {
        assert_eq!(world.receive().expect("came").payload.into_vec()[0], number);
    }
}

#[test]
fn what_nobody_reads_is_given_back_with_the_socket() {
    let world = World::new();
    let before = world.places();
    for _ in 0..3 {
        world.send(Outgoing::bytes(0, &large(1))).expect("sent");
    }
    assert!(world.places() > before);
    let World {
        session,
        reader,
        writer,
        ..
    } = world;
    drop((reader, writer));
    session.scavenge();
    assert_eq!(session.usage().expect("figures").places, before);
}

#[test]
fn a_message_outlives_its_sender() {
    let world = World::new();
    let peer = world.spawn(|| world.send(Outgoing::bytes(0, &large(9))).expect("sent"));
    assert_eq!(peer.join(), Outcome::Exited(0));
    world.session.scavenge();
    assert_eq!(world.receive().expect("came").payload.into_vec(), large(9));
}

#[test]
fn senders_in_several_processes_do_not_mix() {
    const EACH: u32 = 120;
    let world = World::new();
    let peers: Vec<Peer> = (1..=3)
        .map(|sender: u8| {
            world.spawn(|| {
                for number in 0..EACH {
                    let length = [3, 2_000, 20_000, 200_000][number as usize % 4];
                    world
                        .send(Outgoing::bytes(0, &vec![sender; length]))
                        .expect("sent");
                }
            })
        })
        .collect();
    let mut counts = [0; 4];
    for _ in 0..3 * EACH {
        let bytes = world.receive().expect("came").payload.into_vec();
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "mixed");
        counts[usize::from(bytes[0])] += 1;
    }
    assert_eq!(counts[1..], [EACH; 3]);
    for peer in peers {
        assert_eq!(peer.join(), Outcome::Exited(0));
    }
}

#[test]
fn a_receiver_without_descriptors_left_loses_nothing() {
    let world = World::new();
    let mut message = Outgoing::bytes(0, b"two files");
    message.descriptors = vec![descriptor(), descriptor()];
    world.send(message).expect("sent");
    world.send(Outgoing::bytes(0, &large(2))).expect("sent");
    with_descriptors_left(1, || match world.receive() {
        Err(Error::OutOfDescriptors { carried: 2, source }) => {
            assert_eq!(source.errno, Errno::MFILE);
        }
        other => panic!("{:?}", other.map(|message| message.kind)),
    });
    let message = world.receive().expect("still there");
    assert_eq!(message.descriptors.len(), 2);
    assert_eq!(message.payload.into_vec(), b"two files");
    assert_eq!(world.receive().expect("came").payload.into_vec(), large(2));
}

#[test]
fn a_sender_without_descriptors_left_sends_nothing() {
    let world = World::new();
    let before = world.places();
    with_descriptors_left(0, || {
        let error = world
            .send(Outgoing::bytes(0, &large(1)))
            .expect_err("no token");
        assert!(error.to_string().contains("open"), "{error}");
    });
    assert_eq!(world.places(), before);
    world.send(Outgoing::bytes(0, b"next")).expect("sent");
    assert_eq!(world.receive().expect("came").payload.into_vec(), b"next");
}

#[test]
fn more_descriptors_than_a_message_holds_are_refused() {
    let world = World::new();
    let mut message = Outgoing::bytes(0, b"");
    message.descriptors = (0..=Stream::MAX_DESCRIPTORS)
        .map(|_| descriptor())
        .collect();
    assert!(matches!(
        world.send(message),
        Err(Error::TooManyDescriptors {
            found: 253,
            limit: 252
        })
    ));
    let mut message = Outgoing::bytes(0, &[7; 70_000]);
    message.descriptors = (0..Stream::MAX_DESCRIPTORS).map(|_| descriptor()).collect();
    world.send(message).expect("sent");
    assert_eq!(world.receive().expect("came").descriptors.len(), 252);
}

#[test]
fn a_pipe_carries_no_descriptors() {
    let world = World::new();
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let mut message = Outgoing::bytes(0, b"");
    message.descriptors.push(descriptor());
    let refused = Stream::new().send_message(writer.as_fd(), &world.session, message, &mut Never);
    assert!(matches!(refused, Err(Error::CannotCarry(_))));
}

#[test]
fn a_sender_waits_when_memory_is_short_and_its_messages_are_unread() {
    let world = World::new();
    let used = world.session.usage().expect("figures").used;
    world.session.set_limit(used + (24 << 20));
    let payload = vec![5_u8; 8 << 20];
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..8 {
                world
                    .send(Outgoing::bytes(0, &payload))
                    .expect("sent in the end");
            }
        });
        for _ in 0..8 {
            assert_eq!(world.receive().expect("came").payload.len(), 8 << 20);
        }
    });
    world.session.set_limit(used + (1 << 20));
    let refused = world.send(Outgoing::bytes(0, &payload));
    assert!(matches!(
        refused,
        Err(Error::Session(bequeath_shm::Error::Budget { .. }))
    ));
}

#[test]
fn a_small_send_buffer_makes_no_torn_frames() {
    let world = World::new();
    // The kernel's least: two thousand bytes are a piece then, no more.
    socket::set_send_buffer(&world.writer, 1).expect("set");
    for length in [100, 2_000, 3_000, 30_000] {
        let payload = vec![1; length];
        world.send(Outgoing::bytes(0, &payload)).expect("sent");
        let message = world.receive().expect("came");
        assert_eq!(
            matches!(message.payload, Payload::Envelope(_)),
            length > 2_000
        );
        assert_eq!(message.payload.into_vec(), payload);
    }
}

#[test]
fn a_frame_for_members_is_refused_by_a_process_without_a_session() {
    let world = World::new();
    world.send(Outgoing::bytes(0, &large(1))).expect("sent");
    let incoming = world.stream.receive(world.reader.as_fd(), None, &mut Never);
    let Incoming::Member(frame) = incoming.expect("a frame") else {
        panic!("a plain frame");
    };
    let refused = frame.open(None);
    assert!(matches!(refused, Err(Error::NotForUs { sender }) if sender == std::process::id()));
}

#[test]
fn inline_limits_are_kept_below_a_piece() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    set_inline_limit(usize::MAX);
    let (_reader, writer) = socket::pair(SocketType::Stream).expect("a pair");
    let fits = |bytes| {
        Stream::new()
            .fits_frame(writer.as_fd(), bytes)
            .expect("open")
    };
    assert!(fits(32_000) && !fits(32 << 10));
}
