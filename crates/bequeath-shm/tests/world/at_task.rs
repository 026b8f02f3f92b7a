//! A worker that takes one task, does it and answers, killed anywhere: what its slate says, its answer and what the
//! task did belong together.

use std::sync::atomic::{AtomicU64, Ordering::*};

use bequeath_os::Mapping;
use bequeath_shm::{Block, Handle, InHand, Session, Slate};
use bequeath_testing::{Death, Scenario};

use super::{Place, World};

const TASK: u64 = 7;
const BEGAN: u64 = 1_000_000;

struct Stage {
    world: World,
    answers: Handle<Place>,
    slate: Handle<Slate>,
    /// How often the task was done; nobody's property.
    done: Mapping,
}

/// The worker's.
struct Hands {
    session: Session,
    tasks: Handle<Place>,
    answers: Handle<Place>,
    slate: Handle<Slate>,
    task: Option<Block>,
}

#[derive(Default)]
pub struct AtTask {
    /// It has taken the task before it is killed.
    pub taken: bool,
    stage: Option<Stage>,
    hands: Option<Hands>,
}

fn times(done: &Mapping) -> &AtomicU64 {
    // SAFETY: a page that lives as long as the mapping, and is only used as this atomic.
    #[allow(unsafe_code)]
    unsafe {
        &*done.as_ptr().cast::<AtomicU64>()
    }
}

impl Hands {
    fn take(&mut self) {
        self.slate.set_ready(1);
        self.task = self.tasks.take(&self.session, self.tasks.reference());
        assert!(self.task.is_some());
    }
}

impl Scenario for AtTask {
    fn arrange(&mut self) {
        self.stage = None;
        let world = World::new();
        let session = &world.session;
        let task = session.allocate(100).unwrap();
        world.place.put(task, world.place.reference());
        let slate = session.create_object(|_: &Slate| {}).unwrap();
        slate.set_pool(world.place.reference());
        self.stage = Some(Stage {
            answers: session.create_object(|_: &Place| {}).unwrap(),
            slate,
            done: Mapping::anonymous(4096, true).unwrap(),
            world,
        });
    }

    fn enter(&mut self) {
        let stage = self.stage.as_ref().unwrap();
        let descriptor = stage.world.session.descriptor().unwrap();
        let session = Session::attach(descriptor.try_clone_to_owned().unwrap()).unwrap();
        let mut hands = Hands {
            task: None,
            tasks: session.open(stage.world.place.reference()).unwrap(),
            answers: session.open(stage.answers.reference()).unwrap(),
            slate: session.open(stage.slate.reference()).unwrap(),
            session,
        };
        if self.taken {
            hands.take();
        }
        self.hands = Some(hands);
    }

    fn act(&mut self) {
        let (stage, hands) = (self.stage.as_ref().unwrap(), self.hands.as_mut().unwrap());
        if !self.taken {
            hands.take();
        }
        let task = hands.task.take();
        let answered = hands.slate.at_task(TASK, BEGAN, || {
            hands.slate.name_function("a function");
            times(&stage.done).fetch_add(1, SeqCst);
            drop(task);
            let answer = hands.session.allocate(100)?;
            hands.answers.put(answer, hands.answers.reference());
            Ok::<_, bequeath_shm::Error>(())
        });
        answered.unwrap();
    }

    fn check(&mut self, death: &Death) {
        let stage = self.stage.take().unwrap();
        let session = &stage.world.session;
        session.reap_pid(death.pid);
        session.scavenge();
        // As a pool's parent: first what was answered, then what was in hand, then what was never taken.
        let answered = stage.answers.take(session, stage.answers.reference());
        let in_hand = stage.slate.in_hand();
        let untaken = stage
            .world
            .place
            .take(session, stage.world.place.reference());
        let done = times(&stage.done).load(SeqCst);
        assert!(done <= 1);
        match (&answered, in_hand) {
            (Some(_), _) => assert_eq!(done, 1, "answered, and not done"),
            (None, Some(begun)) => {
                let wanted = InHand {
                    task: TASK,
                    since: BEGAN,
                };
                assert_eq!(begun, wanted);
            }
            // It goes to another worker.
            (None, None) => assert_eq!(done, 0, "it would be done once more"),
        }
        assert!(untaken.is_none() || done == 0, "it would be done once more");
        assert!(!death.completed || answered.is_some() && in_hand.is_none());
        drop((answered, untaken));
        let Stage {
            world,
            answers,
            slate,
            ..
        } = stage;
        drop((answers, slate));
        world.end();
    }
}
