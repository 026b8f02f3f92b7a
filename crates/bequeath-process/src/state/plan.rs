//! What a child of a template must change to have its starter's state, or why it cannot.

use super::{Fixed, Settable, State};

/// Soft limits of a kind, and the capability that lifts it.
const CAP_SYS_NICE: u64 = 1 << 23;
const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// Signals that nobody chooses. SIGPIPE and SIGXFSZ: an interpreter that starts ignores them whatever it inherited. 32 and 33: the C
/// library keeps them for its threads and refuses to change them; a program that `posix_spawn` started finds them ignored.
const NOBODYS: u64 = (1 << (13 - 1)) | (1 << (25 - 1)) | (1 << (32 - 1)) | (1 << (33 - 1));

const SCHED_OTHER: i32 = 0;
const SCHED_BATCH: i32 = 3;
const SCHED_IDLE: i32 = 5;

/// What to change in a child; `None` is as it should be already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Resource limits, by number.
    pub limits: Vec<(usize, (u64, u64))>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Nice value.
    pub nice: Option<i32>,
    /// Scheduling policy and priority.
    pub scheduler: Option<(i32, i32)>,
    /// Processors.
    pub affinity: Option<Vec<u64>>,
    /// Input/output priority.
    pub io_priority: Option<i32>,
    /// Timer slack.
    pub timer_slack: Option<u64>,
    /// The out-of-memory killer's adjustment.
    pub oom_score_adj: Option<i32>,
    /// Process group.
    pub group: Option<i32>,
    /// Blocked signals.
    pub blocked: Option<u64>,
    /// Signals to ignore, and signals to ignore no longer.
    pub ignore: u64,
    /// See `ignore`.
    pub heed: u64,
}

impl State {
    /// What a child of the process with this state changes to have the state `wanted`.
    ///
    /// # Errors
    /// The name of what cannot be changed: then only an exec serves.
    pub fn plan(&self, wanted: &Self, loaded: bool) -> Result<Plan, &'static str> {
        if let Some(differing) = self.fixed.difference(&wanted.fixed) {
            return Err(differing);
        }
        if self.environment.read_once(loaded) != wanted.environment.read_once(loaded) {
            return Err("an environment variable that is read only at start");
        }
        self.settable
            .plan(&wanted.settable, self.fixed.capabilities[2])
    }
}

impl Fixed {
    fn difference(&self, wanted: &Self) -> Option<&'static str> {
        let parts = [
            ("session", self.session == wanted.session),
            ("user", self.users == wanted.users),
            ("group", self.groups == wanted.groups),
            (
                "supplementary groups",
                self.supplementary == wanted.supplementary,
            ),
            ("capabilities", self.capabilities == wanted.capabilities),
            ("restrictions", self.restrictions == wanted.restrictions),
            ("root directory", self.root == wanted.root),
            ("control group", self.cgroup == wanted.cgroup),
            ("namespaces", self.namespaces == wanted.namespaces),
        ];
        parts
            .into_iter()
            .find(|(_, same)| !same)
            .map(|(name, _)| name)
    }
}

impl Settable {
    fn plan(&self, wanted: &Self, capabilities: u64) -> Result<Plan, &'static str> {
        let may = |capability| capabilities & capability != 0;
        // Zero is the group of a leader outside of this PID namespace: it has no number to join it by, and a
        // child that asked for it would found a group of its own.
        if wanted.group == 0 && self.group != 0 {
            return Err("a process group of another PID namespace");
        }
        let mut plan = Plan {
            umask: changed(&self.umask, &wanted.umask),
            affinity: changed(&self.affinity, &wanted.affinity),
            timer_slack: changed(&self.timer_slack, &wanted.timer_slack),
            group: changed(&self.group, &wanted.group),
            blocked: changed(&self.blocked, &wanted.blocked),
            ignore: wanted.ignored & !self.ignored & !NOBODYS,
            heed: self.ignored & !wanted.ignored & !NOBODYS,
            ..Plan::default()
        };
        for (resource, (own, wanted)) in self.limits.iter().zip(&wanted.limits).enumerate() {
            if own != wanted {
                if wanted.1 > own.1 && !may(CAP_SYS_RESOURCE) {
                    return Err("a hard resource limit above the template's");
                }
                plan.limits.push((resource, *wanted));
            }
        }
        plan.nice = changed(&self.nice, &wanted.nice);
        if wanted.nice < self.nice && !may(CAP_SYS_NICE) {
            return Err("a nice value below the template's");
        }
        plan.scheduler = changed(&self.scheduler, &wanted.scheduler);
        if plan.scheduler.is_some() && !may(CAP_SYS_NICE) && !is_ordinary(self.scheduler, wanted) {
            return Err("scheduling policy");
        }
        plan.io_priority = changed(&self.io_priority, &wanted.io_priority);
        if plan.io_priority.is_some() && !may(CAP_SYS_NICE) {
            return Err("input/output priority");
        }
        plan.oom_score_adj = changed(&self.oom_score_adj, &wanted.oom_score_adj);
        if wanted.oom_score_adj < self.oom_score_adj && !may(CAP_SYS_RESOURCE) {
            return Err("an out-of-memory adjustment below the template's");
        }
        Ok(plan)
    }
}

/// Policies between which anybody may change; leaving "idle" takes a privilege.
fn is_ordinary(own: (i32, i32), wanted: &Settable) -> bool {
    let from = [SCHED_OTHER, SCHED_BATCH];
    from.contains(&own.0) && [SCHED_OTHER, SCHED_BATCH, SCHED_IDLE].contains(&wanted.scheduler.0)
}

fn changed<T: PartialEq + Clone>(own: &T, wanted: &T) -> Option<T> {
    (own != wanted).then(|| wanted.clone())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_another_namespace_is_inherited_and_never_joined() {
        let mut own = State::capture().unwrap();
        let mut wanted = own.clone();
        (own.settable.group, wanted.settable.group) = (7, 0);
        let why = own.plan(&wanted, false).unwrap_err();
        assert!(why.contains("another PID namespace"), "{why}");
        own.settable.group = 0;
        assert_eq!(own.plan(&wanted, false).unwrap().group, None);
        wanted.settable.group = 7;
        assert_eq!(own.plan(&wanted, false).unwrap().group, Some(7));
    }
}
