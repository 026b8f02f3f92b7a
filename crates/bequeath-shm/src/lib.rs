//! The session: memory, blocks and counted objects shared by the processes of one tree.
#![doc = include_str!("../README.md")]

mod about;
mod accounts;
mod adopted;
mod arena;
mod audit;
pub mod block;
#[cfg(feature = "broken-variants")]
pub mod broken;
#[cfg(not(feature = "broken-variants"))]
mod broken;
mod budget;
mod census;
mod counting;
mod current;
mod deaths;
pub mod envelope;
mod error;
mod extents;
mod fork;
#[cfg(test)]
mod hostile_tests;
pub mod kind;
mod layout;
mod local;
#[cfg(test)]
mod lost_race_tests;
mod members;
mod memory;
pub mod object;
mod objects;
pub mod observe;
mod reference;
mod registry;
mod runs;
mod scavenger;
pub mod session;
mod site;
mod slate;
mod space;
mod waits;
mod words;

pub use about::{set_name, set_role, AboutProcess, Role};
pub use accounts::Accounts;
pub use adopted::{Adopted, IN_PLACE};
pub use audit::Audit;
pub use block::{Block, Incoming, Outgoing};
pub use budget::{parse_limit, LimitSource, LIMIT_VARIABLE};
pub use census::{Census, HeldBy, Identity, MemberSeen, Observer, PlaceSeen, ReferenceSeen};
pub use deaths::Death;
pub use envelope::{Envelope, IncomingEnvelope, Room};
pub use error::{Error, Result};
pub use fork::{Announced, ForkTicket};
pub use memory::Memory;
pub use object::{register_kind, AnyHandle, Handle, Object};
pub use reference::{BlockName, Reference, UNIT};
pub use session::{Options, Session, Usage};
pub use site::{set_site_finder, Maker, SiteFinder};
pub use slate::{InHand, Slate, SlateSeen};
