//! Who died: what a lock's error can tell about its last holder.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bequeath_process::{Child, ExitStatus};

/// A process that is gone.
///
/// ```no_run
/// # fn show(dead: &bequeath::DeadProcess) {
/// println!("{dead}"); // worker-2 (pid 4711) was killed by SIGKILL
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadProcess {
    /// The number that it had.
    pub pid: u32,
    /// Its name, if this process started it.
    pub name: Option<String>,
    /// How it ended, if this process started it.
    pub status: Option<ExitStatus>,
}

impl fmt::Display for DeadProcess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(formatter, "{name} (pid {})", self.pid)?,
            None => write!(formatter, "process {}", self.pid)?,
        }
        match self.status {
            Some(status) => write!(formatter, ": {status}"),
            None => formatter.write_str(" died"),
        }
    }
}

struct Started {
    process: Weak<Child>,
    name: String,
}

static STARTED: Mutex<Vec<Started>> = Mutex::new(Vec::new());

/// Lets errors name this child as long as its `Child` is alive.
pub(crate) fn remember(process: &Arc<Child>, name: &str) {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    started.retain(|other| other.process.strong_count() > 0);
    started.push(Started {
        process: Arc::downgrade(process),
        name: name.to_owned(),
    });
}

/// What is known about a dead process with this number.
pub(crate) fn describe(pid: u32) -> DeadProcess {
    let started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    let found = started.iter().rev().find_map(|other| {
        let process = other
            .process
            .upgrade()
            .filter(|process| process.pid() == pid)?;
        // It is dead, so this waits for nothing.
        Some((other.name.clone(), process.try_wait().ok()??))
    });
    let (name, status) = found.unzip();
    DeadProcess { pid, name, status }
}
