//! Threads of shuttle that play processes at one queue, one of which stops for ever.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bequeath_channel::{Error, Message, Options, Outgoing, Queue};
use bequeath_os::socket::{self, SocketType};
use bequeath_os::Deadline;
use bequeath_shm::{AnyHandle, Reference, Session};
use bequeath_sync::owner::model::{act_as, dies_after, stop_for_ever};
use bequeath_sync::{Never, ProcessId};
use bequeath_testing::model::{for_each_death, survived, thread, Explored};

const VICTIM: u32 = 2;

/// What messages are like.
#[derive(Clone, Copy)]
pub struct Shape {
    pub bytes: usize,
    /// Payloads above this travel in an envelope.
    pub longest_inline: usize,
    pub with_descriptor: bool,
    pub capacity: Option<u64>,
}

pub const SMALL: Shape = Shape {
    bytes: 64,
    longest_inline: 4000,
    with_descriptor: false,
    capacity: None,
};

/// A process of the model, at the queue.
pub struct Member {
    pub queue: Arc<Queue>,
    shape: Shape,
    /// What it has received: in the test's memory, so that it is known of the dead, too.
    received: Arc<Mutex<Vec<u64>>>,
}

pub type Act = fn(&Member);

fn payload(number: u64, bytes: usize) -> Vec<u8> {
    let rest = (8..bytes).map(|place| (number as usize * 31 + place) as u8);
    number.to_ne_bytes().into_iter().chain(rest).collect()
}

fn marked(number: u64) -> OwnedFd {
    let (near, far) = socket::pair(SocketType::Stream).unwrap();
    bequeath_os::bytes::write(&far, &[std::io::IoSlice::new(&number.to_ne_bytes())]).unwrap();
    near
}

impl Member {
    fn join(session: Session, object: Reference, shape: Shape) -> Self {
        let handle: AnyHandle = session.open_any(object).unwrap();
        Self {
            queue: Arc::new(Queue::from_handle(&handle).unwrap()),
            shape,
            received: Arc::default(),
        }
    }

    pub fn put(&self, number: u64) {
        self.try_put(number).unwrap();
    }

    pub fn try_put(&self, number: u64) -> Result<(), Error> {
        let payload = payload(number, self.shape.bytes);
        let mut message = Outgoing::bytes(1, &payload);
        if self.shape.with_descriptor {
            message.descriptors.push(marked(number));
        }
        self.queue.send(message, Deadline::NEVER, &mut Never)
    }

    pub fn get(&self) {
        let message = self.queue.recv(Deadline::NEVER, &mut Never).unwrap();
        self.note(message);
    }

    pub fn received(&self) -> Vec<u64> {
        self.received.lock().unwrap().clone()
    }

    pub fn get_all(&self) {
        while let Ok(message) = self.queue.recv(Deadline::PAST, &mut Never) {
            self.note(message);
        }
    }

    pub fn note(&self, message: Message) {
        let descriptors = message.descriptors;
        let bytes = message.payload.into_vec();
        let number = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
        assert_eq!(bytes, payload(number, self.shape.bytes), "torn");
        if self.shape.with_descriptor {
            let mut told = [0; 8];
            bequeath_os::bytes::read(&descriptors[0], &mut told).unwrap();
            assert_eq!(u64::from_ne_bytes(told), number, "another's descriptor");
        }
        self.received.lock().unwrap().push(number);
    }

    pub fn scavenge(&self) {
        self.queue.session().scavenge();
    }
}

/// Messages that are there before, by number; then who does what. Numbers are those of their senders' order.
#[derive(Clone, Copy)]
pub struct Plan {
    pub shape: Shape,
    /// So many are sent and taken again before.
    pub passed: u64,
    pub present: u64,
    pub victim: Act,
    /// What the victim sends.
    pub victims: &'static [u64],
    pub others: [Act; 2],
    /// What they send, all of it.
    pub theirs: &'static [u64],
}

pub fn explore(name: &str, schedules: usize, plan: Plan) -> Explored {
    let explored = for_each_death(name, schedules, move |stores| run(&plan, stores));
    assert!(explored.deaths > 5, "{explored:?}");
    explored
}

/// The session and queue of one execution, and what the dead have of it: what the kernel would take back is
/// taken back at the end.
pub struct Stage {
    pub session: Session,
    /// The test's own.
    pub me: Member,
    graves: Arc<Mutex<Vec<(Session, Arc<Queue>)>>>,
}

fn again(session: &Session) -> Session {
    let fd = session.descriptor().unwrap().try_clone_to_owned().unwrap();
    Session::attach(fd).unwrap()
}

impl Stage {
    pub fn new(shape: Shape) -> Self {
        let mut options = bequeath_shm::Options::default();
        options.size = Some(64 << 20);
        let session = Session::create(&options).unwrap();
        let mut options = Options::default();
        options.capacity = shape.capacity;
        options.longest_inline = Some(shape.longest_inline);
        let queue = Queue::with_options(&session, options).unwrap();
        let me = Member {
            queue: Arc::new(queue),
            shape,
            received: Arc::default(),
        };
        Self {
            session,
            me,
            graves: Arc::default(),
        }
    }

    /// Starts the victim. What it received is known to the test, and whether it lived to the end of its act.
    pub fn doomed(
        &self,
        stores: u32,
        act: impl FnOnce(&Member) + Send + 'static,
    ) -> (Arc<Mutex<Vec<u64>>>, Arc<AtomicBool>) {
        let (session, object, shape) = (
            self.session.clone(),
            self.me.queue.reference(),
            self.me.shape,
        );
        let (received, lived): (Arc<Mutex<Vec<u64>>>, Arc<AtomicBool>) = Default::default();
        let told = (Arc::clone(&received), Arc::clone(&lived));
        let graves = Arc::clone(&self.graves);
        thread::spawn(move || {
            act_as(VICTIM);
            let session = again(&session);
            let mut member = Member::join(session.clone(), object, shape);
            member.received = received;
            let grave = (session, Arc::clone(&member.queue));
            graves.lock().unwrap().push(grave);
            dies_after(stores);
            act(&member);
            lived.store(true, Ordering::Relaxed);
            survived();
            stop_for_ever();
        });
        told
    }

    /// Starts another process.
    pub fn other<T: Send + 'static>(
        &self,
        pid: u32,
        act: impl FnOnce(&Member) -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let (session, object, shape) = (
            self.session.clone(),
            self.me.queue.reference(),
            self.me.shape,
        );
        thread::spawn(move || {
            act_as(pid);
            act(&Member::join(again(&session), object, shape))
        })
    }

    pub fn wait_for_death(&self) {
        while !ProcessId::of(VICTIM).unwrap().is_dead() {
            thread::yield_now();
        }
        self.session.scavenge();
    }

    /// Nothing is left.
    pub fn end(self) {
        for (session, queue) in self.graves.lock().unwrap().drain(..) {
            queue.abandon();
            std::mem::forget(queue);
            session.abandon();
            std::mem::forget(session);
        }
        self.session.scavenge();
        drop(self.me);
        let usage = self.session.usage().unwrap();
        assert_eq!((usage.places, usage.references), (0, 0), "{usage:?}");
        self.session.abandon();
    }
}

fn run(plan: &Plan, stores: u32) {
    let shape = plan.shape;
    let stage = Stage::new(shape);
    let me = &stage.me;
    for _ in 0..plan.passed {
        me.put(0);
        me.get();
    }
    (0..plan.present).for_each(|number| me.put(number));
    me.received.lock().unwrap().clear();

    let (taken_along, lived) = stage.doomed(stores, plan.victim);
    let others: Vec<_> = (3..)
        .zip(plan.others)
        .map(|(pid, act)| {
            stage.other(pid, move |member| {
                act(member);
                member.received()
            })
        })
        .collect();
    let mut seen = Vec::new();
    for other in others {
        let received = other.join().unwrap();
        in_order(&received);
        seen.extend(received);
    }
    stage.wait_for_death();
    me.get_all();
    let rest = me.received();
    in_order(&rest);
    seen.extend(rest);
    check(plan, seen, &taken_along, lived.load(Ordering::Relaxed));

    // It works on, and holds as many as before.
    for number in 0..shape.capacity.unwrap_or(2) {
        me.put(number);
    }
    assert_eq!(me.queue.is_full().unwrap(), shape.capacity.is_some());
    me.get_all();
    stage.end();
}

/// Messages of one sender arrive in the order sent.
fn in_order(received: &[u64]) {
    for sender in 0..3 {
        let of_one = received.iter().filter(|number| **number / 100 == sender);
        assert!(of_one.is_sorted(), "out of order: {received:?}");
    }
}

fn check(plan: &Plan, mut seen: Vec<u64>, taken_along: &Mutex<Vec<u64>>, lived: bool) {
    let taken = taken_along.lock().unwrap().clone();
    in_order(&taken);
    let known = taken.len();
    seen.extend(taken);
    seen.sort_unstable();
    let doubled = seen.windows(2).any(|pair| pair[0] == pair[1]);
    assert!(!doubled, "doubled: {seen:?}");
    let here = |numbers: &[u64]| numbers.iter().filter(|it| seen.contains(it)).count();
    let sent = here(plan.victims);
    // One after the other: what the victim sent last may be missing, and what comes after it.
    assert_eq!(sent, here(&plan.victims[..sent]), "a gap: {seen:?}");
    let present: Vec<u64> = (0..plan.present).collect();
    let lost = present.len() + plan.theirs.len() - here(&present) - here(plan.theirs);
    if lived {
        assert_eq!((sent, lost), (plan.victims.len(), 0), "{seen:?}");
    } else {
        // The one that the victim was receiving when it died.
        assert!(lost <= 1, "lost: {seen:?}, {known} taken by the victim");
    }
}
