//! What the survivors see when a worker is killed.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use bequeath::{Barrier, Error, Event, Lock, LockError, Queue, Semaphore, Session};
use bequeath_testing::wait_until;

tests!(
    a_lock_whose_holder_was_killed_says_who_it_was,
    a_report_stays_until_somebody_recovers,
    a_killed_holder_never_leaves_half_a_value,
    a_waiter_learns_that_the_holder_was_killed,
    a_notified_condition_wakes_a_process,
    a_condition_whose_notifier_was_killed_says_so,
    a_queue_survives_killed_senders_and_receivers,
    a_killed_receiver_loses_only_what_it_had,
    a_barrier_breaks_when_a_waiting_party_is_killed,
    a_bounded_semaphore_gives_back_what_the_dead_held,
    what_the_dead_held_is_given_back,
);

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

fn hold((lock, held): (Lock<u64>, Event)) {
    let mut guard = lock.lock().unwrap();
    *guard = 99; // not written back: the guard lives until the end
    held.set();
    forever()
}

fn killed_with_lock_held(session: &Session, lock: &Lock<u64>) -> bequeath::Child<()> {
    let held = session.event().unwrap();
    let child = session
        .worker()
        .name("holder")
        .spawn(hold, (lock.clone(), held.clone()))
        .unwrap();
    held.wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    child
}

fn a_lock_whose_holder_was_killed_says_who_it_was() {
    let session = Session::new().unwrap();
    let lock = session.lock(5_u64).unwrap();
    let child = killed_with_lock_held(&session, &lock);
    let Err(LockError::Abandoned(abandoned)) = lock.lock() else {
        panic!("not abandoned")
    };
    assert_eq!(abandoned.dead().pid, child.pid());
    let said = abandoned.dead().to_string();
    assert_eq!(
        said,
        format!("holder (pid {}): killed by SIGKILL", child.pid())
    );
    let mut guard = abandoned.recover().unwrap();
    assert_eq!(*guard, 5, "what the dead had not written back");
    *guard = 6;
    drop(guard);
    assert_eq!(*lock.lock().unwrap(), 6);
}

fn a_report_stays_until_somebody_recovers() {
    let session = Session::new().unwrap();
    let lock = session.lock(0_u64).unwrap();
    let _child = killed_with_lock_held(&session, &lock);
    for _ in 0..3 {
        assert!(matches!(lock.lock(), Err(LockError::Abandoned(_))));
        assert!(matches!(lock.try_lock(), Err(LockError::Abandoned(_))));
    }
    // A worker that is told and dies changes nothing.
    let told = session
        .spawn(
            |lock: Lock<u64>| {
                lock.lock()
                    .map(drop)
                    .unwrap_err()
                    .dead()
                    .map(|dead| dead.pid)
            },
            lock.clone(),
        )
        .unwrap();
    assert!(told.result().unwrap().is_some());
    assert!(matches!(
        lock.lock().map(drop).map_err(Error::from),
        Err(Error::Abandoned(_))
    ));
    drop(lock.lock().or_else(LockError::recover).unwrap());
    assert!(lock.lock().is_ok());
}

type Wide = [u64; 128];

fn count_up((lock, started): (Lock<Wide>, Event)) {
    loop {
        let mut guard = lock.lock().or_else(LockError::recover).unwrap();
        let next = guard[0] + 1;
        *guard = [next; 128];
        drop(guard);
        started.set();
    }
}

fn a_killed_holder_never_leaves_half_a_value() {
    let session = Session::new().unwrap();
    let lock = session.lock::<Wide>([0; 128]).unwrap();
    let mut last = 0;
    for _ in 0..30 {
        let started = session.event().unwrap();
        let child = session
            .spawn(count_up, (lock.clone(), started.clone()))
            .unwrap();
        started.wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let guard = lock.lock().or_else(LockError::recover).unwrap();
        assert!(guard.iter().all(|word| *word == guard[0]), "{:?}", *guard);
        assert!(guard[0] > last);
        last = guard[0];
    }
}

fn a_waiter_learns_that_the_holder_was_killed() {
    let session = Session::new().unwrap();
    let lock = session.lock(0_u64).unwrap();
    let held = session.event().unwrap();
    let holder = session.spawn(hold, (lock.clone(), held.clone())).unwrap();
    held.wait().unwrap();
    let waiter = session
        .spawn(
            |lock: Lock<u64>| {
                lock.lock()
                    .map(drop)
                    .map_err(|error| error.dead().map(|dead| dead.pid))
                    .err()
            },
            lock.clone(),
        )
        .unwrap();
    let path = format!("/proc/{}/syscall", waiter.pid());
    wait_until("the waiter sleeps", || {
        std::fs::read_to_string(&path)
            .is_ok_and(|text| text.starts_with("202 ") || text.starts_with("98 "))
    });
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(waiter.result().unwrap(), Some(Some(holder.pid())));
}

fn wait_for_one((lock, condition, waiting): (Lock<u64>, bequeath::Condition, Event)) -> u64 {
    let mut guard = lock.lock().unwrap();
    waiting.set();
    while *guard == 0 {
        guard = condition.wait(guard).unwrap();
    }
    *guard
}

fn a_notified_condition_wakes_a_process() {
    let session = Session::new().unwrap();
    let (lock, condition) = (session.lock(0_u64).unwrap(), session.condition().unwrap());
    let waiting = session.event().unwrap();
    let child = session
        .spawn(
            wait_for_one,
            (lock.clone(), condition.clone(), waiting.clone()),
        )
        .unwrap();
    waiting.wait().unwrap();
    let mut guard = lock.lock().unwrap();
    *guard = 3;
    condition.notify_one();
    drop(guard);
    assert_eq!(child.result().unwrap(), 3);
}

fn notify_and_hang((lock, condition, held): (Lock<u64>, bequeath::Condition, Event)) {
    let _guard = lock.lock().unwrap();
    condition.notify_all();
    held.set();
    forever()
}

fn a_condition_whose_notifier_was_killed_says_so() {
    let session = Session::new().unwrap();
    let (lock, condition) = (session.lock(0_u64).unwrap(), session.condition().unwrap());
    let held = session.event().unwrap();
    let guard = lock.lock().unwrap();
    let arguments = (lock.clone(), condition.clone(), held.clone());
    let notifier = session.spawn(notify_and_hang, arguments).unwrap();
    let killer = std::thread::spawn(move || {
        held.wait().unwrap();
        notifier.kill().unwrap();
        notifier.wait().unwrap();
        notifier
    });
    let error = condition.wait(guard).map(drop).unwrap_err();
    let notifier = killer.join().unwrap();
    assert_eq!(error.dead().map(|dead| dead.pid), Some(notifier.pid()));
    drop(error.recover().unwrap());
}

fn send_numbers((first, queue): (u64, Queue<u64>)) {
    for n in first.. {
        queue.send(&n).unwrap();
    }
}

fn pass_numbers((from, to): (Queue<u64>, Queue<u64>)) {
    while let Ok(n) = from.recv() {
        to.send(&n).unwrap();
    }
}

fn a_queue_survives_killed_senders_and_receivers() {
    let session = Session::new().unwrap();
    let (from, to) = (
        session.queue(Some(64)).unwrap(),
        session.queue(Some(64)).unwrap(),
    );
    let mut seen = BTreeSet::new();
    for round in 0..6_u64 {
        let sender = session
            .spawn(send_numbers, (round << 32, from.clone()))
            .unwrap();
        let passers: Vec<_> = (0..2)
            .map(|_| {
                session
                    .spawn(pass_numbers, (from.clone(), to.clone()))
                    .unwrap()
            })
            .collect();
        for _ in 0..500 {
            assert!(seen.insert(to.recv().unwrap()), "a message came twice");
        }
        passers[0].kill().unwrap();
        for _ in 0..200 {
            assert!(seen.insert(to.recv().unwrap()), "a message came twice");
        }
        sender.kill().unwrap();
        passers[1].kill().unwrap();
        for child in passers.iter().chain([&sender]) {
            child.wait().unwrap();
        }
        // The survivor can still use both queues whatever the dead were doing.
        while let Ok(n) = from.try_recv() {
            assert!(seen.insert(n), "a message came twice");
        }
        while let Ok(n) = to.try_recv() {
            assert!(seen.insert(n), "a message came twice");
        }
        assert!(from.is_empty().unwrap() && to.is_empty().unwrap());
    }
}

fn take_and_hang((queue, taken): (Queue<u32>, Queue<u32>)) {
    taken.send(&queue.recv().unwrap()).unwrap();
    forever()
}

fn a_killed_receiver_loses_only_what_it_had() {
    let session = Session::new().unwrap();
    let (queue, taken) = (session.queue(None).unwrap(), session.queue(None).unwrap());
    for n in 0..10 {
        queue.send(&n).unwrap();
    }
    let child = session
        .spawn(take_and_hang, (queue.clone(), taken.clone()))
        .unwrap();
    assert_eq!(taken.recv().unwrap(), 0);
    child.kill().unwrap();
    child.wait().unwrap();
    let left: Vec<u32> = std::iter::from_fn(|| queue.try_recv().ok()).collect();
    assert_eq!(left, (1..10).collect::<Vec<_>>());
}

fn a_barrier_breaks_when_a_waiting_party_is_killed() {
    let session = Session::new().unwrap();
    let barrier = session.barrier(3).unwrap();
    let wait = |barrier: Barrier| barrier.wait().is_ok();
    let doomed = session.spawn(wait, barrier.clone()).unwrap();
    wait_until("it waits", || {
        format!("{barrier:?}").starts_with("Barrier(1 of 3")
    });
    let other = session.spawn(wait, barrier.clone()).unwrap();
    wait_until("both wait", || {
        format!("{barrier:?}").starts_with("Barrier(2 of 3")
    });
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    assert!(!other.result().unwrap());
    assert!(matches!(barrier.wait(), Err(Error::BrokenBarrier)));
    barrier.reset();
    assert!(!barrier.is_broken());
}

fn take_units((semaphore, taken): (Semaphore, Event)) {
    semaphore.acquire().unwrap();
    semaphore.acquire().unwrap();
    taken.set();
    forever()
}

fn a_bounded_semaphore_gives_back_what_the_dead_held() {
    let session = Session::new().unwrap();
    let (semaphore, taken) = (
        session.semaphore(2, Some(2)).unwrap(),
        session.event().unwrap(),
    );
    let child = session
        .spawn(take_units, (semaphore.clone(), taken.clone()))
        .unwrap();
    taken.wait().unwrap();
    assert!(!semaphore.try_acquire());
    child.kill().unwrap();
    child.wait().unwrap();
    semaphore.acquire().unwrap();
    semaphore.acquire().unwrap();
    semaphore.release(2).unwrap();
}

fn make_many((queue, made): (Queue<u8>, Event)) {
    let session = Session::current().unwrap();
    let _queues: Vec<Queue<u8>> = (0..20).map(|_| session.queue(None).unwrap()).collect();
    let _blocks: Vec<_> = (0..4).map(|_| session.allocate(1 << 20).unwrap()).collect();
    queue.send(&1).unwrap();
    made.set();
    forever()
}

fn what_the_dead_held_is_given_back() {
    let session = Session::new().unwrap();
    let (queue, made) = (session.queue(None).unwrap(), session.event().unwrap());
    let before = session.usage().unwrap();
    let child = session
        .spawn(make_many, (queue.clone(), made.clone()))
        .unwrap();
    made.wait().unwrap();
    assert!(session.usage().unwrap().references > before.references);
    child.kill().unwrap();
    child.wait().unwrap();
    session.scavenge();
    let after = session.usage().unwrap();
    assert_eq!(
        (after.references, after.members),
        (before.references, before.members)
    );
    assert_eq!(queue.recv().unwrap(), 1);
}
