//! Whether a template may still be forked from: what a module started and left running would be
//! missing in the child (threads), doubled (timers, buffers behind sockets) or somebody else's
//! (children).

use std::collections::HashMap;
use std::os::fd::RawFd;

use bequeath_os::leftovers;

/// What a process has beside its memory, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleanliness {
    /// But for the first.
    threads: Vec<(u32, String)>,
    descriptors: Vec<(RawFd, u64, u64)>,
    children: bool,
    timers: bool,
}

impl Cleanliness {
    /// Of this process, now.
    #[must_use]
    pub fn observe() -> Self {
        Self {
            threads: leftovers::threads(),
            descriptors: leftovers::descriptors(),
            children: leftovers::has_children(),
            timers: leftovers::has_timers(),
        }
    }

    /// Of a program that has just begun, with these descriptors: nothing else runs or is open.
    #[must_use]
    pub fn of_a_start_with(descriptors: &[RawFd]) -> Self {
        let mut open = leftovers::descriptors();
        open.retain(|(number, ..)| descriptors.contains(number));
        Self {
            descriptors: open,
            ..Self::default()
        }
    }

    /// What is there now that was not before; `None` when nothing is. `names` knows some threads better
    /// than the kernel does.
    #[must_use]
    pub fn difference(&self, later: &Self, names: &HashMap<u32, String>) -> Option<String> {
        let known = |thread: &u32| self.threads.iter().any(|(old, _)| old == thread);
        let mut left: Vec<String> = later
            .threads
            .iter()
            .filter(|(thread, _)| !known(thread))
            .map(|(thread, name)| format!("thread {}", names.get(thread).unwrap_or(name)))
            .collect();
        let fresh = |entry: &&(RawFd, u64, u64)| !self.descriptors.contains(entry);
        let open = later.descriptors.iter().filter(fresh);
        let open = open.filter(|(number, ..)| !leftovers::is_loaded_library(*number));
        left.extend(
            open.map(|(number, ..)| {
                format!("descriptor {number} ({})", leftovers::name_of(*number))
            }),
        );
        if later.children && !self.children {
            left.push("a child process".into());
        }
        if later.timers && !self.timers {
            left.push("a timer".into());
        }
        (!left.is_empty()).then(|| left.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::Cleanliness;

    #[test]
    fn a_library_may_keep_its_own_file_open_and_others_not() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let library = maps.split_whitespace().find(|word| word.contains(".so"));
        let names = std::collections::HashMap::new();
        let before = Cleanliness::observe();
        let loaded = library.map(std::fs::File::open);
        assert!(matches!(loaded, Some(Ok(_))), "no library is loaded");
        let left = |later: &Cleanliness| before.difference(later, &names).unwrap_or_default();
        assert!(!left(&Cleanliness::observe()).contains(".so"));
        let _other = std::fs::File::open("/proc/self/maps");
        assert!(left(&Cleanliness::observe()).contains("maps"));
    }

    #[test]
    fn a_thread_is_called_by_its_best_name() {
        let before = Cleanliness::observe();
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("reporter".into())
            .spawn(move || receiver.recv());
        let names = std::collections::HashMap::new();
        let later = loop {
            // The name comes a moment after the thread.
            let later = Cleanliness::observe();
            if later.threads.iter().any(|(_, name)| name == "reporter") {
                break later;
            }
        };
        let left = before.difference(&later, &names).unwrap_or_default();
        assert!(left.contains("thread reporter"), "{left}");
        let names = later
            .threads
            .iter()
            .map(|(thread, _)| (*thread, "mine".to_owned()));
        let left = before
            .difference(&later, &names.collect())
            .unwrap_or_default();
        assert!(left.contains("thread mine"), "{left}");
        drop(sender);
        assert!(thread.is_ok_and(|thread| thread.join().is_ok()));
    }
}
