//! What a child of this template uses of the memory that it shares with it: told by one child at its end, made
//! ready in those that wait for a request.
//!
//! Children of one template go the same way, and each would copy the same pages on it while its starter waits.
//! The one that was forked ahead has time. It does nothing but have the pages there: no code runs for it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::OnceLock;

use bequeath_os::footprint::{self, Record, Span};

/// More pages are not kept ahead: a child that wrote to so many is no example, and its successor would hold them
/// while it waits.
const MOST_PAGES: usize = 4096;

/// So many pages are made before the child looks whether it is asked for: two of these take as long as a start has to
/// wait for nothing.
const PIECE: usize = 8;

/// Made in the template, inherited by its children.
static RECORD: OnceLock<Option<Record>> = OnceLock::new();
/// The child that may tell; not a child of its own.
static TELLER: AtomicU32 = AtomicU32::new(0);

/// What a template has been told.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    spans: Vec<Span>,
}

impl Footprint {
    /// In the template, before it forks: a child may tell from now on.
    pub(super) fn new() -> Self {
        let _ = RECORD.get_or_init(|| Record::new().ok());
        Self::default()
    }

    /// Takes what a child has told meanwhile.
    pub(super) fn learn(&mut self) {
        if !self.spans.is_empty() {
            return;
        }
        let Some(told) = record().and_then(Record::take) else {
            return;
        };
        let spans = footprint::within_own_memory(&told);
        if spans.iter().map(|span| span.pages()).sum::<usize>() <= MOST_PAGES {
            self.spans = spans;
        }
    }

    /// In the template: this child has ended, whether or not it was about to tell.
    pub(super) fn has_ended(child: u32) {
        if let Some(record) = record() {
            record.has_ended(child);
        }
    }

    /// The template is going to be another: what was told is true as long as nobody tells better.
    pub(super) fn ask_again(&mut self) {
        self.spans.clear();
        if let Some(record) = record() {
            record.ask_again();
        }
    }

    /// In the child that waits: has the pages there, until somebody asks for it.
    pub(super) fn make(&self, is_asked_for: impl Fn() -> bool) {
        for few in self.spans.iter().flat_map(|span| span.in_pieces(PIECE)) {
            if is_asked_for() {
                return;
            }
            let _ = few.populate();
        }
    }
}

fn record() -> Option<&'static Record> {
    RECORD.get().and_then(Option::as_ref)
}

/// In a child of a template: it may tell at its end.
pub(super) fn become_teller() {
    TELLER.store(std::process::id(), Relaxed);
}

/// To be called when all that matters of a process is done: if it is a template's child and the template wants to
/// know, it tells. Costs next to nothing otherwise.
pub fn tell_footprint() {
    if TELLER.load(Relaxed) == std::process::id() {
        if let Some(record) = record() {
            record.fill();
        }
    }
}
