#![allow(unsafe_code)]
//! What a process passes on to its children by fork or exec, piece by piece: to look at, to set.
//!
//! # Safety invariants
//! Every raw call here gets numbers, or a structure that is whole and of the size that is told, and
//! changes nothing but attributes of the calling process.

use std::ffi::{c_int, CStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::errno::{last, Errno, Error, Named, Result};

/// What the kernel calls the calling thread (the main thread's is the process's): 15 bytes at most.
///
/// # Errors
/// Never, in practice.
pub fn set_name(name: &CStr) -> Result<()> {
    rustix::thread::set_name(name).named("prctl")
}

// --- directories -----------------------------------------------------------------------------

/// The working directory, as a descriptor that only names it.
///
/// # Errors
/// When descriptors ran out, or the directory may not be looked at.
pub fn working_directory() -> Result<OwnedFd> {
    rustix::fs::open(
        c".",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .named("open")
}

/// Makes this the working directory.
///
/// # Errors
/// EACCES.
pub fn set_working_directory(directory: impl AsFd) -> Result<()> {
    rustix::process::fchdir(directory).named("fchdir")
}

/// Device and inode of the root directory.
///
/// # Errors
/// EACCES.
pub fn root_directory() -> Result<(u64, u64)> {
    file_identity(Path::new("/"))
}

/// Device and inode of a file.
///
/// # Errors
/// ENOENT, EACCES.
pub fn file_identity(path: &Path) -> Result<(u64, u64)> {
    let stat = rustix::fs::stat(path).named("stat")?;
    Ok((stat.st_dev as u64, stat.st_ino as u64))
}

/// The file mode creation mask is set; what it was is returned.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(Mode::from_raw_mode(mask)).as_raw_mode()
}

// --- limits and scheduling ---------------------------------------------------------------------

/// How many kinds of resource limits there are.
pub const LIMITS: usize = 16;

/// All resource limits, soft and hard, by their number.
#[must_use]
pub fn limits() -> [(u64, u64); LIMITS] {
    let mut all = [(u64::MAX, u64::MAX); LIMITS];
    for (resource, pair) in (0..).zip(&mut all) {
        let mut limit = libc::rlimit64 {
            rlim_cur: u64::MAX,
            rlim_max: u64::MAX,
        };
        // SAFETY: asks; the structure is whole. An unknown number leaves it unlimited.
        unsafe {
            libc::prlimit64(0, resource as _, std::ptr::null(), &raw mut limit);
        }
        *pair = (limit.rlim_cur, limit.rlim_max);
    }
    all
}

/// Sets one resource limit of this process.
///
/// # Errors
/// EPERM for a hard limit above the present one without the privilege.
pub fn set_limit(resource: usize, (soft, hard): (u64, u64)) -> Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: a whole structure.
    let done = unsafe { libc::prlimit64(0, resource as _, &raw const limit, std::ptr::null_mut()) };
    check(done, "prlimit")
}

/// The nice value of the calling thread.
#[must_use]
pub fn nice() -> i32 {
    rustix::process::getpriority_process(None).unwrap_or(0)
}

/// Sets the nice value.
///
/// # Errors
/// EACCES for a lower one without the privilege.
pub fn set_nice(value: i32) -> Result<()> {
    rustix::process::setpriority_process(None, value).named("setpriority")
}

/// Scheduling policy and priority of the calling thread.
///
/// # Errors
/// Where the kernel does not tell.
pub fn scheduler() -> Result<(i32, i32)> {
    let mut parameter = zeroed_parameter();
    // SAFETY: number 0 means this thread.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    let policy = c_int::try_from(policy).unwrap_or(-1);
    check(policy.min(0), "sched_getscheduler")?;
    // SAFETY: fills in a whole structure.
    let done = unsafe { libc::syscall(libc::SYS_sched_getparam, 0, &raw mut parameter) };
    check(done as c_int, "sched_getparam")?;
    Ok((policy, parameter.sched_priority))
}

/// Sets scheduling policy and priority of the calling thread.
///
/// # Errors
/// EPERM without the privilege.
pub fn set_scheduler((policy, priority): (i32, i32)) -> Result<()> {
    let mut parameter = zeroed_parameter();
    parameter.sched_priority = priority;
    // SAFETY: a whole structure; number 0 means this thread.
    let done = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            0,
            policy,
            &raw const parameter,
        )
    };
    check(done as c_int, "sched_setscheduler")
}

fn zeroed_parameter() -> libc::sched_param {
    // SAFETY: plain numbers; some C libraries have more of them.
    unsafe { std::mem::zeroed() }
}

/// How many processors an affinity can name.
const PROCESSORS: usize = 8192;
/// Which processors a thread may run on, one bit each.
pub type Affinity = [u64; PROCESSORS / 64];

/// Which processors the calling thread may run on, and how many words of the set the kernel uses.
///
/// # Errors
/// EINVAL on a machine with more processors than the set has room for.
pub fn affinity() -> Result<(Affinity, usize)> {
    let mut set = [0; PROCESSORS / 64];
    // SAFETY: the size told is that of the set.
    let used = unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            0,
            size_of::<Affinity>(),
            &raw mut set,
        )
    };
    let used = usize::try_from(used).map_err(|_| last("sched_getaffinity"))?;
    Ok((set, used.div_ceil(8)))
}

/// Sets which processors the calling thread may run on.
///
/// # Errors
/// EINVAL when none of them is allowed here.
pub fn set_affinity(set: &[u64]) -> Result<()> {
    // SAFETY: the size told is that of the slice.
    let done = unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            size_of_val(set),
            set.as_ptr(),
        )
    };
    check(done as c_int, "sched_setaffinity")
}

/// The input/output priority of the calling thread.
#[must_use]
pub fn io_priority() -> i32 {
    // SAFETY: numbers: a process, this one.
    unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) as c_int }
}

/// Sets the input/output priority.
///
/// # Errors
/// EPERM without the privilege.
pub fn set_io_priority(value: i32) -> Result<()> {
    // SAFETY: numbers: a process, this one.
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, value) };
    check(done as c_int, "ioprio_set")
}

/// How late a timer of the calling thread may fire, in nanoseconds.
#[must_use]
pub fn timer_slack() -> u64 {
    // SAFETY: asks for a number.
    u64::try_from(unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) }).unwrap_or(0)
}

/// Sets the timer slack.
///
/// # Errors
/// Never, in practice.
pub fn set_timer_slack(nanoseconds: u64) -> Result<()> {
    // SAFETY: a number.
    check(
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) },
        "prctl",
    )
}

// --- session and privilege ---------------------------------------------------------------------

/// Session and process group of this process; zero for one whose leader is outside of this PID
/// namespace, as in a container that was started from a shell.
#[must_use]
pub fn session_and_group() -> (i32, i32) {
    // Not by rustix, whose `Pid` must not be zero.
    // SAFETY: asks for a number.
    let session = unsafe { libc::getsid(0) };
    // SAFETY: asks for a number.
    let group = unsafe { libc::getpgrp() };
    (session.max(0), group)
}

/// Joins a process group of the same session.
///
/// # Errors
/// EPERM when it is gone or belongs to another session; EINVAL for zero, which names none.
pub fn set_group(group: i32) -> Result<()> {
    let group = rustix::process::Pid::from_raw(group).ok_or(Error::new("setpgid", Errno::INVAL))?;
    rustix::process::setpgid(None, Some(group)).named("setpgid")
}

/// The secure bits of the calling thread.
#[must_use]
pub fn secure_bits() -> i32 {
    // SAFETY: asks for a number.
    unsafe { libc::prctl(libc::PR_GET_SECUREBITS) }
}

/// Whether this process has turned transparent huge pages off.
#[must_use]
pub fn without_huge_pages() -> i32 {
    // SAFETY: asks for a number.
    unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) }
}

/// The personality (address randomisation, emulated systems).
#[must_use]
pub fn personality() -> i32 {
    // SAFETY: this number asks without changing anything.
    unsafe { libc::personality(0xffff_ffff) }
}

// --- signals -----------------------------------------------------------------------------------

/// Sets which signals the calling thread blocks, signal 1 in the lowest bit.
///
/// # Errors
/// Never, in practice.
pub fn set_signal_mask(mask: u64) -> Result<()> {
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel reads the eight bytes that are told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            none,
            8,
        )
    };
    check(done as c_int, "rt_sigprocmask")
}

/// Forgets signals that arrived while they were blocked.
pub fn forget_pending_signals() {
    let mut pending = 0_u64;
    // SAFETY: the kernel writes the eight bytes that are told.
    unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, 8) };
    for signal in (1..=64).filter(|signal| pending >> (signal - 1) & 1 != 0) {
        // SAFETY: all zeros is a valid structure: the default action.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let mut former = action;
        action.sa_sigaction = libc::SIG_IGN;
        // SAFETY: two whole structures; ignoring a signal is what forgets it.
        if unsafe { libc::sigaction(signal, &raw const action, &raw mut former) } == 0 {
            // SAFETY: what the kernel has just given.
            unsafe { libc::sigaction(signal, &raw const former, std::ptr::null_mut()) };
        }
    }
}

/// Whether the kernel reaps this process's children as they end, since SIGCHLD is ignored or its
/// handler was set with `SA_NOCLDWAIT`.
#[must_use]
pub fn children_vanish() -> bool {
    // SAFETY: all zeros is a valid structure: the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a whole structure to write into; nothing is changed.
    let known = unsafe { libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut action) } == 0;
    known && (action.sa_sigaction == libc::SIG_IGN || action.sa_flags & libc::SA_NOCLDWAIT != 0)
}

// --- descriptors ---------------------------------------------------------------------------------

/// Makes these the standard streams; `None` closes one. The sources must have numbers above 2.
///
/// # Errors
/// EBADF, EMFILE.
pub fn set_standard_streams(sources: [Option<RawFd>; 3]) -> Result<()> {
    for (target, source) in (0..).zip(sources) {
        let done = match source {
            // SAFETY: numbers; the standard streams have no owner.
            Some(source) => unsafe { libc::dup2(source, target) },
            // SAFETY: as above; a closed one may be closed again.
            None => unsafe { libc::close(target) }.max(0),
        };
        check(done, "dup2")?;
    }
    Ok(())
}

/// Closes every descriptor from 3 up but these, which must be sorted.
///
/// # Safety
/// Nothing in this process may use or close the others any more: whoever owned them is forgotten.
///
/// # Errors
/// Without `close_range` and without procfs.
pub unsafe fn close_all_but(keep: &[RawFd]) -> Result<()> {
    let mut low: u32 = 3;
    for fd in keep
        .iter()
        .map(|fd| fd.unsigned_abs())
        .filter(|fd| *fd >= 3)
    {
        if fd > low {
            close_range(low, fd - 1)?;
        }
        low = fd + 1;
    }
    close_range(low, u32::MAX)
}

fn close_range(first: u32, end: u32) -> Result<()> {
    // SAFETY: the caller of `close_all_but` vouches that nobody uses these.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, end, 0) };
    if done == 0 {
        return Ok(());
    }
    let entries = std::fs::read_dir("/proc/self/fd").map_err(|_| last("close_range"))?;
    let open = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for fd in open
        .filter(|fd| (first..=end).contains(fd))
        .collect::<Vec<u32>>()
    {
        // SAFETY: as above; the folder's own descriptor is closed already.
        unsafe { libc::close(fd as RawFd) };
    }
    Ok(())
}

/// The standard streams, each if it is open.
#[must_use]
pub fn standard_streams() -> [Option<BorrowedFd<'static>>; 3] {
    let streams = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    streams.map(|fd| rustix::io::fcntl_getfd(fd).is_ok().then_some(fd))
}

/// This process's environment as the C library has it, entry after entry, each ended by a zero byte.
///
/// Python's `os.putenv` changes it too, so this is what an exec would pass on. As with exec, a thread
/// that changes the environment at the same moment is the program's own mistake.
#[must_use]
pub fn environment() -> Vec<u8> {
    extern "C" {
        static environ: *const *const std::ffi::c_char;
    }
    let mut block = Vec::with_capacity(4096);
    // SAFETY: the C library's own pointer.
    let mut entry = unsafe { environ };
    while !entry.is_null() {
        // SAFETY: a list of pointers that ends with a null one, not yet reached.
        let text = unsafe { *entry };
        if text.is_null() {
            break;
        }
        // SAFETY: an entry of the environment is a string.
        block.extend_from_slice(unsafe { CStr::from_ptr(text) }.to_bytes_with_nul());
        entry = entry.wrapping_add(1);
    }
    block
}

fn check(done: c_int, call: &'static str) -> Result<()> {
    if done < 0 {
        let error = last(call);
        return Err(if error.errno == Errno::from_raw_os_error(0) {
            Error::new(call, Errno::INVAL)
        } else {
            error
        });
    }
    Ok(())
}
