//! Whoever takes results one by one comes back for the next ones, mostly at once. Until it does, the driver's thread
//! lets it: no worker rings, and the two do not fight for the interpreter at each result.
//!
//! The thread looks once in a while whether the taker was there meanwhile. If not, all is as ever: it
//! hears the workers itself, and they ring when it sleeps.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bequeath_os::Deadline;
use pyo3::prelude::*;

use super::driver::PoolDriver;
use super::stream::ResultStream;

/// So long the driver's thread lets a taker come back; about what workers have ahead.
pub const PATIENCE: Duration = Duration::from_millis(1);

/// Between the driver's thread and those who take results.
#[derive(Default)]
pub struct Lease {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// How often a taker that came back soon was there.
    times: u64,
    /// As many as the driver's thread has seen.
    seen: u64,
    /// The driver's thread looks again by itself: nobody need ring.
    patient: bool,
}

impl Lease {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a taker that came back soon and goes again: whether the driver's thread looks by itself.
    fn renew(&self) -> bool {
        let mut held = self.held();
        held.times += 1;
        held.patient
    }

    /// For the driver's thread, in place of hearing: whether it lets a taker do it.
    pub fn is_renewed(&self) -> bool {
        let mut held = self.held();
        held.patient = held.seen != held.times;
        held.seen = held.times;
        held.patient
    }

    /// The driver's thread has something to do.
    pub fn end(&self) {
        self.held().patient = false;
    }
}

impl PoolDriver {
    /// Hears the workers until the stream has something, for whoever waits for that and was `away` so long. False
    /// when others hear them already, or want to; or when the deadline passed.
    ///
    /// # Errors
    /// What a signal handler raised; in a forked child, that the pool is another's.
    pub fn attend_stream(
        &self,
        py: Python<'_>,
        stream: &Bound<'_, ResultStream>,
        away: u64,
        deadline: Deadline,
    ) -> PyResult<bool> {
        self.check_home()?;
        if self.is_baton_wanted() || self.is_finished() || !self.try_baton() {
            self.hand_baton_over();
            return Ok(false);
        }
        self.bell.awake();
        let heard = self.hear_for(py, stream.as_any(), deadline, Some(stream.get()));
        if !self.is_baton_here() {
            return heard;
        }
        let soon = u128::from(away) < PATIENCE.as_nanos();
        if soon && self.lease.renew() {
            self.drop_baton();
        } else if !self.give_baton_back() {
            self.wake();
        }
        heard
    }
}
