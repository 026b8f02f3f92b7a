//! What this machine offers and what it holds back: each facility of the kernel that bequeath uses, each
//! limit that binds, and what that means for a program.

mod confinement;
mod kernel;
mod limits;

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

/// The version of the structures.
pub const SCHEMA: u32 = 1;

/// How much something matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Level {
    /// As it should be.
    Good,
    /// It works, in another way or within limits.
    Note,
    /// Something does not work here.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// "kernel", "limits", "confinement" or "templates".
    pub topic: &'static str,
    /// What.
    pub name: String,
    /// How it stands.
    pub found: String,
    /// How much that matters.
    pub level: Level,
    /// What it means for a program.
    pub means: String,
}

impl Finding {
    fn new(
        topic: &'static str,
        name: impl Into<String>,
        level: Level,
        found: impl Into<String>,
        means: impl Into<String>,
    ) -> Self {
        Self {
            topic,
            name: name.into(),
            found: found.into(),
            level,
            means: means.into(),
        }
    }

    /// A module that templates do without, and what it left behind.
    #[must_use]
    pub fn kept_out(module: &str, left: &str) -> Self {
        let start_up = module == "the interpreter's start-up";
        let means = if start_up {
            "no template can be forked from: every child of spawn and forkserver is exec'ed, as slowly as the \
             standard library's"
        } else {
            "templates do without it: each child that needs it imports it itself"
        };
        Self::new("templates", module, Level::Note, left, means)
    }

    /// That templates work, and which ones were tried.
    #[must_use]
    pub fn templates(found: &str) -> Self {
        let means = "children of spawn and forkserver are forked from clean templates";
        Self::new("templates", "templates", Level::Good, found, means)
    }

    /// That children could not be started at all.
    #[must_use]
    pub fn no_start(method: &str, why: &str) -> Self {
        let means = "processes cannot be started by this method";
        Self::new("templates", method, Level::Problem, why, means)
    }
}

/// All findings.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Of bequeath.
    pub version: &'static str,
    /// Whether nothing is a problem.
    pub healthy: bool,
    /// Each thing that was looked at.
    pub findings: Vec<Finding>,
}

/// Looks at the machine, as it is for this process. `more` was found by others.
#[must_use]
pub fn diagnose(more: Vec<Finding>) -> Diagnosis {
    let mut findings = kernel::findings();
    findings.extend(limits::findings());
    findings.extend(confinement::findings());
    findings.extend(more);
    Diagnosis {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        healthy: findings
            .iter()
            .all(|finding| finding.level != Level::Problem),
        findings,
    }
}

impl Diagnosis {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl Display for Diagnosis {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut topic = "";
        for finding in &self.findings {
            if finding.topic != topic {
                let gap = if topic.is_empty() { "" } else { "\n" };
                topic = finding.topic;
                writeln!(f, "{gap}{topic}")?;
            }
            let mark = match finding.level {
                Level::Good => "ok  ",
                Level::Note => "note",
                Level::Problem => "BAD ",
            };
            writeln!(f, "  {mark} {:<22} {}", finding.name, finding.found)?;
            if finding.level != Level::Good {
                writeln!(f, "       {:<22} {}", "", finding.means)?;
            }
        }
        let verdict = if self.healthy {
            "bequeath works here"
        } else {
            "something does not work here: see what is marked BAD"
        };
        writeln!(f, "\n{verdict}")
    }
}

/// The first line of a file of procfs or sysfs.
fn line(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// A line of `/proc/self/status`.
fn status(name: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let prefix = format!("{name}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix))?;
    Some(line.trim().to_owned())
}
