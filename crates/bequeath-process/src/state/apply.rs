//! Carrying a plan out, in the child.

use bequeath_os::attributes as os;

use super::plan::Plan;
use super::status::failed;
use crate::error::Result;

impl Plan {
    /// Changes everything but signals, whose handlers the interpreter wants to know of, and the
    /// signal mask, which comes last.
    ///
    /// # Errors
    /// What the kernel refused against expectation.
    pub fn apply(&self) -> Result<()> {
        if let Some(group) = self.group {
            // The starter may have died, and its group with it; then there is nothing to join.
            let _ = os::set_group(group);
        }
        if let Some(mask) = self.umask {
            os::set_umask(mask);
        }
        if let Some(scheduler) = self.scheduler {
            os::set_scheduler(scheduler)?;
        }
        if let Some(nice) = self.nice {
            os::set_nice(nice)?;
        }
        if let Some(affinity) = &self.affinity {
            os::set_affinity(affinity)?;
        }
        if let Some(priority) = self.io_priority {
            os::set_io_priority(priority)?;
        }
        if let Some(slack) = self.timer_slack {
            os::set_timer_slack(slack)?;
        }
        if let Some(adjustment) = self.oom_score_adj {
            std::fs::write("/proc/self/oom_score_adj", adjustment.to_string())
                .map_err(|error| failed("write", &error))?;
        }
        self.limits
            .iter()
            .try_for_each(|(resource, limit)| Ok(os::set_limit(*resource, *limit)?))
    }

    /// The last step: from now on signals arrive as the starter wanted it.
    ///
    /// # Errors
    /// Never, in practice.
    pub fn apply_signal_mask(&self) -> Result<()> {
        self.blocked
            .map_or(Ok(()), |mask| Ok(os::set_signal_mask(mask)?))
    }
}
