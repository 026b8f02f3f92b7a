//! Starting, watching and reaping child processes.
//!
//! A [`Child`] is the same thing however it came to be: forked by the caller, exec'ed by
//! [`Command`], or forked from a template.

#[cfg(feature = "broken-variants")]
pub mod broken;
#[cfg(not(feature = "broken-variants"))]
mod broken;
pub mod child;
pub mod command;
pub mod error;
pub mod exit;
pub mod handle;
pub mod launch;
pub mod name;
pub mod report;
pub mod state;
pub mod template;
pub mod tie;
pub mod watch;
mod wire;

pub use child::Child;
pub use command::Command;
pub use error::{Error, Result};
pub use exit::ExitStatus;
pub use handle::Handle;
pub use launch::{Arrived, Launch};
pub use name::set_process_name;
pub use tie::{OnParentDeath, Tie};
pub use watch::Watch;
