//! The rule of transfer: handles and descriptors anywhere inside serde types, at any moment.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::net::UnixStream;

use bequeath::{
    Barrier, Condition, Descriptor, Error, Event, Lock, Message, Queue, Semaphore, Session,
};
use serde::{Deserialize, Serialize};

tests!(
    handles_stand_anywhere_inside_serde_types,
    handles_travel_inside_messages_to_those_who_never_had_them,
    the_same_object_twice_stays_the_same_object,
    a_sender_may_have_exited,
    descriptors_travel_in_arguments_messages_and_results,
    more_descriptors_than_one_message_takes_go_along_as_arguments,
    blocks_move_without_a_copy,
    outside_a_transfer_every_handle_is_refused_with_reason_and_remedy,
    objects_of_another_session_are_refused,
    a_handle_of_another_kind_is_refused,
    a_number_without_a_handle_is_refused,
    sending_may_happen_inside_serialize,
    a_panic_inside_serialize_leaves_no_context_behind,
    what_was_transferred_is_given_back,
    a_long_chain_of_queues_inside_queues_is_given_back,
    a_message_that_cannot_be_mapped_is_not_lost,
);

#[derive(Serialize, Deserialize)]
struct Deep {
    list: Vec<(u32, Queue<u64>)>,
    named: HashMap<String, Lock<u64>>,
    maybe: Option<Event>,
    either: Either,
    tagged: Tagged,
    #[serde(flatten)]
    flat: Flat,
    boxed: Box<Deeper>,
}

#[derive(Serialize, Deserialize)]
enum Either {
    Semaphore { semaphore: Semaphore },
    Nothing,
}

/// Read by serde in two steps, as what lies flat among other fields is.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Queue { queue: Queue<u64> },
}

#[derive(Serialize, Deserialize)]
struct Flat {
    among: Queue<u64>,
}

#[derive(Serialize, Deserialize)]
struct Deeper(
    Barrier,
    Condition,
    #[serde(with = "bequeath::descriptor")] File,
);

fn use_all(deep: Deep) -> u64 {
    for (n, queue) in &deep.list {
        queue.send(&u64::from(*n)).unwrap();
    }
    *deep.named["total"].lock().unwrap() += 5;
    let Either::Semaphore { semaphore } = deep.either else {
        panic!("nothing")
    };
    semaphore.release(2).unwrap();
    let Tagged::Queue { queue } = deep.tagged;
    queue.send(&20).unwrap();
    deep.flat.among.send(&21).unwrap();
    deep.boxed.1.notify_all();
    (&deep.boxed.2).write_all(b"written there").unwrap();
    deep.maybe.unwrap().set();
    deep.boxed.0.wait().unwrap()
}

fn handles_stand_anywhere_inside_serde_types() {
    let session = Session::new().unwrap();
    let queues: Vec<Queue<u64>> = (0..3).map(|_| session.queue(None).unwrap()).collect();
    let (total, event) = (session.lock(1_u64).unwrap(), session.event().unwrap());
    let (semaphore, barrier) = (
        session.semaphore(0, None).unwrap(),
        session.barrier(2).unwrap(),
    );
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let deep = Deep {
        list: queues
            .iter()
            .cloned()
            .zip(7..)
            .map(|(queue, n)| (n, queue))
            .collect(),
        named: HashMap::from([("total".to_owned(), total.clone())]),
        maybe: Some(event.clone()),
        either: Either::Semaphore {
            semaphore: semaphore.clone(),
        },
        tagged: Tagged::Queue {
            queue: queues[0].clone(),
        },
        flat: Flat {
            among: queues[0].clone(),
        },
        boxed: Box::new(Deeper(
            barrier.clone(),
            session.condition().unwrap(),
            File::from(std::os::fd::OwnedFd::from(writer)),
        )),
    };
    let child = session.spawn(use_all, deep).unwrap();
    event.wait().unwrap();
    barrier.wait().unwrap();
    for (queue, n) in queues.iter().zip(7..) {
        assert_eq!(queue.recv().unwrap(), n);
    }
    assert_eq!(
        (queues[0].recv().unwrap(), queues[0].recv().unwrap()),
        (20, 21)
    );
    assert_eq!((*total.lock().unwrap(), semaphore.value()), (6, 2));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "written there");
    assert!(child.result().unwrap() < 2);
    assert!(matches!(Either::Nothing, Either::Nothing));
}

fn echo((requests, _keep): (Queue<(Queue<String>, String)>, Event)) {
    while let Ok((answers, text)) = requests.recv() {
        answers.send(&format!("{text}!")).unwrap();
    }
}

fn handles_travel_inside_messages_to_those_who_never_had_them() {
    let session = Session::new().unwrap();
    let requests = session.queue(None).unwrap();
    let child = session
        .spawn(echo, (requests.clone(), session.event().unwrap()))
        .unwrap();
    for n in 0..20 {
        // Made after the worker was started, and forgotten by this process meanwhile.
        let answers = session.queue::<String>(Some(1)).unwrap();
        requests.send(&(answers.clone(), n.to_string())).unwrap();
        assert_eq!(answers.recv().unwrap(), format!("{n}!"));
    }
    requests.close().unwrap();
    child.result().unwrap();
}

fn the_same_object_twice_stays_the_same_object() {
    let session = Session::new().unwrap();
    let queue = session.queue::<(Event, Event)>(None).unwrap();
    let event = session.event().unwrap();
    queue.send(&(event.clone(), event)).unwrap();
    let (one, other) = queue.recv().unwrap();
    one.set();
    assert!(other.is_set());
    assert_eq!(one.to_handle().reference(), other.to_handle().reference());
}

fn send_and_exit(queue: Queue<(Queue<u8>, Descriptor)>) {
    let session = Session::current().unwrap();
    let inner = session.queue::<u8>(None).unwrap();
    inner.send(&42).unwrap();
    let mut file = File::from(std::os::fd::OwnedFd::from(temporary_file()));
    file.write_all(b"from the dead").unwrap();
    file.rewind().unwrap();
    queue.send(&(inner, file.into())).unwrap();
}

/// A file without a name.
fn temporary_file() -> File {
    let path = std::env::temp_dir().join(format!("bequeath-test-{}", std::process::id()));
    let file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

fn a_sender_may_have_exited() {
    let session = Session::new().unwrap();
    let queue = session.queue(None).unwrap();
    session
        .spawn(send_and_exit, queue.clone())
        .unwrap()
        .result()
        .unwrap();
    let (inner, file) = queue.recv().unwrap();
    assert_eq!(inner.recv().unwrap(), 42);
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).unwrap();
    assert_eq!(text, "from the dead");
}

fn pass_on((argument, queue): (Descriptor, Queue<Descriptor>)) -> Descriptor {
    queue.send(&argument).unwrap();
    argument
}

fn descriptors_travel_in_arguments_messages_and_results() {
    let session = Session::new().unwrap();
    let queue = session.queue(None).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = session
        .spawn(pass_on, (theirs.into(), queue.clone()))
        .unwrap();
    let in_message = UnixStream::from(queue.recv().unwrap());
    let in_result = UnixStream::from(child.result().unwrap());
    for mut stream in [in_message, in_result] {
        stream.write_all(b"x").unwrap();
    }
    let mut bytes = Vec::new();
    { &ours }.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"xx");
}

fn more_descriptors_than_one_message_takes_go_along_as_arguments() {
    let session = Session::new().unwrap();
    let many: Vec<Descriptor> = (0..300)
        .map(|_| File::open("/dev/null").unwrap().into())
        .collect();
    let child = session
        .spawn(|many: Vec<Descriptor>| many.len(), many)
        .unwrap();
    assert_eq!(child.result().unwrap(), 300);
    let open = |count: usize| -> Vec<Descriptor> {
        let open = |_| File::open("/dev/null").unwrap().into();
        (0..count).map(open).collect()
    };
    for _ in 0..5 {
        let child = session.spawn(open, 600).unwrap();
        assert_eq!(child.result().unwrap().len(), 600);
    }
}

fn mark_block((here, there): (Queue<()>, Queue<()>)) {
    let mut message = here.recv_message().unwrap();
    message.blocks[0].write_at(0, b"changed");
    there.send_message(message).unwrap();
}

fn blocks_move_without_a_copy() {
    let session = Session::new().unwrap();
    let (here, there) = (session.queue(None).unwrap(), session.queue(None).unwrap());
    let child = session
        .spawn(mark_block, (here.clone(), there.clone()))
        .unwrap();
    let mut block = session.allocate(5 << 20).unwrap();
    block.write_at(0, b"written");
    block.write_at((5 << 20) - 3, b"end");
    let message = Message {
        bytes: b"about it".to_vec(),
        blocks: vec![block],
        handles: vec![there.to_handle()],
        ..Message::default()
    };
    here.send_message(message).unwrap();
    let message = there.recv_message().unwrap();
    let (mut start, mut end) = ([0; 7], [0; 3]);
    assert!(
        message.blocks[0].read_at(0, &mut start)
            && message.blocks[0].read_at((5 << 20) - 3, &mut end)
    );
    assert_eq!(
        (&start, &end, message.bytes.as_slice()),
        (b"changed", b"end", &b"about it"[..])
    );
    assert!(Queue::<()>::from_handle(&message.handles[0]).is_ok());
    child.result().unwrap();
}

fn outside_a_transfer_every_handle_is_refused_with_reason_and_remedy() {
    let session = Session::new().unwrap();
    let refusal = |said: serde_json::Result<String>, kind: &str| {
        let said = said.expect_err("a refusal").to_string();
        let start =
            format!("{kind} objects should only be shared between processes through inheritance: ");
        assert!(said.starts_with(&start), "{said}");
        assert!(
            said.contains("Session::spawn") && said.contains("docs/why.md#refused"),
            "{said}"
        );
    };
    refusal(
        serde_json::to_string(&session.queue::<u8>(None).unwrap()),
        "Queue",
    );
    refusal(serde_json::to_string(&session.lock(0_u8).unwrap()), "Lock");
    refusal(serde_json::to_string(&session.event().unwrap()), "Event");
    refusal(
        serde_json::to_string(&session.semaphore(1, None).unwrap()),
        "Semaphore",
    );
    refusal(
        serde_json::to_string(&session.barrier(1).unwrap()),
        "Barrier",
    );
    refusal(
        serde_json::to_string(&session.condition().unwrap()),
        "Condition",
    );
    refusal(
        serde_json::to_string(&Descriptor::from(File::open("/dev/null").unwrap())),
        "OwnedFd",
    );
    assert!(serde_json::from_str::<Event>("0").is_err());
    assert!(serde_json::from_str::<Descriptor>("0").is_err());
}

fn objects_of_another_session_are_refused() {
    let (one, other) = (Session::new().unwrap(), Session::new().unwrap());
    let queue = one.queue::<Event>(None).unwrap();
    let refused = queue.send(&other.event().unwrap());
    assert!(
        matches!(refused, Err(Error::AnotherSession { what: "Event" })),
        "{refused:?}"
    );
    assert!(queue.is_empty().unwrap());
    let refused = one.spawn(|_: Event| (), other.event().unwrap());
    assert!(
        matches!(refused, Err(Error::AnotherSession { .. })),
        "{refused:?}"
    );
}

fn a_handle_of_another_kind_is_refused() {
    let session = Session::new().unwrap();
    let queue = session.queue::<Event>(None).unwrap();
    queue.send(&session.event().unwrap()).unwrap();
    let as_locks = Queue::<Lock<u64>>::from_handle(&queue.to_handle()).unwrap();
    let refused = as_locks.recv().map(drop);
    assert!(
        matches!(
            refused,
            Err(Error::Session(bequeath_shm::Error::WrongKind { .. }))
        ),
        "{refused:?}"
    );
    assert!(queue.is_empty().unwrap());
}

fn a_number_without_a_handle_is_refused() {
    let session = Session::new().unwrap();
    let queue = session.queue::<u32>(None).unwrap();
    queue.send(&3).unwrap();
    let as_events = Queue::<Event>::from_handle(&queue.to_handle()).unwrap();
    assert!(matches!(
        as_events.recv().map(drop),
        Err(Error::Decode { .. })
    ));
    queue.send(&0).unwrap();
    let as_files = Queue::<Descriptor>::from_handle(&queue.to_handle()).unwrap();
    assert!(matches!(
        as_files.recv().map(drop),
        Err(Error::Decode { .. })
    ));
    queue.send_message(Message::default()).unwrap();
    assert!(matches!(queue.recv(), Err(Error::Malformed(_))));
}

struct Chatty(Queue<Event>, Event);

impl Serialize for Chatty {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.send(&self.1).map_err(serde::ser::Error::custom)?;
        self.1.serialize(serializer)
    }
}

fn sending_may_happen_inside_serialize() {
    let session = Session::new().unwrap();
    let (outer, inner) = (
        session.queue::<Chatty>(None).unwrap(),
        session.queue::<Event>(None).unwrap(),
    );
    let event = session.event().unwrap();
    outer.send(&Chatty(inner.clone(), event.clone())).unwrap();
    event.set();
    assert!(inner.recv().unwrap().is_set());
    let received = Queue::<Event>::from_handle(&outer.to_handle())
        .unwrap()
        .recv()
        .unwrap();
    assert!(received.is_set());
}

struct Bomb;

impl Serialize for Bomb {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("in the middle")
    }
}

fn a_panic_inside_serialize_leaves_no_context_behind() {
    let session = Session::new().unwrap();
    let queue = session.queue::<Bomb>(None).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.send(&Bomb)));
    assert!(panicked.is_err() && queue.is_empty().unwrap());
    // No context is left on top: a handle is refused again.
    assert!(serde_json::to_string(&session.event().unwrap()).is_err());
}

fn what_was_transferred_is_given_back() {
    let session = Session::new().unwrap();
    let before = session.usage().unwrap().references;
    {
        let queue = session.queue(None).unwrap();
        for _ in 0..50 {
            queue
                .send(&(session.event().unwrap(), vec![0_u8; 6000]))
                .unwrap();
        }
        for _ in 0..20 {
            drop(queue.recv().unwrap());
        }
        let child = session
            .spawn(
                |queue: Queue<(Event, Vec<u8>)>| queue.recv().unwrap().0.set(),
                queue,
            )
            .unwrap();
        child.result().unwrap();
    }
    session.allocate(1).unwrap();
    assert_eq!(session.usage().unwrap().references, before);
}

/// A queue whose message holds the queue before it, and so on.
#[derive(Serialize, Deserialize)]
struct Link(Option<Queue<Link>>);

fn a_long_chain_of_queues_inside_queues_is_given_back() {
    let session = Session::new().unwrap();
    let before = session.usage().unwrap();
    // The stack of a thread that is not the first.
    let inside = session.clone();
    let work = move || {
        let mut outer: Option<Queue<Link>> = None;
        for _ in 0..1_500 {
            let queue = inside.queue(None).unwrap();
            queue.send(&Link(outer.take())).unwrap();
            outer = Some(queue);
        }
    };
    std::thread::Builder::new()
        .stack_size(192 * 1024)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
    let after = session.usage().unwrap();
    assert_eq!(
        (after.references, after.places),
        (before.references, before.places)
    );
}

/// Large enough for a run of its own in the arena.
type Large = [u8; 1_000_000];

const ADDRESS_SPACE: usize = 9; // RLIMIT_AS

fn receive_with_little_address_space(queue: Queue<Lock<Large>>) -> (bool, u8) {
    // The first one leaves mapped what both need, except the bytes of the second.
    let _first = queue.recv().unwrap();
    let used = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = used.split(' ').next().unwrap().parse().unwrap();
    let (_, most) = bequeath_os::attributes::limits()[ADDRESS_SPACE];
    let set = |bytes| bequeath_os::attributes::set_limit(ADDRESS_SPACE, (bytes, most)).unwrap();
    set(pages * 4096 + (1 << 20));
    let refused = queue.recv().is_err();
    set(most);
    let lock = queue
        .recv_timeout(std::time::Duration::from_secs(5))
        .unwrap();
    let first = lock.lock().unwrap()[0];
    (refused, first)
}

fn a_message_that_cannot_be_mapped_is_not_lost() {
    let session = Session::new().unwrap();
    let queue = session.queue(None).unwrap();
    for number in [8, 9] {
        let lock = session.lock([number; 1_000_000]).unwrap();
        queue.send(&lock).unwrap();
    }
    let child = session
        .spawn(receive_with_little_address_space, queue)
        .unwrap();
    assert_eq!(child.result().unwrap(), (true, 9));
}
