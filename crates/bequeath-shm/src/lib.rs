//! The session: memory, blocks and counted objects shared by the processes of one tree.

mod adopted;
pub mod block;
pub mod envelope;
mod error;
pub mod kind;
pub mod object;
mod objects;
mod reference;
pub mod session;

pub use adopted::Adopted;
pub use block::{Block, Incoming, Outgoing};
pub use envelope::{Envelope, IncomingEnvelope, Room};
pub use error::{Error, Result};
pub use object::{AnyHandle, Handle, Object};
pub use reference::{BlockName, Reference, UNIT};
pub use session::{Options, Session, Usage};
