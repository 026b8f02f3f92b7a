//! The kinds of objects there are, one number each: part of the layout that members share.

/// `bequeath_sync::Lock`.
pub const LOCK: u32 = 1;
/// `bequeath_sync::RecursiveLock`.
pub const RECURSIVE_LOCK: u32 = 2;
/// `bequeath_sync::Semaphore`.
pub const SEMAPHORE: u32 = 3;
/// `bequeath_sync::Condition`.
pub const CONDITION: u32 = 4;
/// `bequeath_sync::Event`.
pub const EVENT: u32 = 5;
/// `bequeath_sync::Barrier`.
pub const BARRIER: u32 = 6;
/// [`crate::Memory`]: plain bytes for `Value` and `Array`.
pub const MEMORY: u32 = 7;
/// What keeps an adopted block after a fork.
pub const KEEPER: u32 = 8;
/// The channel's queue.
pub const QUEUE: u32 = 16;
/// The `Lock<T>` of Rust programs: a value with its lock.
pub const LOCKED_VALUE: u32 = 17;
/// What a pool's worker has in its hands.
pub const WORKER_SLATE: u32 = 18;
/// Whether a pool's parent sleeps.
pub const POOL_BELL: u32 = 19;
/// Free for Rust programs: first kind that this project does not use.
pub const FIRST_FREE: u32 = 1024;
