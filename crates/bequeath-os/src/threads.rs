//! The other threads of this process: asleep or not, and how long they have run.

use rustix::thread::gettid;

/// A thread of this process, seen once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub number: u32,
    /// Whether it waits in the kernel for something that may take any time.
    pub sleeps: bool,
    /// Nanoseconds that it has had a processor.
    pub ran: u64,
}

/// All but the calling thread; `None` where procfs does not tell.
#[must_use]
pub fn others() -> Option<Vec<Seen>> {
    let mine = gettid().as_raw_nonzero().get().unsigned_abs();
    let entries = std::fs::read_dir("/proc/self/task").ok()?;
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Some(
        numbers
            .filter(|number| *number != mine)
            .filter_map(see)
            .collect(),
    )
}

/// The calling thread's number.
#[must_use]
pub fn own_number() -> u32 {
    gettid().as_raw_nonzero().get().unsigned_abs()
}

/// `None` for one that is gone.
fn see(number: u32) -> Option<Seen> {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{number}/stat")).ok()?;
    let state = stat.rsplit(')').next()?.trim_start().chars().next()?;
    // Without scheduler statistics it has never run: then only sleep proves anything.
    let ran = std::fs::read_to_string(format!("/proc/self/task/{number}/schedstat"))
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    Some(Seen {
        number,
        sleeps: matches!(state, 'S' | 'Z' | 'X'),
        ran,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_seen_asleep() {
        let (give, take) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            tell.send(own_number()).unwrap();
            take.recv()
        });
        let number = told.recv().unwrap();
        while !others()
            .unwrap()
            .iter()
            .any(|seen| seen.number == number && seen.sleeps)
        {}
        assert!(others()
            .unwrap()
            .iter()
            .all(|seen| seen.number != own_number()));
        give.send(()).unwrap();
        thread.join().unwrap().unwrap();
    }
}
