//! Lock, RLock, Semaphore, BoundedSemaphore, Condition, Event and Barrier as Python sees them:
//! multiprocessing's interface over `bequeath-sync` in the session's memory.
//!
//! Every operation is first tried attached to the interpreter, since it nearly always succeeds at
//! once; only a real wait detaches.

mod barrier;
mod condition;
mod event;
mod holdable;
mod locks;
mod owner_name;
mod semaphore;
mod shared;
mod view;

pub use barrier::Barrier;
pub use condition::{Condition, WaiterCount};
pub use event::Event;
pub use locks::{Lock, RLock};
pub use semaphore::{BoundedSemaphore, Semaphore};
pub use shared::rebuild_synchronized;
pub use view::SemLockView;
