//! What a session is doing, seen from outside: its processes, queues and locks, who waits for whom, who
//! died and of what, and where its memory went.
//!
//! Everything is read: the arena through procfs, by the same user; the rest from procfs itself. Nothing is
//! traced, locked, signalled or asked, so that a program that is stopped or wedged is seen as it is.
//! What changes meanwhile may be seen half before and half after; numbers from memory are only ever
//! told or used as keys, after a check.
//!
//! ```no_run
//! let report = bequeath_inspect::inspect(4242)?;
//! println!("{report}");
//! # Ok::<(), bequeath_inspect::Error>(())
//! ```

mod ages;
mod collect;
pub mod doctor;
mod error;
mod find;
mod graph;
mod objects;
mod procfs;
pub mod report;
mod text;

pub use error::{Error, Result};
pub use report::Report;

/// What the sessions of this process are doing.
///
/// # Errors
/// See [`Error`].
pub fn inspect(pid: u32) -> Result<Report> {
    Onlooker::new().inspect(pid)
}

/// Looks again and again, and remembers which lock it saw held by whom: for how long a lock is held that
/// nobody waits for is known to it from the second look on.
#[derive(Debug, Default)]
pub struct Onlooker(ages::Looks);

impl Onlooker {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the sessions of this process are doing.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn inspect(&mut self, pid: u32) -> Result<Report> {
        let arenas = find::arenas(pid)?;
        let look = |arena| collect::session(arena, &mut self.0);
        Ok(Report {
            schema: report::SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            pid,
            sessions: arenas.into_iter().map(look).collect::<Result<_>>()?,
        })
    }
}
