//! Templates: single-threaded processes, started once by exec, that children are forked from.
//!
//! ```text
//!   starter                         template                        child
//!   Template::launch ── exec ─────▶ Server::new, preload
//!   door ─── HELLO: a socket, my pidfd ─▶ one Requester more
//!   Template::start ── START ─────▶ Server::next_work → Work
//!                                   fork ─────────────────────────▶ Request::become_child
//!            ◀──────── STARTED ─── Server::started                   becomes its starter's
//!            ──────────────────────── go ahead ───────────────────────▶ … runs …
//!   Child::wait (pidfd) ◀─ ENDED ── reaps                            ends
//! ```
//!
//! The *door* is a socket whose sending end every process of the tree may hold: who wants to start
//! children sends one end of a socket pair of its own through it. A template ends when nobody holds
//! the door's sending end and no requester is left, so it ends with the program however that ends,
//! and needs no name in any file system.
//!
//! A template that has modules loaded learns more of them: [`Work::Rest`] is the interpreter's time for
//! that. What a child was seen to import is loaded in a *trial* first, one more child that nobody
//! waits for; only what left nothing behind there is loaded in the template itself.

mod ahead;
mod cleanliness;
mod client;
mod dependence;
mod footprint;
pub(crate) mod go_ahead;
mod protocol;
mod request;
mod requesters;
mod served;
mod server;
mod spare;

pub use cleanliness::Cleanliness;
pub use client::{Answer, Template};
pub use dependence::Dependence;
pub use footprint::tell_footprint;
pub use request::{Become, LastStep, Request};
pub use server::{Server, Work};
pub use spare::{leave_template, Knowledge, Seat};

/// A number for what a template must have in common with those who use it (FNV-1a).
#[must_use]
pub fn key(parts: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}
