//! Frames on sockets and pipes: what arrives is what was sent, whole, whoever else is there.

// Tests may need a newer compiler than the library.
#![allow(clippy::incompatible_msrv)]

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use bequeath_channel::stream::{Error, Incoming, Stream};
use bequeath_os::socket::{self, SocketType};
use bequeath_os::Deadline;
use bequeath_sync::Never;

fn pair() -> (OwnedFd, OwnedFd) {
    socket::pair(SocketType::Stream).expect("a socket pair")
}

fn plain(received: Incoming) -> Vec<u8> {
    match received {
        Incoming::Plain(bytes) => bytes,
        Incoming::Member(frame) => panic!("{frame:?}"),
    }
}

fn receive(fd: &OwnedFd) -> Result<Vec<u8>, Error> {
    Stream::new()
        .receive(fd.as_fd(), None, &mut Never)
        .map(plain)
}

fn send(fd: &OwnedFd, bytes: &[u8]) -> Result<(), Error> {
    Stream::new().send_plain(fd.as_fd(), bytes, &mut Never)
}

#[test]
fn frames_arrive_in_order_on_sockets_and_pipes() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    for (reader, writer) in [pair(), (reader.into(), writer.into())] {
        for length in [0, 1, 3, 4, 40, 100, 5000] {
            send(&writer, &vec![length as u8; length]).expect("sent");
        }
        for length in [0, 1, 3, 4, 40, 100, 5000] {
            assert_eq!(receive(&reader).expect("came"), vec![length as u8; length]);
        }
    }
}

#[test]
fn long_frames_go_through_in_pieces() {
    let (reader, writer) = pair();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let copy = sent.clone();
    let sender = thread::spawn(move || send(&writer, &copy).expect("sent"));
    assert_eq!(receive(&reader).expect("came"), sent);
    sender.join().expect("no panic");
}

#[test]
fn the_bytes_are_multiprocessings() {
    let (reader, writer) = pair();
    send(&writer, b"abc").expect("sent");
    let mut bytes = [0; 7];
    UnixStream::from(reader)
        .read_exact(&mut bytes)
        .expect("read");
    assert_eq!(&bytes, b"\0\0\0\x03abc");
}

#[test]
fn a_foreign_sender_may_write_byte_by_byte() {
    let (reader, writer) = pair();
    let mut writer = UnixStream::from(writer);
    let sender = thread::spawn(move || {
        for frame in [&b"\0\0\0\x02hi"[..], b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x01x"] {
            for byte in frame {
                writer.write_all(&[*byte]).expect("written");
            }
        }
    });
    assert_eq!(receive(&reader).expect("came"), b"hi");
    assert_eq!(receive(&reader).expect("came"), b"x");
    assert!(matches!(receive(&reader), Err(Error::Ended)));
    sender.join().expect("no panic");
}

#[test]
fn an_end_inside_a_frame_is_told_from_an_orderly_end() {
    for cut in [1, 3, 4, 6] {
        let (reader, writer) = pair();
        UnixStream::from(writer)
            .write_all(&b"\0\0\0\x05hello"[..cut])
            .expect("written");
        assert!(
            matches!(receive(&reader), Err(Error::EndedInside)),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_message_beyond_the_limit_is_refused() {
    let (reader, writer) = pair();
    send(&writer, b"12345").expect("sent");
    let stream = Stream::new();
    let refused = stream.receive(reader.as_fd(), Some(4), &mut Never);
    assert!(matches!(refused, Err(Error::TooLong { length: 5 })));
}

#[test]
fn a_negative_length_is_refused() {
    let (reader, writer) = pair();
    UnixStream::from(writer)
        .write_all(&(-7_i32).to_be_bytes())
        .expect("written");
    assert!(matches!(receive(&reader), Err(Error::Malformed)));
}

#[test]
fn a_claimed_length_takes_no_memory() {
    let (reader, writer) = pair();
    let mut claim = b"\xff\xff\xff\xff".to_vec();
    claim.extend((1_u64 << 62).to_be_bytes());
    claim.extend(b"only this");
    UnixStream::from(writer).write_all(&claim).expect("written");
    assert!(matches!(receive(&reader), Err(Error::EndedInside)));
}

#[test]
fn sending_to_nobody_is_a_broken_pipe() {
    let (reader, writer) = pair();
    drop(reader);
    match send(&writer, b"x") {
        Err(Error::Os(error)) => assert_eq!(error.errno, bequeath_os::Errno::PIPE),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_descriptor_that_does_not_block_says_so_and_loses_nothing() {
    let (reader, writer) = pair();
    let reader = UnixStream::from(reader);
    reader.set_nonblocking(true).expect("set");
    let reader = OwnedFd::from(reader);
    match receive(&reader) {
        Err(Error::Os(error)) => assert!(error.would_block()),
        other => panic!("{other:?}"),
    }
    send(&writer, b"now").expect("sent");
    assert_eq!(receive(&reader).expect("came"), b"now");
}

#[test]
fn poll_sees_messages_and_the_end() {
    let (reader, writer) = pair();
    let stream = Stream::new();
    let ready = |deadline| {
        stream
            .poll(reader.as_fd(), deadline, &mut Never)
            .expect("polled")
    };
    assert!(!ready(Deadline::PAST));
    send(&writer, b"").expect("sent");
    assert!(ready(Deadline::NEVER));
    drop(writer);
    assert!(ready(Deadline::NEVER));
}

#[test]
fn senders_and_receivers_in_threads_do_not_mix_frames() {
    const EACH: usize = 300;
    let (reader, writer) = pair();
    let (sending, receiving) = (Stream::new(), Stream::new());
    let (sending, receiving) = (&sending, &receiving);
    let (reader, writer) = (&reader, &writer);
    let mut counts = vec![0; 4];
    thread::scope(|scope| {
        for sender in 0..4_u8 {
            scope.spawn(move || {
                for number in 0..EACH {
                    // Up to 100 KB: beyond what the kernel takes in one piece.
                    let length = 1 + number * (if number % 10 == 0 { 331 } else { 7 });
                    sending
                        .send_plain(writer.as_fd(), &vec![sender; length], &mut Never)
                        .expect("sent");
                }
            });
        }
        let takers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || {
                    let mut mine = vec![0; 4];
                    for _ in 0..EACH * 2 {
                        let frame = receiving
                            .receive(reader.as_fd(), None, &mut Never)
                            .map(plain)
                            .expect("came");
                        assert!(frame.iter().all(|byte| *byte == frame[0]));
                        mine[usize::from(frame[0])] += 1;
                    }
                    mine
                })
            })
            .collect();
        for taker in takers {
            for (all, mine) in counts.iter_mut().zip(taker.join().expect("no panic")) {
                *all += mine;
            }
        }
    });
    assert_eq!(counts, vec![EACH; 4]);
}

#[test]
fn a_pipe_is_told_from_a_local_socket() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    for end in [OwnedFd::from(reader), OwnedFd::from(writer)] {
        assert!(!Stream::new().is_local(end.as_fd()).expect("open"));
    }
}
