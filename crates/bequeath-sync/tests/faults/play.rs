//! What the scenarios have in common: a fresh world in shared memory for each kill point, peers that
//! take part, and functions in the order of the play.

use std::sync::RwLock;
use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_sync::{Lock, ProcessId};
use bequeath_testing::{wait_until, Death, KillPoints, Outcome, Peer, Report, Scenario, Watchdog};

use crate::common::Shared;

pub const NEVER: Deadline = Deadline::NEVER;

pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// A mistake is made by the whole test process.
static MISTAKES: RwLock<()> = RwLock::new(());

/// The world of one kill point, and those who live in it.
pub struct Stage<T> {
    pub world: Shared<T>,
    peers: Vec<Peer>,
}

impl<T> Stage<T> {
    fn new() -> Self {
        Self {
            world: Shared::zeroed(),
            peers: Vec::new(),
        }
    }

    /// Another process does this.
    pub fn peer(&mut self, act: fn(&T)) -> &Peer {
        let world = &self.world;
        let peer = Peer::spawn(|| act(world));
        self.peers.push(peer);
        &self.peers[self.peers.len() - 1]
    }

    /// Another process does this, and sleeps over it.
    pub fn sleeper(&mut self, act: fn(&T)) {
        self.peer(act).wait_asleep();
    }

    /// Another process does this and dies of it.
    pub fn victim_before(&mut self, act: fn(&T)) {
        self.peer(act);
        let peer = self.peers.pop().unwrap();
        assert_eq!(peer.join(), Outcome::Exited(0));
    }

    /// No peer was there yet.
    pub fn nobody_came(&self) -> bool {
        self.peers.is_empty()
    }

    /// Nobody was told anything.
    pub fn everybody_sleeps(&self) {
        for peer in &self.peers {
            peer.wait_asleep();
        }
    }

    /// Nobody sleeps for ever.
    pub fn everybody_ends_well(&mut self) {
        for peer in self.peers.drain(..) {
            wait_until("a peer ends", || peer.has_ended());
            assert_eq!(peer.join(), Outcome::Exited(0));
        }
    }
}

/// One operation and its surroundings.
pub struct Play<T> {
    name: &'static str,
    stage: Stage<T>,
    set_up: fn(&mut Stage<T>),
    enter: fn(&T),
    forked: fn(&mut Stage<T>),
    act: fn(&T),
    nudge: Option<fn(&mut Stage<T>)>,
    check: fn(&mut Stage<T>, &Death),
}

impl<T> Play<T> {
    /// `act` is killed everywhere; then `check` must hold.
    pub fn new(name: &'static str, act: fn(&T), check: fn(&mut Stage<T>, &Death)) -> Self {
        Self {
            name,
            stage: Stage::new(),
            set_up: |_| (),
            enter: |_| (),
            forked: |_| (),
            act,
            nudge: None,
            check,
        }
    }

    /// Before the victim is forked.
    pub fn set_up(mut self, set_up: fn(&mut Stage<T>)) -> Self {
        self.set_up = set_up;
        self
    }

    /// In the victim, before its first counted instruction.
    pub fn enter(mut self, enter: fn(&T)) -> Self {
        self.enter = enter;
        self
    }

    /// After that.
    pub fn forked(mut self, forked: fn(&mut Stage<T>)) -> Self {
        self.forked = forked;
        self
    }

    /// The victim sleeps until this.
    pub fn woken_by(mut self, nudge: fn(&mut Stage<T>)) -> Self {
        self.nudge = Some(nudge);
        self
    }

    /// Every kill point must pass; in the long form each with the victim reaped and with it a zombie.
    pub fn run(mut self) {
        let _no_mistake = MISTAKES.read();
        let _watchdog = Watchdog::new(Duration::from_secs(580));
        let name = self.name;
        KillPoints::from_environment()
            .both_ways()
            .run(name, &mut self);
    }

    /// Some kill point must fail: the operation itself makes a mistake.
    pub fn must_be_caught(mut self, mistake: &str) {
        let _no_other = MISTAKES.write();
        self.fails(mistake);
    }

    fn fails(&mut self, mistake: &str) {
        let _watchdog = Watchdog::new(Duration::from_secs(580));
        let name = format!("{mistake}, {}", self.name);
        let report: Report = KillPoints::every(1).search(&name, self);
        assert!(
            report.failure.is_some() || !report.traced,
            "{name}: not caught"
        );
    }

    /// Some kill point must fail while the engine makes this mistake.
    #[cfg(feature = "broken-variants")]
    pub fn catches(mut self, mistake: bequeath_sync::broken::Mistake) {
        let _alone = MISTAKES.write();
        bequeath_sync::broken::make(Some(mistake));
        self.fails(&format!("{mistake:?}"));
        bequeath_sync::broken::make(None);
    }
}

impl<T> Scenario for Play<T> {
    fn arrange(&mut self) {
        self.stage = Stage::new();
        (self.set_up)(&mut self.stage);
    }

    fn enter(&mut self) {
        // The victim learns its identity before the counted instructions: that takes forty thousand, once.
        let _ = (ProcessId::current(), bequeath_sync::owner::thread_number());
        let lock = Lock::new();
        assert!(lock.try_take() && lock.release().is_ok());
        (self.enter)(&self.stage.world);
    }

    fn forked(&mut self, _victim: u32) {
        (self.forked)(&mut self.stage);
    }

    fn act(&mut self) {
        (self.act)(&self.stage.world);
    }

    fn sleeps(&self) -> bool {
        self.nudge.is_some()
    }

    fn nudge(&mut self) {
        if let Some(nudge) = self.nudge {
            nudge(&mut self.stage);
        }
    }

    fn check(&mut self, death: &Death) {
        (self.check)(&mut self.stage, death);
    }
}
