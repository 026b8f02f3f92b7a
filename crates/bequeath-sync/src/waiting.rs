//! Who sleeps on what, for people who look at a program from outside.
//!
//! Each thread that sleeps has an entry in memory that others can read (the session provides it). It
//! writes there on which word it sleeps before it does so, and clears it when its wait is over. Only
//! sleepers do any of this; nobody who sleeps depends on it. A killed thread leaves its entry as it
//! was: readers ignore the entries of the dead, and the session gives them to others.

use core::cell::Cell;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use bequeath_os::Deadline;

use crate::owner::{thread_number, ProcessId};

/// One thread's entry. All zero is nobody's.
///
/// # After fork
/// A child's threads are given entries of their own at their first sleep.
///
/// # If a peer dies
/// Its entries keep its name, by which they are known to mean nothing.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Entry {
    process: AtomicU64,
    /// The kernel's number of the thread; above it, [`thread_number`]'s.
    thread: AtomicU64,
    /// The address of the word slept on, in that process; 0 = not asleep.
    place: AtomicU64,
    /// Since when, in nanoseconds of the monotonic clock; written before `place`.
    since: AtomicU64,
}

const _: () = assert!(core::mem::size_of::<Entry>() == 32);

/// An entry as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sleeper {
    /// Whose.
    pub process: ProcessId,
    /// The kernel's number of the thread.
    pub thread_id: u32,
    /// The number by which locks know it (its low 32 bits).
    pub thread_number: u32,
    /// The address of the word slept on, in that process; 0 = not asleep.
    pub place: u64,
    /// Since when, in nanoseconds of the monotonic clock.
    pub since: u64,
}

impl Entry {
    /// Claims a free entry for this thread; false when it is somebody's.
    #[must_use]
    pub fn claim(&self) -> bool {
        self.take(0)
    }

    /// Claims an entry whose process is dead.
    #[must_use]
    pub fn claim_from_the_dead(&self) -> bool {
        let former = self.process.load(Ordering::Relaxed);
        match ProcessId::from_bits(former) {
            Some(process) if !process.is_dead() => false,
            _ => self.take(former),
        }
    }

    fn take(&self, from: u64) -> bool {
        let me = ProcessId::current().to_bits();
        let taken = self
            .process
            .compare_exchange(from, me, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if taken {
            self.place.store(0, Ordering::Relaxed);
            let number = thread_number() << 32;
            let thread = u64::from(bequeath_os::clock::thread_id()) | number;
            self.thread.store(thread, Ordering::Release);
        }
        taken
    }

    /// Reads an entry that was copied as four words; `None` when it is nobody's.
    #[must_use]
    pub fn read(words: [u64; 4]) -> Option<Sleeper> {
        let [process, thread, place, since] = words;
        Some(Sleeper {
            process: ProcessId::from_bits(process)?,
            thread_id: thread as u32,
            thread_number: (thread >> 32) as u32,
            place,
            since,
        })
    }
}

type Provide = fn() -> Option<&'static Entry>;
static PROVIDE: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Says where this process's threads find an entry that they may [`claim`](Entry::claim).
pub fn set_provider(provide: Provide) {
    PROVIDE.store(provide as *mut (), Ordering::Release);
}

/// What this thread knows of its entry.
struct Mine {
    /// Who asked for it: a forked child asks again.
    process: Cell<u64>,
    entry: Cell<Option<&'static Entry>>,
}

impl Mine {
    fn entry(&self) -> Option<&'static Entry> {
        let me = ProcessId::current().to_bits();
        if self.process.get() != me {
            let provide = PROVIDE.load(Ordering::Acquire);
            if provide.is_null() {
                return None;
            }
            self.entry.set(crate::owner::call_provider(provide));
            self.process.set(me);
        }
        // (Whoever writes into everybody's memory may have taken it away.)
        self.entry
            .get()
            .filter(|entry| entry.process.load(Ordering::Relaxed) == me)
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        if self.process.get() == ProcessId::current().to_bits() {
            if let Some(entry) = self.entry() {
                entry.place.store(0, Ordering::Relaxed);
                entry.process.store(0, Ordering::Release);
            }
        }
    }
}

thread_local! {
    static MINE: Mine = const { Mine { process: Cell::new(0), entry: Cell::new(None) } };
}

/// One wait of this thread, however often it sleeps in it: dropped, the thread waits no more.
#[derive(Debug, Default)]
pub struct Waiting {
    on: usize,
}

impl Waiting {
    /// Not waiting yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { on: 0 }
    }

    /// This thread is about to sleep on `word`.
    #[cold]
    pub fn on<T>(&mut self, word: &T) {
        let address = core::ptr::from_ref(word) as usize;
        if crate::atomic::IS_MODEL || self.on == address {
            return;
        }
        let _ = MINE.try_with(|mine| {
            if let Some(entry) = mine.entry() {
                self.on = address;
                entry.place.store(0, Ordering::Relaxed);
                entry
                    .since
                    .store(Deadline::now().as_nanos(), Ordering::Release);
                entry.place.store(address as u64, Ordering::Release);
            }
        });
    }
}

impl Drop for Waiting {
    #[inline]
    fn drop(&mut self) {
        if self.on != 0 {
            let _ = MINE.try_with(|mine| {
                if let Some(entry) = mine.entry() {
                    entry.place.store(0, Ordering::Release);
                }
            });
        }
    }
}
