#![allow(unsafe_code)]
//! `ProcessId`: a process that cannot be mistaken for a later one with the same number, and whether
//! it is dead.
//!
//! A pid alone is reused; pid plus start time (clock ticks since boot, the low 32 bits) is not
//! within any time that matters. Death is *proven*, never guessed from time: a stopped, frozen or
//! debugged process is alive for as long as it takes.
//!
//! # Safety invariants
//! - The cached identity lives in a private anonymous page that is never unmapped, so its address is
//!   good for ever; it is only accessed as one `AtomicU64`.
//! - The kernel wipes that page in a forked child, so a child never acts under its parent's name.

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

#[cfg(not(any(loom, shuttle)))]
use bequeath_os::{pidfd, Errno, PidFd};
use bequeath_os::{procfs, Mapping};

/// Where the pid stands in the bits, as in a cell's word: 2^22 is the largest that Linux gives.
pub(crate) const PID_MASK: u64 = 0x7fff_ff00;
const PID_SHIFT: u32 = 8;

/// A process: pid in bits 8 to 30, start time in bits 32 to 63, the rest zero.
///
/// # After fork
/// [`current`](Self::current) is the child's own from its first instruction on.
///
/// # If a peer dies
/// Its identity is never used again; [`is_dead`](Self::is_dead) becomes true once every thread is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessId(u64);

impl ProcessId {
    /// This process.
    #[must_use]
    #[inline]
    #[cfg(not(any(loom, shuttle)))]
    pub fn current() -> Self {
        let page = PAGE.load(Ordering::Acquire);
        if !page.is_null() {
            // SAFETY: a non-null PAGE points into a page that is mapped for ever and holds an AtomicU64.
            let cached = unsafe { &*page }.load(Ordering::Relaxed);
            if cached > EXECUTING {
                return Self(cached);
            }
        }
        current_slow()
    }

    /// The process that has this number now; `None` when there is none or procfs hides it.
    #[must_use]
    #[cfg(not(any(loom, shuttle)))]
    pub fn of(pid: u32) -> Option<Self> {
        Self::new(pid, procfs::stat(pid)?.start_ticks)
    }

    /// The process with this number that started then, in clock ticks; `None` for no number of a process.
    #[must_use]
    pub fn new(pid: u32, ticks: u32) -> Option<Self> {
        let placed = u64::from(pid) << PID_SHIFT;
        (pid != 0 && placed & !PID_MASK == 0).then_some(Self(placed | u64::from(ticks) << 32))
    }

    /// Its number.
    #[must_use]
    pub const fn pid(self) -> u32 {
        ((self.0 & PID_MASK) >> PID_SHIFT) as u32
    }

    /// When it started, in clock ticks since boot, low 32 bits; zero when procfs did not tell.
    #[must_use]
    pub const fn start_ticks(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// For shared memory.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// From shared memory: `None` unless the bits can be a process.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits & 0x8000_00ff == 0 && bits & PID_MASK != 0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// The owner that a cell's or lock's word names.
    pub(crate) const fn from_word(word: u64) -> Option<Self> {
        Self::from_bits(word & !0x8000_00ff)
    }

    /// Whether every thread of it is gone, reaped or not. Costs several system calls.
    #[must_use]
    #[cfg(not(any(loom, shuttle)))]
    pub fn is_dead(self) -> bool {
        if self == Self::current() {
            return false;
        }
        // The state letter in procfs will not do: it says Z when only the first thread has ended.
        let gone = match PidFd::open(self.pid()) {
            Ok(process) => process.is_dead().unwrap_or(false),
            Err(error) if error.errno == Errno::SRCH => true,
            // A number that is now a mere thread's: the process is gone.
            Err(error) if error.errno == Errno::INVAL || error.errno == Errno::NOENT => true,
            // No descriptor left, or no pidfds here: ask without one.
            Err(_) => pidfd::is_gone(self.pid()),
        };
        gone || self.was_replaced()
    }

    #[cfg(not(any(loom, shuttle)))]
    /// Whether its number now belongs to a process with another start time.
    fn was_replaced(self) -> bool {
        self.start_ticks() != 0
            && procfs::stat(self.pid()).is_some_and(|stat| stat.start_ticks != self.start_ticks())
    }
}

/// In a model each thread is a process, and dies when the model says so.
///
/// The liveness oracle is a Release store of the dying and an Acquire load of whoever asks: less than what
/// the kernel gives, so what a taker must see of the dead it has to have from the cell.
#[cfg(any(loom, shuttle))]
pub mod model {
    use core::cell::Cell;
    use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::ProcessId;
    use crate::atomic::{checker, Ordering};
    use checker::sync::atomic::AtomicU64;

    checker::lazy_static! {
        static ref DEAD: AtomicU64 = AtomicU64::new(0);
        /// In this model somebody may die.
        static ref MORTAL: AtomicBool = AtomicBool::new(false);
        /// In this model one wait for an owner gives up though nobody died.
        static ref IMPATIENT: AtomicBool = AtomicBool::new(false);
    }
    checker::thread_local! {
        static ME: Cell<u32> = Cell::new(1);
        static STORES_LEFT: Cell<u32> = Cell::new(u32::MAX);
        static OVER: Cell<bool> = Cell::new(false);
        static LOOKED: Cell<(usize, u64)> = Cell::new((0, 0));
    }

    /// From here on this thread is process `pid` (2 to 63).
    pub fn act_as(pid: u32) {
        ME.with(|me| me.set(pid));
    }

    /// This thread's process is dead; the thread must do nothing more.
    pub fn die() {
        DEAD.fetch_or(1 << ProcessId::current().pid(), Ordering::Release);
        crate::park::somebody_died();
    }

    /// Said by the first thread before there are others: a sleeper's slice ends when somebody dies.
    pub fn has_deaths() {
        MORTAL.store(true, Relaxed);
    }

    /// Said likewise: the first wait for an owner ends with its slice, though nobody died.
    pub fn has_a_short_slice() {
        IMPATIENT.store(true, Relaxed);
    }

    #[cfg(loom)]
    pub(crate) fn is_impatient() -> bool {
        IMPATIENT.swap(false, Relaxed)
    }

    /// Does this, but this thread's process dies right after its `stores`th store; says whether it did.
    #[cfg(loom)]
    pub fn dies_after(stores: u32, act: impl FnOnce()) -> bool {
        STORES_LEFT.with(|left| left.set(stores));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        STORES_LEFT.with(|left| left.set(u32::MAX));
        match ended {
            Err(panic) if !is_over() => std::panic::resume_unwind(panic),
            ended => ended.is_err(),
        }
    }

    /// Whether this thread's process is dead.
    #[cfg(loom)]
    pub(crate) fn is_over() -> bool {
        OVER.with(Cell::get)
    }

    /// This thread's process dies right after its `stores`th store from here on, and stops for ever.
    #[cfg(shuttle)]
    pub fn dies_after(stores: u32) {
        STORES_LEFT.with(|left| left.set(stores));
    }

    pub(crate) fn has_stored() {
        let left = STORES_LEFT.with(|left| {
            if left.get() != u32::MAX {
                left.set(left.get() - 1);
            }
            left.get()
        });
        if left == 0 {
            stop_for_ever();
        }
    }

    /// Dead from here on: nothing of this thread runs any more, not even what it would drop.
    pub fn stop_for_ever() -> ! {
        STORES_LEFT.with(|left| left.set(u32::MAX));
        die();
        // loom wants every thread to end: this one does so without touching anything.
        #[cfg(loom)]
        {
            OVER.with(|over| over.set(true));
            std::panic::resume_unwind(Box::new("stopped for ever"));
        }
        #[cfg(shuttle)]
        loop {
            checker::thread::park();
        }
    }

    impl ProcessId {
        /// The process that this thread plays.
        #[must_use]
        pub fn current() -> Self {
            ME.with(|me| Self::played(me.get()))
        }

        const fn played(pid: u32) -> Self {
            Self((pid as u64) << super::PID_SHIFT | 7 << 32)
        }

        /// The process that is played under this number.
        #[must_use]
        #[allow(clippy::unnecessary_wraps)]
        pub fn of(pid: u32) -> Option<Self> {
            Some(Self::played(pid))
        }

        /// Whether the model declared it dead.
        #[must_use]
        pub fn is_dead(self) -> bool {
            DEAD.load(Ordering::Acquire) & 1 << self.pid() != 0
        }

        /// A question: was there a death after this call?
        #[cfg(shuttle)]
        pub(crate) fn somebody_has_died_since() -> impl Fn() -> bool {
            let before = DEAD.load(Ordering::Acquire);
            move || DEAD.load(Ordering::Acquire) != before
        }

        /// A question: did somebody die since this thread looked for the dead while it waited for `word`?
        /// (In truth it looks again and again; a model must come to an end.)
        #[cfg(loom)]
        pub(crate) fn somebody_has_died_since<T>(word: &T) -> impl Fn() -> bool {
            let address = core::ptr::from_ref(word) as usize;
            move || {
                if !MORTAL.load(Relaxed) {
                    return false;
                }
                let now = (address, DEAD.load(Ordering::Acquire));
                let is_news = now.1 != 0 && LOOKED.with(Cell::get) != now;
                if is_news {
                    LOOKED.with(|looked| looked.set(now));
                }
                is_news
            }
        }
    }
}

/// The wiped-on-fork page, or null before first use.
static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(core::ptr::null_mut());
/// Used instead where the kernel cannot wipe: checked against the pid at each use.
static CHECKED: AtomicU64 = AtomicU64::new(0);

#[cold]
#[cfg_attr(any(loom, shuttle), allow(dead_code))]
fn current_slow() -> ProcessId {
    #[cfg(not(any(loom, shuttle)))]
    crate::exec::pass();
    let pid = std::process::id();
    let cached = ProcessId(CHECKED.load(Ordering::Relaxed));
    if cached.pid() == pid && PAGE.load(Ordering::Acquire).is_null() {
        return cached;
    }
    let ticks = procfs::own_stat().map_or(0, |stat| stat.start_ticks);
    let me = ProcessId::new(pid, ticks)
        .expect("a running process has a number within the kernel's limit");
    match page() {
        Some(page) => {
            // SAFETY: as in `current`.
            let name = unsafe { &*page };
            // Not if an exec withholds it.
            let _ = name.compare_exchange(0, me.0, Ordering::Relaxed, Ordering::Relaxed);
        }
        None => CHECKED.store(me.0, Ordering::Relaxed),
    }
    me
}

/// In the page: nobody may have a name until the exec has failed. No process's bits.
#[cfg_attr(any(loom, shuttle), allow(dead_code))]
const EXECUTING: u64 = 1;

/// Whether every thread has to ask anew, the slow way, for its process's name.
#[cfg(not(any(loom, shuttle)))]
pub(crate) fn withhold_name(withhold: bool) {
    let page = PAGE.load(Ordering::Acquire);
    if !page.is_null() {
        let value = if withhold { EXECUTING } else { 0 };
        // SAFETY: as in `current`.
        unsafe { &*page }.store(value, Ordering::SeqCst);
    }
}

fn page() -> Option<*mut AtomicU64> {
    let page = PAGE.load(Ordering::Acquire);
    if !page.is_null() {
        return Some(page);
    }
    let fresh = Mapping::anonymous(bequeath_os::mapping::page_size(), false).ok()?;
    fresh.wipe_on_fork().ok()?;
    let address = fresh.as_ptr().cast::<AtomicU64>();
    match PAGE.compare_exchange(
        core::ptr::null_mut(),
        address,
        Ordering::AcqRel,
        Ordering::Acquire,
    ) {
        Ok(_) => Some(fresh.leak().as_ptr().cast()),
        Err(theirs) => Some(theirs),
    }
}

/// A number for this thread, never given to another thread of this process or of its forked
/// children: for recursion and for naming a lock's owner.
#[must_use]
#[inline]
pub fn thread_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NUMBER: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
    }
    NUMBER.with(|number| match number.get() {
        0 => {
            let fresh = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            number.set(fresh);
            fresh
        }
        known => known,
    })
}

type Asked = fn(ProcessId) -> bool;
static EXITED_IN_ORDER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Says how to learn whether a dead process ended in order (the session's table of members knows).
/// Without an answer every dead process counts as killed.
pub fn set_exited_in_order(ask: Asked) {
    EXITED_IN_ORDER.store(ask as *mut (), Ordering::Release);
}

/// Calls what `waiting::set_provider` was given.
pub(crate) fn call_provider(provide: *mut ()) -> Option<&'static crate::waiting::Entry> {
    // SAFETY: a non-null value was stored by `set_provider` from a function of this very type.
    let provide = unsafe {
        core::mem::transmute::<*mut (), fn() -> Option<&'static crate::waiting::Entry>>(provide)
    };
    provide()
}

/// Whether this dead process ended in order.
#[must_use]
pub fn exited_in_order(process: ProcessId) -> bool {
    let ask = EXITED_IN_ORDER.load(Ordering::Acquire);
    if ask.is_null() {
        return false;
    }
    // SAFETY: a non-null value was stored by `set_exited_in_order` from a function of this very type.
    let ask = unsafe { core::mem::transmute::<*mut (), Asked>(ask) };
    ask(process)
}
