//! Collecting the calling process's state.

use std::path::Path;

use bequeath_os::attributes as os;

use super::environment::Environment;
use super::status::{failed, told, Status};
use super::{Fixed, Settable, State, NAMESPACES};
use crate::error::Result;

/// Whether procfs tells enough: without it nobody knows whether a template's child would be the same.
#[must_use]
pub fn can_capture() -> bool {
    Path::new("/proc/thread-self/status").exists()
}

impl State {
    /// Of this process; the signal mask and the priorities are the calling thread's, as with exec.
    ///
    /// # Errors
    /// Without procfs: then nobody can tell whether a template's child would be the same.
    pub fn capture() -> Result<Self> {
        let status = Status::read()?;
        let (session, group) = os::session_and_group();
        let (affinity, words) = os::affinity()?;
        Ok(Self {
            settable: Settable {
                umask: status.umask,
                limits: os::limits(),
                nice: os::nice(),
                scheduler: os::scheduler()?,
                affinity: affinity[..words].to_vec(),
                io_priority: os::io_priority(),
                timer_slack: os::timer_slack(),
                oom_score_adj: oom_score_adj()?,
                group,
                blocked: status.blocked,
                ignored: status.ignored,
            },
            fixed: Fixed {
                session,
                users: status.users,
                groups: status.groups,
                supplementary: status.supplementary,
                capabilities: status.capabilities,
                restrictions: [
                    os::secure_bits().into(),
                    status.no_new_privs,
                    status.seccomp,
                    status.seccomp_filters,
                    os::personality().into(),
                    os::without_huge_pages().into(),
                ],
                root: os::root_directory()?,
                cgroup: told("/proc/thread-self/cgroup").unwrap_or_default(),
                namespaces: namespaces(),
            },
            environment: Environment::current(),
        })
    }
}

fn oom_score_adj() -> Result<i32> {
    let text = told("/proc/self/oom_score_adj").map_err(|error| failed("read", &error))?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.trim().parse().unwrap_or(0))
}

/// A kind that the kernel does not have is 0, on both sides alike.
fn namespaces() -> [u64; NAMESPACES.len()] {
    NAMESPACES.map(|kind| {
        let path = format!("/proc/thread-self/ns/{kind}");
        os::file_identity(Path::new(&path)).map_or(0, |(_, inode)| inode)
    })
}
