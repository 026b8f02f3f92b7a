//! The session: the processes of one tree, the memory that they share, and what lives in it.

use std::os::fd::{BorrowedFd, OwnedFd};

use bequeath_shm::{Block, Options, Usage};
use bytemuck::Pod;
use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::barrier::Barrier;
use crate::child::Child;
use crate::condition::Condition;
use crate::error::Result;
use crate::event::Event;
use crate::lock::{self, Lock};
use crate::memory::Memory;
use crate::queue::Queue;
use crate::semaphore::Semaphore;
use crate::spawn::Worker;

/// This process's membership in a session; clones share it.
///
/// The memory has no name anywhere: it is gone when the last member is, however that ended.
///
/// # After fork
/// Workers started by [`spawn`](Session::spawn) are members. A child made by a plain `fork` of a
/// Rust program must not use the session.
///
/// # If a peer dies
/// What it held is given back to the others; the errors of each object tell of its death.
///
/// ```
/// let session = bequeath::Session::new()?;
/// let queue = session.queue::<String>(None)?;
/// queue.send(&"hello".to_owned())?;
/// assert_eq!(queue.recv()?, "hello");
/// # Ok::<(), bequeath::Error>(())
/// ```
#[derive(Clone)]
pub struct Session(bequeath_shm::Session);

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("usage", &self.0.usage())
            .finish()
    }
}

impl Session {
    /// Makes a session with this process as its first member. The first one that a process makes is
    /// its [`current`](Session::current) one for the rest of its life.
    ///
    /// # Errors
    /// Where the kernel has no memory files, or limits leave no room for one.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn new() -> Result<Self> {
        Self::with(&Options::default())
    }

    /// As [`new`](Session::new), with a size or a memory budget of one's own.
    ///
    /// # Errors
    /// As [`new`](Session::new).
    ///
    /// ```
    /// let mut options = bequeath::Options::default();
    /// options.limit = Some(64 << 20);
    /// let session = bequeath::Session::with(&options)?;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn with(options: &Options) -> Result<Self> {
        let session = bequeath_shm::Session::create(options)?;
        bequeath_channel::board::ensure()?;
        register_kinds();
        if Self::current().is_none() {
            session.set_current();
        }
        Ok(Self(session))
    }

    /// The session that this process belongs to: in a worker, its parent's.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert!(bequeath::Session::current().is_some());
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn current() -> Option<Self> {
        bequeath_shm::Session::current().map(Self)
    }

    /// Joins the session of another program of the same user, which handed over its
    /// [`descriptor`](Session::descriptor).
    ///
    /// # Errors
    /// When the descriptor is no session's, or one of another user or namespace.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let file = std::fs::File::open("/dev/null")?;
    /// assert!(bequeath::Session::attach(file.into()).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn attach(descriptor: OwnedFd) -> Result<Self> {
        register_kinds();
        Ok(Self(bequeath_shm::Session::attach(descriptor)?))
    }

    /// What another program needs to [`attach`](Session::attach).
    ///
    /// # Errors
    /// When this program closed it.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let fd = session.descriptor()?;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.0.descriptor()?)
    }

    /// Starts a copy of this program that runs `function` with `arguments`. See [`Worker::spawn`].
    ///
    /// # Errors
    /// As [`Worker::spawn`].
    ///
    /// ```
    /// fn add((a, b): (u32, u32)) -> u32 {
    ///     a + b
    /// }
    ///
    /// fn main() -> Result<(), bequeath::Error> {
    ///     bequeath::init();
    ///     let session = bequeath::Session::new()?;
    ///     assert_eq!(session.spawn(add, (2, 3))?.result()?, 5);
    ///     Ok(())
    /// }
    /// ```
    pub fn spawn<A, R>(&self, function: fn(A) -> R, arguments: A) -> Result<Child<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.worker().spawn(function, arguments)
    }

    /// A worker to be given a name or tied to this process's life before it is started.
    ///
    /// ```
    /// # let session = bequeath::Session::new()?;
    /// let worker = session.worker().name("reader").daemon(true);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub const fn worker(&self) -> Worker<'_> {
        Worker::new(self)
    }

    /// A queue of values of type `T`; with a capacity, sending waits while it is full.
    ///
    /// # Errors
    /// Beyond the memory budget.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let queue = session.queue::<(u32, String)>(Some(100))?;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[track_caller]
    pub fn queue<T>(&self, capacity: Option<u64>) -> Result<Queue<T>> {
        Queue::create(self, capacity)
    }

    /// A value that one process at a time changes.
    ///
    /// # Errors
    /// Beyond the memory budget.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let counter = session.lock(0_u64)?;
    /// *counter.lock()? += 1;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[track_caller]
    pub fn lock<T: Pod>(&self, value: T) -> Result<Lock<T>> {
        Lock::create(self, value)
    }

    /// A condition to wait for with a [`Lock`] released meanwhile.
    ///
    /// # Errors
    /// Beyond the memory budget.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let condition = session.condition()?;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[track_caller]
    pub fn condition(&self) -> Result<Condition> {
        Condition::create(self)
    }

    /// An event that is not set.
    ///
    /// # Errors
    /// Beyond the memory budget.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let event = session.event()?;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[track_caller]
    pub fn event(&self) -> Result<Event> {
        Event::create(self)
    }

    /// A semaphore with `units`; with a bound it never holds more, and gives back what the dead took.
    ///
    /// # Errors
    /// For more units than the bound; beyond the memory budget.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let places = session.semaphore(4, Some(4))?;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[track_caller]
    pub fn semaphore(&self, units: u32, bound: Option<u32>) -> Result<Semaphore> {
        Semaphore::create(self, units, bound)
    }

    /// A barrier for `parties` processes or threads.
    ///
    /// # Errors
    /// For no party; beyond the memory budget.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let barrier = session.barrier(2)?;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[track_caller]
    pub fn barrier(&self, parties: u64) -> Result<Barrier> {
        Barrier::create(self, parties)
    }

    /// Shared memory of `len` zeroed bytes, for any number of processes at a time.
    ///
    /// # Errors
    /// Beyond the memory budget.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let memory = session.memory(1 << 20)?;
    /// assert!(memory.write_at(0, b"for all"));
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[track_caller]
    pub fn memory(&self, len: usize) -> Result<Memory> {
        Memory::create(self, len)
    }

    /// A block of shared memory of at least `len` bytes with undefined content; it is moved to
    /// another process inside a [`Message`](crate::Message), without a copy.
    ///
    /// # Errors
    /// Beyond the memory budget.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let mut block = session.allocate(1 << 20)?;
    /// assert!(block.write_at(0, b"payload"));
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn allocate(&self, len: usize) -> Result<Block> {
        Ok(self.0.allocate(len)?)
    }

    /// Figures of this moment.
    ///
    /// # Errors
    /// When this program closed the session's descriptor.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert_eq!(session.usage()?.members, 1);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn usage(&self) -> Result<Usage> {
        Ok(self.0.usage()?)
    }

    /// Changes the memory budget, for all members.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// session.set_limit(32 << 20);
    /// assert_eq!(session.usage()?.limit, 32 << 20);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn set_limit(&self, bytes: u64) {
        self.0.set_limit(bytes);
    }

    /// Gives back what dead members held, and says how many there were. Happens by itself when a
    /// death is met or memory is short; call it to have it now.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert_eq!(session.scavenge(), 0);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn scavenge(&self) -> usize {
        self.0.scavenge()
    }

    pub(crate) const fn engine(&self) -> &bequeath_shm::Session {
        &self.0
    }
}

/// Any member may be the one that gives back what a dead process had, also of a kind that it never used itself.
pub(crate) fn register_kinds() {
    bequeath_channel::register_kinds();
    bequeath_shm::register_kind::<lock::Body>();
}
