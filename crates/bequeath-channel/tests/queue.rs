//! The queue keeps its promises among living processes.
#![allow(clippy::unwrap_used)]

mod world;

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::time::Duration;

use bequeath_channel::{Error, Message, Outgoing, Queue};
use bequeath_os::poll::{self, Events};
use bequeath_os::socket::{self, SocketType};
use bequeath_os::{bytes, Deadline};
use bequeath_sync::Never;
use bequeath_testing::{Outcome, Watchdog};
use world::{get, put, World};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn messages_of_all_sizes_arrive_in_order() {
    let _watchdog = Watchdog::new(LIMIT);
    let world = World::new();
    let queue = Queue::create(&world.session, None).unwrap();
    let sizes = [0, 1, 15, 16, 17, 4079, 4080, 4081, 65_536, 1 << 20, 5 << 20];
    for _ in 0..3 {
        for (number, size) in sizes.iter().enumerate() {
            put(&queue, number as u8, &vec![number as u8; *size]);
        }
        for (number, size) in sizes.iter().enumerate() {
            assert_eq!(get(&queue), (number as u8, vec![number as u8; *size]));
        }
    }
    assert!(queue.is_empty().unwrap());
}

#[test]
fn many_segments_are_filled_drained_and_given_back() {
    let _watchdog = Watchdog::new(LIMIT);
    let world = World::new();
    let queue = Queue::create(&world.session, None).unwrap();
    let places = world.session.usage().unwrap().places;
    for round in 0..3_u32 {
        for number in 0..2000_u32 {
            put(&queue, 1, &vec![(number + round) as u8; 1000]);
        }
        assert_eq!(queue.len().unwrap(), 2000);
        for number in 0..2000_u32 {
            assert_eq!(get(&queue).1, vec![(number + round) as u8; 1000]);
        }
        // The current segment and one spare stay.
        assert!(world.session.usage().unwrap().places <= places + 2);
    }
    drop(queue);
    assert_eq!(world.session.usage().unwrap().places, 0);
}

#[test]
fn a_queue_that_nobody_holds_frees_what_is_in_it() {
    let _watchdog = Watchdog::new(LIMIT);
    let world = World::new();
    let inner = Queue::create(&world.session, None).unwrap();
    let queue = Queue::create(&world.session, None).unwrap();
    put(&inner, 0, &[1; 10_000]);
    for _ in 0..200 {
        put(&queue, 0, &[0; 3000]);
    }
    let block = world.session.allocate(100_000).unwrap();
    let message = Outgoing {
        buffers: vec![block],
        references: vec![inner.handle()],
        ..Outgoing::bytes(0, &[5; 9000])
    };
    queue.send(message, Deadline::NEVER, &mut Never).unwrap();
    drop(inner);
    drop(queue);
    assert_eq!(world.session.usage().unwrap().places, 0);
    assert_eq!(world.session.usage().unwrap().references, 0);
}

#[test]
fn a_bounded_queue_is_full_at_exactly_its_capacity() {
    let _watchdog = Watchdog::new(LIMIT);
    let world = World::new();
    let queue = Queue::create(&world.session, Some(3)).unwrap();
    for number in 0..3 {
        assert!(!queue.is_full().unwrap());
        put(&queue, number, &[]);
    }
    assert!(queue.is_full().unwrap());
    let refused = queue.send(Outgoing::bytes(9, &[]), Deadline::PAST, &mut Never);
    assert!(matches!(refused, Err(Error::Full)));
    let soon = Deadline::after(Duration::from_millis(20));
    assert!(matches!(
        queue.send(Outgoing::bytes(9, &[]), soon, &mut Never),
        Err(Error::Full)
    ));
    assert_eq!(get(&queue).0, 0);
    put(&queue, 3, &[]);
    assert_eq!((1..4).map(|_| get(&queue).0).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(matches!(
        queue.recv(Deadline::PAST, &mut Never),
        Err(Error::Empty)
    ));
}

#[test]
fn a_sleeping_receiver_and_a_sleeping_sender_are_woken() {
    let _watchdog = Watchdog::new(LIMIT);
    let world = World::new();
    let (there, back) = (world.queue(Some(1)), world.queue(Some(1)));
    let echo = world.spawn(|| {
        for _ in 0..500 {
            let (kind, bytes) = get(&there);
            put(&back, kind, &bytes);
        }
    });
    for number in 0..500_u32 {
        put(&there, 7, &number.to_ne_bytes());
        assert_eq!(get(&back), (7, number.to_ne_bytes().to_vec()));
    }
    assert_eq!(echo.join(), Outcome::Exited(0));
}

#[test]
fn several_senders_and_receivers_lose_and_double_nothing() {
    let _watchdog = Watchdog::new(LIMIT);
    let world = World::new();
    let (queue, sums) = (world.queue(Some(50)), world.queue(None));
    let senders: Vec<_> = (0..3)
        .map(|_| {
            world.spawn(|| {
                (1..=2000_u64).for_each(|n| {
                    put(
                        &queue,
                        1,
                        &vec![n.to_ne_bytes(); (n % 700) as usize + 1].concat(),
                    )
                })
            })
        })
        .collect();
    let receivers: Vec<_> = (0..3)
        .map(|_| {
            world.spawn(|| {
                let mut sum = 0;
                while let (1, bytes) = get(&queue) {
                    let words: Vec<u64> = bytes
                        .chunks(8)
                        .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
                        .collect();
                    assert!(
                        words.iter().all(|word| *word == words[0])
                            && words.len() as u64 == words[0] % 700 + 1
                    );
                    sum += words[0];
                }
                put(&sums, 0, &sum.to_ne_bytes());
            })
        })
        .collect();
    for sender in senders {
        assert_eq!(sender.join(), Outcome::Exited(0));
    }
    receivers.iter().for_each(|_| put(&queue, 0, &[]));
    for receiver in receivers {
        assert_eq!(receiver.join(), Outcome::Exited(0));
    }
    let total: u64 = (0..3)
        .map(|_| u64::from_ne_bytes(get(&sums).1.try_into().unwrap()))
        .sum();
    assert_eq!(total, 3 * 2000 * 2001 / 2);
    assert!(queue.is_empty().unwrap());
}

#[test]
fn buffers_and_references_travel_with_their_message() {
    let _watchdog = Watchdog::new(LIMIT);
    let world = World::new();
    let (queue, reply) = (world.queue(None), world.queue(None));
    let peer = world.spawn(|| {
        let message = queue.recv(Deadline::NEVER, &mut Never).unwrap();
        let mut bytes = vec![0; 100_000];
        assert!(message.buffers[0].read_at(0, &mut bytes));
        assert!(bytes.iter().all(|byte| *byte == 3));
        let passed = Queue::from_handle(&message.references[0]).unwrap();
        put(&passed, 42, b"by reference");
    });
    let mut block = world.session.allocate(100_000).unwrap();
    block.write_at(0, &[3; 100_000]);
    let message = Outgoing {
        buffers: vec![block],
        references: vec![reply.handle()],
        ..Outgoing::bytes(0, b"x")
    };
    queue.send(message, Deadline::NEVER, &mut Never).unwrap();
    assert_eq!(get(&reply), (42, b"by reference".to_vec()));
    assert_eq!(peer.join(), Outcome::Exited(0));
}

/// A message with the two ends of a pair of sockets, the first of which has this number to read.
fn put_two_descriptors(queue: &Queue, number: u8) {
    let (one, other) = socket::pair(SocketType::Stream).unwrap();
    bytes::write(&one, &[IoSlice::new(&[number])]).unwrap();
    let message = Outgoing {
        descriptors: vec![other, one],
        ..Outgoing::bytes(number, b"with two")
    };
    queue.send(message, Deadline::NEVER, &mut Never).unwrap();
}

fn number_behind(message: &Message) -> u8 {
    let mut byte = [0];
    bytes::read(&message.descriptors[0], &mut byte).unwrap();
    byte[0]
}

#[test]
fn descriptors_travel_with_their_message_also_after_the_sender_is_gone() {
    let _watchdog = Watchdog::new(LIMIT);
    let world = World::new();
    let queue = world.queue(None);
    let sender = world.spawn(|| {
        (0..3).for_each(|number| put_two_descriptors(&queue, number));
    });
    assert_eq!(sender.join(), Outcome::Exited(0));
    for number in 0..3 {
        let message = queue.recv(Deadline::NEVER, &mut Never).unwrap();
        assert_eq!((message.kind, message.descriptors.len()), (number, 2));
        assert_eq!(number_behind(&message), number);
    }
}

#[test]
fn a_message_whose_descriptors_cannot_be_had_does_not_stand_in_the_way() {
    let _watchdog = Watchdog::new(LIMIT);
    let world = World::new();
    let queue = world.queue(None);
    (0..2).for_each(|number| put_two_descriptors(&queue, number));
    let mut first = Message::default();
    queue.recv_without_descriptors(&mut first).unwrap();
    assert_eq!((first.kind, first.descriptors.len()), (0, 0));
    assert_eq!(queue.len_at_a_glance().unwrap(), 1);
    let second = queue.recv(Deadline::NEVER, &mut Never).unwrap();
    assert_eq!(
        number_behind(&second),
        1,
        "its own, not those that were left"
    );
}

#[test]
fn the_readiness_descriptor_is_readable_exactly_while_there_are_messages() {
    let _watchdog = Watchdog::new(LIMIT);
    let world = World::new();
    let queue = world.queue(None);
    put(&queue, 0, b"before anybody asked");
    let descriptor = queue.readiness().unwrap();
    let ready = || poll::is_ready(descriptor.as_fd(), Events::IN).unwrap();
    assert!(ready());
    get(&queue);
    assert!(!ready());
    // A process that never asked raises it all the same.
    let sender = world.spawn(|| put(&queue, 0, b"x"));
    assert_eq!(sender.join(), Outcome::Exited(0));
    assert!(ready());
    put(&queue, 0, b"y");
    get(&queue);
    assert!(ready());
    get(&queue);
    assert!(!ready());
}

#[test]
fn task_done_and_join_count_what_was_sent() {
    let _watchdog = Watchdog::new(LIMIT);
    let world = World::new();
    let queue = world.queue(None);
    queue.join(Deadline::NEVER, &mut Never).unwrap();
    (0..3).for_each(|number| put(&queue, number, &[]));
    assert!(matches!(
        queue.join(Deadline::PAST, &mut Never),
        Err(Error::TimedOut)
    ));
    let worker = world.spawn(|| {
        for _ in 0..3 {
            get(&queue);
            queue.task_done().unwrap();
        }
    });
    queue.join(Deadline::NEVER, &mut Never).unwrap();
    assert!(matches!(queue.task_done(), Err(Error::TooManyDone)));
    assert_eq!(worker.join(), Outcome::Exited(0));
}

#[test]
fn an_unbounded_send_beyond_the_budget_names_the_queue_its_bytes_and_the_limit() {
    let _watchdog = Watchdog::new(LIMIT);
    let world = World::new();
    let queue = world.queue(None);
    world.session.set_limit(16 << 20);
    let error = loop {
        let sent = queue.send(Outgoing::bytes(0, &[1; 3000]), Deadline::NEVER, &mut Never);
        if let Err(error) = sent {
            break error;
        }
    };
    let Error::Budget { count, queued, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*queued, count * 3000);
    let text = error.to_string();
    let names = [
        "tests/world/mod.rs:",
        &format!(
            "of process {} holds {queued} bytes in {count} messages",
            std::process::id()
        ),
        "limit 16777216 (from the program)",
    ];
    assert!(names.iter().all(|name| text.contains(name)), "{text}");
    for _ in 0..queue.len().unwrap() {
        get(&queue);
    }
    put(&queue, 0, &[2; 3000]);
}

#[test]
fn a_corrupted_record_is_an_error_and_no_more() {
    let _watchdog = Watchdog::new(LIMIT);
    for header in [
        [0, 0],
        [u64::MAX; 2],
        [1 << 32 | 4000, 0],
        [2 << 32 | 16, 0],
        [3 << 32, 0],
        [1 << 48 | 1 << 32 | 64, 9],
    ] {
        let world = World::new();
        let queue = world.queue(None);
        put(&queue, 0, &[0xa7; 64]);
        world.scribble(&[0xa7; 64], header);
        let received = queue.recv(Deadline::PAST, &mut Never);
        let plausible = matches!(&received, Ok(message) if message.payload.len() == 4000);
        assert!(received.is_err() || plausible, "{header:?}");
        assert!(queue.len().is_ok());
    }
}
