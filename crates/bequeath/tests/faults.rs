//! Operations of this crate killed after each of their machine instructions.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bequeath::{Lock, LockError, Queue, Session};
use bequeath_testing::{is_long, Death, KillPoints, Scenario, Watchdog};

/// Larger than a register, so that a copy takes several instructions.
type Value = [u64; 9];

/// Changes a locked value.
struct Change {
    session: Session,
    lock: Lock<Value>,
    broken: bool,
}

impl Scenario for Change {
    fn arrange(&mut self) {
        self.lock = self.session.lock([5; 9]).unwrap();
    }

    fn enter(&mut self) {
        // The child of a plain fork joins the session at its first use: before the counted part.
        drop(self.session.lock([0_u64; 9]).unwrap().lock().unwrap());
    }

    fn act(&mut self) {
        let mut guard = self.lock.lock().unwrap();
        if self.broken {
            // In two steps, as a holder would change shared memory in place.
            guard[..4].fill(6);
            drop(guard);
            guard = self.lock.lock().unwrap();
        }
        *guard = [6; 9];
        drop(guard);
    }

    fn check(&mut self, death: &Death) {
        let (guard, told) = match self.lock.lock_timeout(Duration::from_secs(5)) {
            Ok(guard) => (guard, false),
            Err(LockError::Abandoned(abandoned)) => {
                assert_eq!(abandoned.dead().pid, death.pid);
                (abandoned.recover().unwrap(), true)
            }
            Err(LockError::Failed(error)) => panic!("{error}"),
        };
        assert!(
            guard.iter().all(|word| *word == guard[0]),
            "torn: {:?}",
            *guard
        );
        assert!(guard[0] == 5 || guard[0] == 6, "invented: {:?}", *guard);
        assert!(
            !death.completed || (guard[0] == 6 && !told),
            "lost: {:?}",
            *guard
        );
        drop(guard);
        *self.lock.lock().unwrap() = [8; 9];
        assert_eq!(*self.lock.lock().unwrap(), [8; 9]);
    }
}

fn change(broken: bool) -> Change {
    let session = Session::new().unwrap();
    let lock = session.lock([5; 9]).unwrap();
    Change {
        session,
        lock,
        broken,
    }
}

#[test]
fn a_locked_value_is_whole_whenever_its_holder_is_killed() {
    let _watchdog = Watchdog::new(Duration::from_secs(280));
    KillPoints::from_environment().run("Lock<T>: change", &mut change(false));
}

#[test]
fn the_harness_sees_a_torn_value() {
    let _watchdog = Watchdog::new(Duration::from_secs(280));
    let report = KillPoints::every(16).search("Lock<T>: broken change", &mut change(true));
    assert!(report
        .failure
        .is_some_and(|failure| failure.contains("torn")));
}

/// Sends a value with a handle inside, as serde types do.
struct Send {
    session: Session,
    queue: Queue<(u64, bequeath::Event)>,
    event: bequeath::Event,
    references: u64,
}

impl Scenario for Send {
    fn arrange(&mut self) {
        self.queue = self.session.queue(None).unwrap();
        self.session.scavenge();
        self.references = self.session.usage().unwrap().references;
    }

    fn enter(&mut self) {
        let own: Queue<(u64, bequeath::Event)> = self.session.queue(None).unwrap();
        own.send(&(1, self.event.clone())).unwrap();
        let _ = self.queue.len();
    }

    fn act(&mut self) {
        self.queue.send(&(7, self.event.clone())).unwrap();
    }

    fn check(&mut self, death: &Death) {
        match self.queue.try_recv() {
            Ok((number, event)) => {
                assert_eq!(number, 7);
                event.set();
                assert!(self.event.is_set());
                event.clear();
            }
            Err(bequeath::Error::Empty) => assert!(!death.completed, "lost"),
            Err(error) => panic!("{error}"),
        }
        assert!(self.queue.is_empty().unwrap(), "doubled");
        self.session.scavenge();
        assert_eq!(
            self.session.usage().unwrap().references,
            self.references,
            "leaked"
        );
    }
}

#[test]
fn a_value_with_a_handle_is_sent_wholly_or_not_at_all_when_its_sender_is_killed() {
    let _watchdog = Watchdog::new(Duration::from_secs(280));
    let session = Session::new().unwrap();
    let (queue, event) = (session.queue(None).unwrap(), session.event().unwrap());
    let mut scenario = Send {
        session,
        queue,
        event,
        references: 0,
    };
    // The channel's own tests kill inside the engine; here it is the encoding around it that counts.
    let long = is_long();
    let points = if long {
        KillPoints::every(31)
    } else {
        KillPoints::from_environment()
    };
    points.run("Queue<T>: send with a handle", &mut scenario);
}
