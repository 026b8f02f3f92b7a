//! What a test left behind: descriptors, children, files in the shared-memory file system.

use std::collections::BTreeSet;
use std::fs;

use crate::peer::wait_until;

/// A snapshot to compare with at the end of a test.
///
/// # After fork
/// Describes the process that took it.
/// # If a peer dies
/// Dead but unreaped children count as left behind.
#[derive(Debug, Clone)]
pub struct Leftovers {
    descriptors: BTreeSet<String>,
    children: BTreeSet<u32>,
    files: BTreeSet<String>,
}

impl Leftovers {
    /// What exists now.
    #[must_use]
    pub fn snapshot() -> Self {
        Self {
            descriptors: descriptors(),
            children: crate::watchdog::descendants(std::process::id())
                .into_iter()
                .collect(),
            files: names("/dev/shm"),
        }
    }

    /// Compares with the snapshot.
    ///
    /// # Panics
    /// When something was added, naming it.
    #[track_caller]
    pub fn check(&self) {
        let now = Self::snapshot();
        let new: Vec<_> = now.descriptors.difference(&self.descriptors).collect();
        assert!(new.is_empty(), "descriptors left open: {new:?}");
        let new: Vec<_> = now.children.difference(&self.children).collect();
        assert!(new.is_empty(), "children left: {new:?}");
        // Other programs' files come and go there; what is left of ours stays.
        let new: Vec<_> = now.files.difference(&self.files).collect();
        wait_until(&format!("/dev/shm is without {new:?}"), || {
            let names = names("/dev/shm");
            !new.iter().any(|name| names.contains(*name))
        });
    }
}

fn names(folder: &str) -> BTreeSet<String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

/// "number -> target", without the descriptor that reads the folder itself.
fn descriptors() -> BTreeSet<String> {
    names("/proc/self/fd")
        .into_iter()
        .filter_map(|number| {
            fs::read_link(format!("/proc/self/fd/{number}"))
                .ok()
                .map(|to| format!("{number} -> {}", to.display()))
        })
        .collect()
}
