//! Processes, queues and locks that survive death: bequeath's engine for Rust programs.
//!
//! ```
//! use bequeath::{Queue, Session};
//!
//! fn worker((tasks, results): (Queue<u64>, Queue<u64>)) {
//!     let n = tasks.recv().expect("a task");
//!     results.send(&(n * n)).expect("the parent listens");
//! }
//!
//! fn main() -> Result<(), bequeath::Error> {
//!     bequeath::init(); // first: in a started copy of this program, this runs `worker`
//!     let session = Session::new()?;
//!     let (tasks, results) = (session.queue(None)?, session.queue(None)?);
//!     let child = session.spawn(worker, (tasks.clone(), results.clone()))?;
//!     tasks.send(&12)?;
//!     assert_eq!(results.recv()?, 144);
//!     child.result()
//! }
//! ```
//!
//! Handles may stand anywhere inside serde types, as arguments of [`Session::spawn`] and inside
//! messages through a [`Queue`], to children or siblings, also when the sender has exited meanwhile.
//! What is sent travels as the plain part of pickle: a Python program with bequeath at the other end
//! reads it ([`Session::accept`]), and nothing that a pickle names is ever executed here.
//!
//! | Rust | Python |
//! |---|---|
//! | `()`, unit structs, `None` | `None` |
//! | `Some(x)`, newtype structs | `x` |
//! | `bool`, integers, floats, `char`, strings | `bool`, `int`, `float`, `str` |
//! | [`Bytes`] | `bytes` |
//! | sequences (also `Vec<u8>`); tuples | `list`; `tuple` |
//! | maps, structs | `dict`; a struct's keys are `str` |
//! | unit variants; other variants | `str`; a `dict` of one key, `{"Variant": content}` |
//! | [`Queue`], [`Event`], [`Semaphore`], [`Barrier`] | the class of that name; a `JoinableQueue` and a `SimpleQueue` are read, too |
//! | `Lock<()>`; [`Condition`] | `Lock`; a `Condition` is read only |
//! | [`Memory`] | `SharedBytes`, a buffer; `RawArray`, `RawValue` and `BufferWrapper` are read, too |
//! | [`Descriptor`] and what [`descriptor`] serves | a socket, or else a `FileIO`; files, connections and `DupFd` are read, too |
//!
//! As in JSON, `Some(None)` and `Some(())` come back as `None`.
//! Whoever is killed, at whatever instruction, the others go on: a message is visible wholly or not
//! at all, and a [`Lock`] whose holder died says so.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod accept;
mod barrier;
mod bytes;
mod child;
mod codec;
mod condition;
mod dead;
pub mod descriptor;
mod error;
mod event;
mod forms;
mod function;
mod line;
mod lock;
mod memory;
mod queue;
mod semaphore;
mod session;
mod spawn;
mod transfer;
mod wait;
mod worker;

pub use barrier::Barrier;
pub use bequeath_inspect as inspect;
pub use bequeath_process::ExitStatus;
pub use bequeath_shm::{AnyHandle, Block, Options, Usage};
pub use bytemuck;
pub use bytes::Bytes;
pub use child::Child;
pub use condition::Condition;
pub use dead::DeadProcess;
pub use descriptor::Descriptor;
pub use error::{Error, Result};
pub use event::Event;
pub use lock::{Abandoned, Lock, LockError, LockGuard};
pub use memory::Memory;
pub use queue::{Message, Queue};
pub use semaphore::Semaphore;
pub use session::Session;
pub use spawn::Worker;
pub use wait::wait;
pub use worker::init;
