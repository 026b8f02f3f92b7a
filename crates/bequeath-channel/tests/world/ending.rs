//! Threads of shuttle at a queue that comes to its end: one closes it, or reports work done, or waits for all of it, and
//! stops for ever.

use std::sync::atomic::Ordering;

use bequeath_channel::Error;
use bequeath_os::Deadline;
use bequeath_sync::Never;
use bequeath_testing::model::{for_each_death, Explored};

use super::model::{Member, Stage, SMALL};

/// The victim closes the queue, while one sends and another takes until the end.
pub fn explore_close(name: &str, schedules: usize) -> Explored {
    for_each_death(name, schedules, |stores| {
        let stage = Stage::new(SMALL);
        let (_, lived) = stage.doomed(stores, |member| member.queue.close().unwrap());
        let sender = stage.other(3, |member| {
            let sent = (0..3).take_while(|number| match member.try_put(*number) {
                Ok(()) => true,
                Err(error) => {
                    assert!(matches!(error, Error::Closed), "{error}");
                    false
                }
            });
            sent.collect::<Vec<u64>>()
        });
        let receiver = stage.other(4, |member| {
            let end = loop {
                match member.queue.recv(Deadline::NEVER, &mut Never) {
                    Ok(message) => member.note(message),
                    Err(error) => break error,
                }
            };
            assert!(matches!(end, Error::Closed), "{end}");
            member.received()
        });
        stage.wait_for_death();
        let queue = &stage.me.queue;
        let is_closed = || {
            let ended = queue.wait_message(Deadline::PAST, &mut Never);
            matches!(ended, Err(Error::Closed)) && stage.me.try_put(100).is_err()
        };
        if !lived.load(Ordering::Relaxed) {
            queue.close().unwrap();
        }
        let sent = sender.join().unwrap();
        // All that was accepted, and the end behind it.
        assert_eq!(receiver.join().unwrap(), sent);
        assert!(is_closed());
        stage.end();
    })
}

/// There was as much work as this; it is taken, and not reported done.
fn with_work(work: u64) -> Stage {
    let stage = Stage::new(SMALL);
    (0..work).for_each(|number| stage.me.put(number));
    stage.me.get_all();
    stage
}

fn done(member: &Member) {
    member.queue.task_done().unwrap();
}

fn join(member: &Member) {
    member.queue.join(Deadline::NEVER, &mut Never).unwrap();
}

/// What the victim leaves undone of so much is done by the test, which then finds nothing left.
fn all_is_done(stage: &Stage, most: u64, lived: bool) {
    let left = stage.me.queue.unfinished().unwrap();
    assert!(left <= most && (left == 0 || !lived), "{left} left");
    (0..left).for_each(|_| done(&stage.me));
    let more = stage.me.queue.task_done();
    assert!(matches!(more, Err(Error::TooManyDone)), "{more:?}");
}

/// The victim reports work done, as another does who has sent some of it; a third waits for all.
pub fn explore_task_done(name: &str, schedules: usize) -> Explored {
    for_each_death(name, schedules, |stores| {
        let stage = with_work(2);
        let (_, lived) = stage.doomed(stores, |member| {
            done(member);
            done(member);
        });
        let worker = stage.other(3, |member| {
            member.put(7);
            member.get();
            done(member);
        });
        let waiter = stage.other(4, join);
        worker.join().unwrap();
        stage.wait_for_death();
        all_is_done(&stage, 2, lived.load(Ordering::Relaxed));
        waiter.join().unwrap();
        stage.end();
    })
}

/// The victim waits for all work to be done, as another does.
pub fn explore_join(name: &str, schedules: usize) -> Explored {
    for_each_death(name, schedules, |stores| {
        let stage = with_work(1);
        stage.doomed(stores, join);
        let worker = stage.other(3, done);
        let waiter = stage.other(4, join);
        worker.join().unwrap();
        waiter.join().unwrap();
        stage.wait_for_death();
        all_is_done(&stage, 0, true);
        stage.end();
    })
}
