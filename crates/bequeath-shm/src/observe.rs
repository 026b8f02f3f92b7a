//! What an observer reads beside the census: the bodies of objects, who sleeps, who died, who is who.

use std::sync::atomic::Ordering::*;

use bequeath_sync::waiting::{Entry, Sleeper};
use bequeath_sync::ProcessId;

use crate::about::AboutProcess;
use crate::census::{Identity, Observer};
use crate::deaths::{self, Death};
use crate::layout::{DEATHS_AT, OBJECT_HEADER, PAGE, WAIT, WAITS_AT};
use crate::{Error, Result};

/// No body of a kind of this project is longer.
const LONGEST_BODY: u64 = 16_384;
/// How often a body is read again that was changing.
const TRIES: usize = 16;

/// The body of an object, copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodySeen {
    /// Its words.
    pub words: Vec<u64>,
    /// Whether it was read twice with the same result; else it is one that may never have been.
    pub steady: bool,
}

impl Observer {
    /// Where the bytes of an object's body start, behind its place.
    pub const BODY: u64 = OBJECT_HEADER;

    /// The words of an object's body, of at most so many bytes.
    ///
    /// # Errors
    /// [`Error::Stale`] for an object that is gone.
    pub fn body(&self, object: &Identity, len: usize) -> Result<BodySeen> {
        let (offset, most) = (object.reference.offset, len as u64);
        let place = self.space().place(offset)?;
        let len = most.min(place.size - OBJECT_HEADER).min(LONGEST_BODY) as usize / 8 * 8;
        let mut words = self.words(offset + OBJECT_HEADER, len)?;
        let mut steady = false;
        for _ in 0..TRIES {
            let again = self.words(offset + OBJECT_HEADER, len)?;
            steady = words == again;
            if steady {
                break;
            }
            words = again;
        }
        if self.space().glance(offset)?.generation != object.reference.generation {
            return Err(Error::Stale(object.reference));
        }
        Ok(BodySeen { words, steady })
    }

    /// Words of the arena from `offset` on.
    ///
    /// # Errors
    /// [`Error::Corrupted`] for what lies outside.
    pub fn words(&self, offset: u64, len: usize) -> Result<Vec<u64>> {
        let bytes = self.read(offset, len / 8 * 8)?;
        let word = |eight: &[u8]| {
            let mut word = [0; 8];
            word.copy_from_slice(eight);
            u64::from_ne_bytes(word)
        };
        Ok(bytes.chunks_exact(8).map(word).collect())
    }

    /// The threads that are asleep on something, or were when their process was killed.
    #[must_use]
    pub fn sleepers(&self) -> Vec<Sleeper> {
        let count = self
            .space()
            .header()
            .waits
            .load(Acquire)
            .min(self.space().geometry.waits);
        let words = self.words(WAITS_AT, (count * WAIT) as usize);
        let entries = words.unwrap_or_default();
        entries
            .chunks_exact(4)
            .filter_map(|words| Entry::read([words[0], words[1], words[2], words[3]]))
            .collect()
    }

    /// The latest deaths with a cause, the oldest first.
    #[must_use]
    pub fn deaths(&self) -> Vec<Death> {
        let page = self.words(DEATHS_AT, PAGE as usize).unwrap_or_default();
        let records = page.get(1..).unwrap_or_default().chunks_exact(8);
        deaths::in_order(records.filter_map(|words| deaths::read(words.try_into().ok()?)))
    }

    /// What a member told of itself.
    #[must_use]
    pub fn about(&self, process: ProcessId) -> Option<AboutProcess> {
        let mut members = self.space().members();
        let seen = members.find(|seen| seen.identity == Some(process))?;
        let member = self.space().member(seen.name.index).ok()?;
        Some(AboutProcess::read(member.about.words()))
    }

    /// The inode of the process number namespace in which the session's numbers mean what they say;
    /// 0 when procfs did not tell.
    #[must_use]
    pub fn pid_namespace(&self) -> u64 {
        self.space().header().pid_namespace.load(Relaxed)
    }
}
