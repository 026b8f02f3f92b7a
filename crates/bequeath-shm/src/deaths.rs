//! The latest deaths and their causes: a ring, for people. Written by whoever learns of a death,
//! read by `inspect`. A record may be torn when two write at once; nothing depends on it.

use std::sync::atomic::Ordering::*;

use bequeath_sync::ProcessId;

use crate::about::AboutProcess;
use crate::layout::{DeathRecord, Deaths, DEATHS_AT};
use crate::members::Seen;
use crate::session::Session;
use crate::space::Space;

/// Above the status: it is known.
const KNOWN: u64 = 1 << 32;

fn known(status: i32) -> u64 {
    u64::from(status as u32) | KNOWN
}

/// One death as it was noted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Death {
    /// Who died.
    pub process: ProcessId,
    /// Name and kind of it.
    pub about: AboutProcess,
    /// The exit code, or the number of the ending signal negated; known once its parent has asked.
    pub status: Option<i32>,
    /// When it was noticed, in nanoseconds of the monotonic clock.
    pub at: u64,
}

impl Space {
    fn deaths(&self) -> Option<&Deaths> {
        self.shared(DEATHS_AT).ok()
    }

    /// Adds to a death that is noted already how it ended; false when it is not.
    fn learn_status(&self, process: ProcessId, status: Option<i32>) -> bool {
        let records = self.deaths().into_iter().flat_map(|deaths| &deaths.records);
        let bits = process.to_bits();
        let record = records
            .filter(|record| record.process.load(Acquire) == bits)
            .last();
        if let (Some(record), Some(status)) = (record, status) {
            record.status.store(known(status), Relaxed);
        }
        record.is_some()
    }

    /// By when it was dead: now, or before a later process that had its number was.
    fn end_of(&self, process: ProcessId) -> u64 {
        let records = self.deaths().into_iter().flat_map(|deaths| &deaths.records);
        let later = records.filter(|record| {
            let noted = ProcessId::from_bits(record.process.load(Acquire));
            noted.is_some_and(|noted| {
                noted.pid() == process.pid() && noted.start_ticks() > process.start_ticks()
            })
        });
        let first = later.map(|record| record.at.load(Relaxed)).min();
        let now = bequeath_os::Deadline::now().as_nanos();
        first.map_or(now, |first| now.min(first.saturating_sub(1)))
    }

    pub(crate) fn note_death(&self, seen: &Seen, process: ProcessId, status: Option<i32>) {
        let Some(deaths) = self.deaths() else { return };
        if self.learn_status(process, status) {
            return;
        }
        let bits = process.to_bits();
        let status = status.map_or(0, known);
        let number = deaths.next.fetch_add(1, Relaxed) as usize;
        let record = &deaths.records[number % deaths.records.len()];
        record.process.store(0, Release);
        record.status.store(status, Relaxed);
        record.at.store(self.end_of(process), Relaxed);
        if let Ok(member) = self.member(seen.name.index) {
            record.about.set_words(member.about.words());
        }
        record.process.store(bits, Release);
    }
}

impl Session {
    /// Notes how a process ended that was reaped: its exit code, or the number of the signal negated.
    /// To be called before what it held is given back ([`reap`](Self::reap)). An exit with code zero
    /// is no news.
    pub fn note_death(&self, pid: u32, status: i32) {
        if status != 0 {
            self.note_end(pid, status);
        }
    }

    /// As [`note_death`](Self::note_death), also of an exit with code zero: for processes whose handles others hold.
    pub fn note_end(&self, pid: u32, status: i32) {
        let is_it = |process: &ProcessId| process.pid() == pid;
        // Numbers come again: the latest process that had it is meant, by its entry or, where somebody else found
        // it dead before and cleared that, by the record.
        let records = self.space().deaths().into_iter();
        let noted = records
            .flat_map(|deaths| &deaths.records)
            .filter_map(|record| ProcessId::from_bits(record.process.load(Acquire)))
            .filter(is_it)
            .max_by_key(|process| process.start_ticks());
        let found = self.space().latest_dead(pid);
        match (found, noted) {
            (Some((seen, process)), _)
                if noted.is_none_or(|noted| noted.start_ticks() <= process.start_ticks()) =>
            {
                self.space().note_death(&seen, process, Some(status));
            }
            (_, Some(process)) => {
                self.space().learn_status(process, Some(status));
            }
            _ => {}
        }
    }

    /// How this process ended, if that is still noted, once its parent has asked.
    #[must_use]
    pub fn status_of(&self, process: ProcessId) -> Option<i32> {
        let mut deaths = self.deaths().into_iter().rev();
        deaths.find(|death| death.process == process)?.status
    }

    /// The deaths that are still noted, the oldest first.
    #[must_use]
    pub fn deaths(&self) -> Vec<Death> {
        let records = self.space().deaths().into_iter();
        let records = records.flat_map(|deaths| &deaths.records);
        in_order(records.filter_map(read_record))
    }
}

/// The oldest first.
pub(crate) fn in_order(deaths: impl Iterator<Item = Death>) -> Vec<Death> {
    let mut deaths: Vec<Death> = deaths.collect();
    deaths.sort_by_key(|death| death.at);
    deaths
}

fn read_record(record: &DeathRecord) -> Option<Death> {
    let [role, first, second, third] = record.about.words();
    read([
        record.process.load(Acquire),
        record.status.load(Relaxed),
        record.at.load(Relaxed),
        role,
        first,
        second,
        third,
        0,
    ])
}

/// A record, from its words.
pub(crate) fn read(words: [u64; 8]) -> Option<Death> {
    let [process, status, at, role, first, second, third, _] = words;
    Some(Death {
        process: ProcessId::from_bits(process)?,
        about: AboutProcess::read([role, first, second, third]),
        status: (status & KNOWN != 0).then_some(status as u32 as i32),
        at,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bequeath_sync::ProcessId;

    use crate::members::Standing;
    use crate::{Options, Session};

    /// A number that nobody has, so that whoever had it is dead.
    const NUMBER: u32 = 4_194_303;

    fn process(start: u64) -> ProcessId {
        ProcessId::from_bits(u64::from(NUMBER) << 8 | start << 32).unwrap()
    }

    fn told(session: &Session) -> Vec<(u32, Option<i32>)> {
        let deaths = session.deaths().into_iter();
        let of_it = deaths.filter(|death| death.process.pid() == NUMBER);
        of_it
            .map(|death| (death.process.start_ticks(), death.status))
            .collect()
    }

    #[test]
    fn a_number_that_comes_again_means_its_latest_process() {
        let session = Session::create(&Options::default()).unwrap();
        let space = session.space();
        // One that left in order keeps its entry, and comes first.
        let left = space.join(process(10), Standing::Live, 0).unwrap();
        assert!(space.change_standing(left, Standing::Live, Standing::Left));
        space.join(process(30), Standing::Live, 0).unwrap();
        space.join(process(20), Standing::Leaving, 0).unwrap();
        session.note_death(NUMBER, -9);
        assert_eq!(told(&session), [(30, Some(-9))]);
        assert_eq!(session.status_of(process(30)), Some(-9));
        assert_eq!(session.status_of(process(20)), None);
        space.join(process(40), Standing::Live, 0).unwrap();
        session.note_death(NUMBER, 0);
        assert_eq!(session.status_of(process(40)), None);
        session.note_end(NUMBER, 0);
        assert_eq!(session.status_of(process(40)), Some(0));
    }

    #[test]
    fn who_was_cleaned_up_after_is_not_mistaken_for_an_earlier_one() {
        let session = Session::create(&Options::default()).unwrap();
        let space = session.space();
        let left = space.join(process(10), Standing::Live, 0).unwrap();
        assert!(space.change_standing(left, Standing::Live, Standing::Left));
        space.join(process(20), Standing::Live, 0).unwrap();
        // Somebody else finds it dead; then its parent learns how it ended.
        session.scavenge();
        assert_eq!(told(&session), [(20, None)]);
        session.note_death(NUMBER, 7);
        assert_eq!(told(&session), [(20, Some(7))]);
    }

    #[test]
    fn of_one_number_the_later_process_comes_last() {
        let session = Session::create(&Options::default()).unwrap();
        let space = session.space();
        space.join(process(20), Standing::Live, 0).unwrap();
        session.note_death(NUMBER, 7);
        // Found only now.
        space.join(process(10), Standing::Live, 0).unwrap();
        session.scavenge();
        assert_eq!(told(&session), [(10, None), (20, Some(7))]);
    }

    #[test]
    fn a_parent_is_not_mistaken_for_the_child_that_it_announced() {
        let session = Session::create(&Options::default()).unwrap();
        let space = session.space();
        space.join(process(10), Standing::Pending, 0).unwrap();
        let own = space.join(process(10), Standing::Live, 0).unwrap();
        let (found, dead) = space.latest_dead(NUMBER).unwrap();
        assert_eq!((found.name, dead), (own, process(10)));
    }
}
