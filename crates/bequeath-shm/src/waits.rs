//! The table of those who wait: an entry for each thread that ever slept, found at its first sleep.
//!
//! `bequeath_sync::waiting` writes the entries; here they are given out. An entry whose process is
//! dead is anybody's. When the table is full, further threads have none: they sleep as well, but
//! `inspect` does not see for what.

use std::sync::atomic::Ordering::*;

use bequeath_sync::waiting::{set_provider, Entry};

use crate::layout::{PAGE, WAIT, WAITS_AT};
use crate::session::Session;
use crate::space::Space;

const _: () = assert!(core::mem::size_of::<Entry>() as u64 <= WAIT);

/// From now on threads of this process find their entries in its default session.
pub(crate) fn provide() {
    set_provider(|| {
        let session = Session::current_for_ever()?;
        session.space.entry_of_this_thread()
    });
}

impl Space {
    fn wait_entry(&self, index: u64) -> Option<&Entry> {
        self.shared(WAITS_AT + index * WAIT).ok()
    }

    fn entry_of_this_thread(&self) -> Option<&Entry> {
        loop {
            let count = self.header().waits.load(Acquire).min(self.geometry.waits);
            let entries = || (0..count).filter_map(|index| self.wait_entry(index));
            if let Some(entry) = entries().find(|entry| entry.claim()) {
                return Some(entry);
            }
            if count == self.geometry.waits {
                return entries().find(|entry| entry.claim_from_the_dead());
            }
            // (Backing a page twice is harmless.)
            self.back_tables(WAITS_AT + count * WAIT, PAGE).ok()?;
            let _ =
                self.header()
                    .waits
                    .compare_exchange(count, count + PAGE / WAIT, AcqRel, Relaxed);
        }
    }
}
