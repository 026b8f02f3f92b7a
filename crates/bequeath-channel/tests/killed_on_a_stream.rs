//! Kill at every instruction on a connection, while this process holds both ends too: a sender leaves
//! its frame wholly or not at all, a receiver takes its message wholly or leaves it, and what the
//! others send afterwards arrives either way. Nothing is left in the arena.

// Tests may need a newer compiler than the library.
#![allow(clippy::incompatible_msrv)]

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::Duration;

use bequeath_channel::stream::{set_inline_limit, Incoming, Stream};
use bequeath_channel::{Message, Outgoing, Payload};
use bequeath_os::socket::{self, Shutdown, SocketType};
use bequeath_shm::{ForkTicket, Options, Session};
use bequeath_sync::{Never, ProcessId};
use bequeath_testing::{Death, KillPoints, Scenario, Watchdog};

/// The limit of frames is one for the process, and so is the harness's patience.
static TURN: Mutex<()> = Mutex::new(());

const INLINE: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Small,
    Large,
    Descriptor,
    Everything,
}

impl What {
    fn length(self) -> usize {
        match self {
            Self::Small | Self::Descriptor => 60,
            Self::Large | Self::Everything => 2 * INLINE,
        }
    }

    fn payload(self) -> Vec<u8> {
        (0..self.length()).map(|i| i as u8 ^ 0x5a).collect()
    }

    fn has_descriptor(self) -> bool {
        matches!(self, Self::Descriptor | Self::Everything)
    }

    /// Leaves the end of a pipe to the message: returns the other one, which tells how many are left.
    fn outgoing(
        self,
        session: &Session,
        payload: &[u8],
        end: Option<OwnedFd>,
    ) -> Outgoing<'static> {
        let mut message = Outgoing::bytes(7, Box::leak(payload.to_vec().into_boxed_slice()));
        message.descriptors.extend(end);
        if self == Self::Everything {
            let mut block = session.allocate(100).expect("a block");
            block.set_len(100);
            assert!(block.write_at(0, &[3; 100]));
            message.buffers.push(block);
            let object = session.create_object(|_: &bequeath_sync::Event| {});
            message.references.push(object.expect("an object").erase());
        }
        message
    }

    fn check(self, message: &Message, pipe: &mut Option<std::io::PipeReader>) {
        let (first, length) = message.payload.parts();
        assert_eq!(length, self.length(), "length");
        assert!(!first.is_null());
        assert_eq!(copy(&message.payload), self.payload(), "torn");
        assert_eq!(
            message.descriptors.len(),
            usize::from(self.has_descriptor())
        );
        if self == Self::Everything {
            assert_eq!((message.buffers.len(), message.references.len()), (1, 1));
            let mut bytes = [0; 100];
            assert!(message.buffers[0].read_at(0, &mut bytes));
            assert_eq!(bytes, [3; 100]);
        }
        if let (Some(end), Some(pipe)) = (message.descriptors.first(), pipe) {
            bequeath_os::bytes::write(end, &[std::io::IoSlice::new(b"!")]).expect("written");
            let mut byte = [0];
            pipe.read_exact(&mut byte).expect("came");
            assert_eq!(&byte, b"!");
        }
    }
}

fn copy(payload: &Payload) -> Vec<u8> {
    match payload {
        Payload::Inline(bytes) => bytes.clone(),
        Payload::Envelope(envelope) => {
            let mut bytes = vec![0; envelope.payload().1];
            assert!(envelope.read_payload(0, &mut bytes));
            bytes
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Sends,
    /// As multiprocessing sends a large message: header and body in two calls.
    SendsInTwoCalls,
    Receives,
}

struct OnAStream {
    session: Session,
    places: u64,
    references: u64,
    what: What,
    victim: Victim,
    ticket: Option<ForkTicket>,
    ends: Option<(OwnedFd, OwnedFd)>,
    pipe: Option<std::io::PipeReader>,
    end: Option<OwnedFd>,
    prepared: Option<Outgoing<'static>>,
    stream: Stream,
}

impl OnAStream {
    fn new(what: What, victim: Victim) -> Self {
        set_inline_limit(INLINE);
        let session = Session::create(&Options::default()).expect("a session");
        let usage = session.usage().expect("figures");
        Self {
            places: usage.places,
            references: usage.references,
            session,
            what,
            victim,
            ticket: None,
            ends: None,
            pipe: None,
            end: None,
            prepared: None,
            stream: Stream::new(),
        }
    }

    fn reader(&self) -> BorrowedFd<'_> {
        self.ends.as_ref().expect("arranged").0.as_fd()
    }

    fn writer(&self) -> BorrowedFd<'_> {
        self.ends.as_ref().expect("arranged").1.as_fd()
    }

    fn prepare(&mut self) {
        let end = self.end.take().filter(|_| self.what.has_descriptor());
        self.prepared = Some(self.what.outgoing(&self.session, &self.what.payload(), end));
    }

    fn send_prepared(&mut self) {
        let message = self.prepared.take().expect("prepared");
        self.stream
            .send_message(self.writer(), &self.session, message, &mut Never)
            .expect("sent");
    }

    fn receive(&self) -> Message {
        let incoming = self.stream.receive(self.reader(), None, &mut Never);
        match incoming.expect("a frame") {
            Incoming::Plain(bytes) => Message {
                payload: Payload::Inline(bytes),
                ..Message::default()
            },
            Incoming::Member(frame) => frame.open(Some(&self.session)).expect("opened"),
        }
    }

    fn say(&self, word: &[u8]) {
        Stream::new()
            .send_plain(self.writer(), word, &mut Never)
            .expect("sent");
    }
}

impl Scenario for OnAStream {
    fn arrange(&mut self) {
        self.ends = Some(socket::pair(SocketType::Stream).expect("a pair"));
        self.stream = Stream::new();
        let (reader, writer) = std::io::pipe().expect("a pipe");
        self.pipe = Some(reader);
        self.end = Some(writer.into());
        self.say(b"before");
        if self.victim == Victim::Receives {
            assert_eq!(copy(&self.receive().payload), b"before");
            self.prepare();
            self.send_prepared();
        }
        self.ticket = Some(self.session.before_fork().expect("a ticket"));
    }

    fn forked(&mut self, victim: u32) {
        let ticket = self.ticket.take().expect("arranged");
        self.session.after_fork_parent(ticket, Some(victim));
        self.end = None;
    }

    fn enter(&mut self) {
        let ticket = self.ticket.take().expect("arranged");
        self.session.after_fork_child(ticket).expect("joined");
        if self.victim != Victim::Receives {
            self.prepare();
        }
        let _ = ProcessId::current();
    }

    fn act(&mut self) {
        match self.victim {
            Victim::Sends => self.send_prepared(),
            Victim::Receives => drop(std::hint::black_box(self.receive())),
            Victim::SendsInTwoCalls => {
                let payload = self.prepared.take().expect("prepared").payload;
                let header = (payload.len() as u32).to_be_bytes();
                for piece in [&header, payload] {
                    let piece = std::io::IoSlice::new(piece);
                    bequeath_os::bytes::write(self.writer(), &[piece]).expect("written");
                }
            }
        }
    }

    fn check(&mut self, death: &Death) {
        self.say(b"after");
        // A torn frame must end in an error here, not wait for ever.
        socket::shutdown(self.writer(), Shutdown::Write).expect("shut");
        let mut came = Vec::new();
        loop {
            let message = self.receive();
            let word = copy(&message.payload);
            if word == b"after" {
                break;
            }
            if word != b"before" {
                self.what.check(&message, &mut self.pipe);
            }
            came.push(word.len());
        }
        let whole = match self.victim {
            Victim::Receives => vec![],
            _ => vec![6],
        };
        let with = [whole.clone(), vec![self.what.length()]].concat();
        assert!(came == whole || came == with, "{came:?}");
        if death.completed {
            let sent = self.victim != Victim::Receives;
            assert_eq!(came, if sent { with } else { whole });
        }
        self.ends = None;
        // Only the message held the pipe's other end: none is left in this process or in flight.
        let left = self.pipe.take().expect("arranged").read(&mut [0; 2]);
        assert_eq!(left.expect("read"), 0, "a descriptor leaked");
        self.session.reap_pid(death.pid);
        let usage = self.session.usage().expect("figures");
        assert_eq!(usage.places, self.places, "leaked in the arena");
        assert_eq!(usage.references, self.references, "leaked references");
    }
}

fn run(name: &str, what: What, victim: Victim) {
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let _watchdog = Watchdog::new(Duration::from_secs(1500));
    KillPoints::from_environment().run(name, &mut OnAStream::new(what, victim));
}

#[test]
fn killed_while_sending_a_small_message() {
    run("send, small", What::Small, Victim::Sends);
}

#[test]
fn killed_while_sending_a_large_message() {
    run("send, large", What::Large, Victim::Sends);
}

#[test]
fn killed_while_sending_a_descriptor() {
    run("send, with a descriptor", What::Descriptor, Victim::Sends);
}

#[test]
fn killed_while_sending_everything() {
    run(
        "send, block, handle and descriptor",
        What::Everything,
        Victim::Sends,
    );
}

#[test]
fn killed_while_receiving_a_small_message() {
    run("receive, small", What::Small, Victim::Receives);
}

#[test]
fn killed_while_receiving_everything() {
    run(
        "receive, block, handle and descriptor",
        What::Everything,
        Victim::Receives,
    );
}

#[test]
fn a_sender_in_two_calls_is_caught() {
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let _watchdog = Watchdog::new(Duration::from_secs(300));
    let mut broken = OnAStream::new(What::Large, Victim::SendsInTwoCalls);
    let report = KillPoints::every(1).search("send in two calls (broken)", &mut broken);
    assert!(
        report.failure.is_some() || !report.traced,
        "a torn frame passed"
    );
}
