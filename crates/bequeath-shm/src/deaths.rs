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

    pub(crate) fn note_death(&self, seen: &Seen, process: ProcessId, status: Option<i32>) {
        let Some(deaths) = self.deaths() else { return };
        let bits = process.to_bits();
        let status = status.map_or(0, |status| u64::from(status as u32) | KNOWN);
        let of_it = |record: &&DeathRecord| record.process.load(Acquire) == bits;
        if let Some(known) = deaths.records.iter().find(of_it) {
            if status != 0 {
                known.status.store(status, Relaxed);
            }
            return;
        }
        let number = deaths.next.fetch_add(1, Relaxed) as usize;
        let record = &deaths.records[number % deaths.records.len()];
        record.process.store(0, Release);
        record.status.store(status, Relaxed);
        let now = bequeath_os::Deadline::now().as_nanos();
        record.at.store(now, Relaxed);
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
        if status == 0 {
            return;
        }
        let is_it = |process: &ProcessId| process.pid() == pid;
        let seen = self.space().members().find(|seen| {
            seen.identity.as_ref().is_some_and(is_it) || seen.note.as_ref().is_some_and(is_it)
        });
        if let Some(seen) = seen {
            let process = seen.note.filter(|note| note.pid() == pid).or(seen.identity);
            if let Some(process) = process.filter(|process| process.is_dead()) {
                return self.space().note_death(&seen, process, Some(status));
            }
        }
        // Somebody else found it dead before, and cleared its entry. Numbers come again: the latest is meant.
        let unknown = |record: &&DeathRecord| {
            let process = ProcessId::from_bits(record.process.load(Acquire));
            process.as_ref().is_some_and(is_it) && record.status.load(Relaxed) & KNOWN == 0
        };
        let records = self.space().deaths().into_iter();
        let records = records.flat_map(|deaths| &deaths.records).filter(unknown);
        if let Some(record) = records.max_by_key(|record| record.at.load(Relaxed)) {
            let status = u64::from(status as u32) | KNOWN;
            record.status.store(status, Relaxed);
        }
    }

    /// The deaths that are still noted, in no order.
    #[must_use]
    pub fn deaths(&self) -> Vec<Death> {
        let Some(deaths) = self.space().deaths() else {
            return Vec::new();
        };
        deaths.records.iter().filter_map(read_record).collect()
    }
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
