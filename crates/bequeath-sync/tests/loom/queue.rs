//! A queue's lock path: records beside the cell, whose state says which of them there are.
//!
//! The engine's queue (`bequeath-channel`) is this, with segments and payloads: bytes are written where the
//! committed state does not reach, and the commit makes them reachable. Its own models run under shuttle,
//! which knows no weak ordering; what a commit has to order is shown here.

use bequeath_os::Deadline;
use bequeath_sync::atomic::{AtomicU64, Ordering::Relaxed};
use bequeath_sync::owner::model::has_a_short_slice;
use bequeath_sync::{Cell, WaitWord};
use loom::sync::Arc;

use crate::explore::{as_process, explore, explore_deaths, Mortal};

/// More than a model sends.
const RECORDS: usize = 2;

struct Queue {
    /// The next to take, the next to write, and how many there are between them.
    cell: Cell<3>,
    not_empty: WaitWord,
    records: [AtomicU64; RECORDS],
}

impl Queue {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            cell: Cell::new(),
            not_empty: WaitWord::new(),
            records: std::array::from_fn(|_| AtomicU64::new(0)),
        })
    }

    fn put(&self, message: u64) {
        let mut held = self.cell.lock();
        let [head, tail, count] = whole(held.state());
        self.records[tail as usize].store(message, Relaxed);
        held.stage([head, tail + 1, count + 1]);
        held.commit_and_wake(&self.not_empty, 1);
    }

    fn get(&self) -> u64 {
        loop {
            let mut held = self.cell.lock();
            let [head, tail, count] = whole(held.state());
            if count > 0 {
                let message = self.records[head as usize].load(Relaxed);
                assert_ne!(message, 0, "torn");
                held.stage([head + 1, tail, count - 1]);
                held.commit();
                return message;
            }
            held.wait(&self.not_empty, Deadline::NEVER);
        }
    }

    fn len(&self) -> u64 {
        whole(self.cell.lock().state())[2]
    }
}

fn whole(state: [u64; 3]) -> [u64; 3] {
    assert_eq!(state[1] - state[0], state[2], "torn");
    state
}

fn two_messages() {
    let queue = Queue::new();
    let sender = Arc::clone(&queue);
    let sender = as_process(2, move || sender.put(1));
    let receiver = Arc::clone(&queue);
    let receiver = as_process(3, move || assert!(matches!(receiver.get(), 1 | 2)));
    queue.put(2);
    sender.join().unwrap();
    receiver.join().unwrap();
    assert_eq!(queue.len(), 1);
    queue.get();
}

#[test]
fn messages_arrive_whole() {
    explore("queue: two senders, a receiver", 2, two_messages);
}

#[test]
fn a_queue_is_not_taken_from_the_living() {
    explore("queue: two senders, a receiver, a slice ends", 2, || {
        has_a_short_slice();
        two_messages();
    });
}

fn a_sender_dies(mortal: Mortal) {
    let queue = Queue::new();
    let (victim, receiver) = (Arc::clone(&queue), Arc::clone(&queue));
    let victim = mortal.plays(move || victim.put(1));
    let receiver = as_process(3, move || drop(receiver.get()));
    queue.put(2);
    receiver.join().unwrap();
    let died = victim.join().unwrap();
    let left = queue.len();
    assert!(left == 1 || (left == 0 && died), "{left}");
    if left == 1 {
        queue.get();
    }
}

#[test]
fn a_message_of_the_dying_is_there_wholly_or_not() {
    explore_deaths("queue: a sender", 2, a_sender_dies);
}

#[test]
fn a_message_for_the_dying_is_taken_by_it_or_by_the_next() {
    explore_deaths("queue: a receiver", 2, |mortal| {
        let queue = Queue::new();
        let victim = Arc::clone(&queue);
        let victim = mortal.plays(move || drop(victim.get()));
        let sender = Arc::clone(&queue);
        let sender = as_process(3, move || sender.put(1));
        queue.put(2);
        sender.join().unwrap();
        let died = victim.join().unwrap();
        let left = queue.len();
        assert!(left == 1 || (left == 2 && died), "{left}");
        for _ in 0..left {
            queue.get();
        }
    });
}
