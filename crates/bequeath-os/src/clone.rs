#![allow(unsafe_code)]
//! A new process that runs another program, made without copying this one.
//!
//! `clone` with `CLONE_VM | CLONE_VFORK` costs the same whatever the size of the parent: the child
//! borrows the parent's memory, the calling thread is suspended, and exec ends the loan. The order
//! of the steps follows what `posix_spawn` must do for the same reasons.
//!
//! # Safety invariants
//! - Everything that the child reads was made before `clone` and outlives it: the calling thread
//!   resumes only when the child has exec'ed or ended.
//! - The child runs on a stack of its own, calls only async-signal-safe functions, allocates
//!   nothing, and leaves by exec or `_exit`.
//! - No signal handler of the parent can run in the child: all signals are blocked around `clone`,
//!   and the child resets every handler before it takes the mask that the program shall have.

use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::errno::{last, Errno, Error, Result};
use crate::pidfd::PidFd;

/// What to run, and what it keeps of this process.
#[derive(Debug)]
pub struct Program<'a> {
    /// The file; no search along PATH.
    pub path: &'a CStr,
    /// The arguments, the program's name first.
    pub arguments: &'a [CString],
    /// `NAME=value` entries; None for this process's own environment.
    pub environment: Option<&'a [CString]>,
    /// What becomes standard input, output and error; None leaves them as they are.
    pub stdio: Option<[RawFd; 3]>,
    /// Descriptors that stay open, under their numbers; every other one from 3 up is closed.
    pub keep: &'a [RawFd],
}

const STACK: usize = 64 * 1024;
const SIGNALS: c_int = 64;
const CLOEXEC_RANGE: u32 = 4; // CLOSE_RANGE_CLOEXEC

/// What parent and child share while the child borrows the parent's memory.
struct Loan<'a> {
    path: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    stdio: Option<[RawFd; 3]>,
    keep: &'a [RawFd],
    open: &'a [RawFd],
    mask: libc::sigset_t,
    failure: c_int,
    failed_call: &'static str,
}

/// Runs the program in a new process; returns when it has been exec'ed.
///
/// # Errors
/// What `clone` or `execve` refused (ENOENT, EACCES, EAGAIN, ENOMEM, E2BIG); no process is left then.
pub fn execute(program: &Program<'_>) -> Result<(u32, PidFd)> {
    let arguments = pointers(program.arguments);
    let environment = program.environment.map(pointers);
    let open = descriptors_above_two();
    let mut loan = Loan {
        path: program.path.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment
            .as_ref()
            .map_or_else(own_environment, |list| list.as_ptr()),
        stdio: program.stdio,
        keep: program.keep,
        open: &open,
        mask: block_all_signals()?,
        failure: 0,
        failed_call: "execve",
    };
    let made = clone_and_exec(&mut loan);
    restore_mask(&loan.mask);
    let (pid, pidfd) = made?;
    if loan.failure == 0 {
        return Ok((pid, pidfd));
    }
    // The child has ended already; nobody else knows it, so it is ours to reap.
    let _ = pidfd.wait(crate::clock::Deadline::NEVER);
    Err(Error::new(
        loan.failed_call,
        Errno::from_raw_os_error(loan.failure),
    ))
}

fn clone_and_exec(loan: &mut Loan<'_>) -> Result<(u32, PidFd)> {
    let mut stack = vec![0_u8; STACK];
    let mut fd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let end = stack.as_mut_ptr_range().end;
    let top = end.wrapping_sub(end as usize % 16).cast::<c_void>();
    // SAFETY: `top` is the aligned end of a stack that lives until the child is gone from this
    // memory (CLONE_VFORK); `child` obeys the module's invariants; `loan` and `fd` outlive the call.
    let pid = unsafe {
        libc::clone(
            child,
            top,
            flags,
            ptr::from_mut(loan).cast::<c_void>(),
            &raw mut fd,
        )
    };
    if pid < 0 {
        return Err(last("clone"));
    }
    let pid = pid.unsigned_abs();
    if fd < 0 {
        return PidFd::open(pid).map(|pidfd| (pid, pidfd));
    }
    // SAFETY: the kernel stored a new descriptor, close-on-exec, that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((pid, PidFd::from_fd(fd)))
}

/// Runs in the borrowed memory; never returns to the parent's code.
extern "C" fn child(argument: *mut c_void) -> c_int {
    // SAFETY: the argument is the `Loan` of `execute`, which waits for this function to end.
    let loan = unsafe { &mut *argument.cast::<Loan<'_>>() };
    reset_handlers();
    if let Err((call, errno)) = arrange_descriptors(loan) {
        loan.failure = errno;
        loan.failed_call = call;
    } else {
        restore_mask(&loan.mask);
        // SAFETY: a path and two null-terminated lists of null-terminated strings, alive in `execute`.
        unsafe { libc::execve(loan.path, loan.arguments, loan.environment) };
        loan.failure = errno();
    }
    // SAFETY: ends this process at once, without touching what it borrowed.
    unsafe { libc::_exit(127) }
}

/// Handlers are code of the parent; what it ignores stays ignored, as by any exec.
fn reset_handlers() {
    for signal in 1..=SIGNALS {
        // SAFETY: all zeros is a valid `sigaction`, meaning the default action.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: asks only; the structure is large enough. The child has its own table of handlers.
        let known = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) } == 0;
        if known && action.sa_sigaction != libc::SIG_IGN && action.sa_sigaction != libc::SIG_DFL {
            action.sa_sigaction = libc::SIG_DFL;
            action.sa_flags = 0;
            // SAFETY: a full structure naming the default action.
            unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
        }
    }
}

fn arrange_descriptors(loan: &Loan<'_>) -> core::result::Result<(), (&'static str, c_int)> {
    if let Some(sources) = loan.stdio {
        for (target, source) in (0..).zip(sources) {
            if source == target {
                keep_open(target)?;
            // SAFETY: numbers only; the child has its own table of descriptors.
            } else if unsafe { libc::dup2(source, target) } < 0 {
                return Err(("dup2", errno()));
            }
        }
    }
    // SAFETY: marks this process's own descriptors; no memory is involved.
    if unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, CLOEXEC_RANGE) } != 0 {
        for fd in loan.open {
            // SAFETY: as above, one by one, for kernels before 5.11.
            unsafe { libc::fcntl(*fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    loan.keep.iter().try_for_each(|fd| keep_open(*fd))
}

fn keep_open(fd: RawFd) -> core::result::Result<(), (&'static str, c_int)> {
    // SAFETY: clears the close-on-exec mark of one descriptor of this process.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
        return Err(("fcntl", errno()));
    }
    Ok(())
}

fn errno() -> c_int {
    last("").raw()
}

/// Blocks every signal, also the C library's own, and returns the mask that was in force.
fn block_all_signals() -> Result<libc::sigset_t> {
    let all = [u64::MAX; 16];
    // SAFETY: all zeros is an empty set.
    let mut old: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel reads and writes eight bytes of each; both are larger.
    let done = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            &raw mut old,
            8,
        )
    };
    if done == 0 {
        Ok(old)
    } else {
        Err(last("rt_sigprocmask"))
    }
}

fn restore_mask(mask: &libc::sigset_t) {
    let set = ptr::from_ref(mask);
    let none = ptr::null_mut::<c_void>();
    // SAFETY: the kernel reads eight bytes of the set, which is larger.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, set, none, 8) };
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

fn own_environment() -> *const *const c_char {
    extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: reads the C library's pointer; the strings behind it are used before this thread goes on.
    unsafe { environ }
}

/// Only for kernels that cannot mark a range; empty where procfs is missing.
fn descriptors_above_two() -> Vec<RawFd> {
    if has_close_range() {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return (3..1024).collect();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect()
}

fn has_close_range() -> bool {
    // An empty range at the far end: succeeds without touching anything.
    // SAFETY: no descriptor has this number, no memory is involved.
    unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, CLOEXEC_RANGE) == 0 }
}
