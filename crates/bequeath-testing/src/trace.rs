//! One child under ptrace: run to the first instruction of an operation, step, run to a place, kill.
//!
//! x86-64 only (marker and breakpoint instructions, program counter); elsewhere [`Tracee::start`] says refused and the
//! caller falls back to random kills.
//!
//! # Safety invariants
//! * `fork`: as in `peer.rs`.
//! * ptrace requests name an unreaped child of ours that is stopped; data goes to locals of the size the request writes.
//! * A breakpoint is one byte in the child's private copy of its text; it is taken out before the child runs on.
#![allow(unsafe_code)]

use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Why the child is not running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// One instruction further.
    Stepped,
    /// At a marker or breakpoint instruction; the program counter is behind it.
    Marker,
    /// It sleeps in a system call (only reported when asked for).
    Asleep,
    /// It is gone, which nobody asked for.
    Ended,
}

pub(crate) struct Tracee {
    pid: i32,
    reaped: bool,
    /// Sleeping is expected: look whether it sleeps instead of waiting for a stop.
    pub(crate) sleeps: bool,
    /// How it was resumed last.
    how: u32,
}

#[cfg(target_arch = "x86_64")]
fn marker() {
    // SAFETY: a trap that the tracer is waiting for; no operands, memory is unchanged.
    unsafe { std::arch::asm!("int3") };
}

#[cfg(not(target_arch = "x86_64"))]
fn marker() {}

fn request(what: u32, pid: i32, address: u64, data: u64) -> io::Result<()> {
    // SAFETY: per the module's invariants; `data` is an integer or points to a live local of the caller.
    let result = unsafe {
        libc::ptrace(
            what,
            pid,
            address as *mut libc::c_void,
            data as *mut libc::c_void,
        )
    };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

impl Tracee {
    /// Forks a child that runs `enter`, then is stopped at the first instruction of `act`.
    pub(crate) fn start(enter: impl FnOnce(), act: impl FnOnce()) -> io::Result<Self> {
        if !cfg!(target_arch = "x86_64") {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        // SAFETY: see the module's invariants.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed: {}", io::Error::last_os_error());
        if pid == 0 {
            let _ = catch_unwind(AssertUnwindSafe(|| {
                enter();
                if request(libc::PTRACE_TRACEME, 0, 0, 0).is_ok() {
                    marker();
                    act();
                    marker();
                }
            }));
            // SAFETY: ends the child without running exit handlers.
            unsafe { libc::_exit(77) };
        }
        let mut child = Self {
            pid,
            reaped: false,
            sleeps: false,
            how: libc::PTRACE_CONT,
        };
        if child.wait_stop() == Stop::Ended {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        request(
            libc::PTRACE_SETOPTIONS,
            pid,
            0,
            libc::PTRACE_O_EXITKILL as u64,
        )?;
        Ok(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid as u32
    }

    /// Executes one instruction (a whole system call counts as one).
    pub(crate) fn step(&mut self) -> Stop {
        self.resume(libc::PTRACE_SINGLESTEP, 0)
    }

    fn resume(&mut self, how: u32, signal: i32) -> Stop {
        self.how = how;
        request(how, self.pid, 0, signal as u64).expect("a stopped child can be resumed");
        self.wait_stop()
    }

    /// Waits for the next stop; to be called again after [`Stop::Asleep`].
    pub(crate) fn wait_stop(&mut self) -> Stop {
        let mut looks = 0;
        loop {
            let mut status = 0;
            let flags = libc::__WALL | if self.sleeps { libc::WNOHANG } else { 0 };
            // SAFETY: waits on our own child; the result is written to a local.
            let found = unsafe { libc::waitpid(self.pid, &mut status, flags) };
            if found == 0 {
                looks += 1;
                if looks % 4 == 0 && self.is_asleep() {
                    return Stop::Asleep;
                }
                std::thread::yield_now();
                continue;
            }
            if found != self.pid {
                continue;
            }
            if !libc::WIFSTOPPED(status) {
                self.reaped = true;
                return Stop::Ended;
            }
            let signal = libc::WSTOPSIG(status);
            if signal == libc::SIGTRAP {
                // Not "TRAP_TRACE is a step": a step over a system call reports TRAP_BRKPT.
                return if self.trap_code() == libc::SI_KERNEL {
                    Stop::Marker
                } else {
                    Stop::Stepped
                };
            }
            // A signal of its own: hand it over and go on as before.
            request(self.how, self.pid, 0, signal as u64).expect("a stopped child can be resumed");
        }
    }

    fn is_asleep(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
    }

    fn trap_code(&self) -> i32 {
        // SAFETY: all-zero is a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        request(libc::PTRACE_GETSIGINFO, self.pid, 0, &raw mut info as u64)
            .expect("a stopped child has a signal");
        info.si_code
    }

    #[cfg(target_arch = "x86_64")]
    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: all-zero is a valid register set.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        request(libc::PTRACE_GETREGS, self.pid, 0, &raw mut registers as u64)
            .expect("a stopped child has registers");
        registers
    }

    /// Address of the next instruction.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn place(&self) -> u64 {
        self.registers().rip
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn place(&self) -> u64 {
        0
    }

    /// Whether the next instruction is a system call that makes another process or thread.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_about_to_fork(&self) -> bool {
        const FORKS: [i64; 4] = [
            libc::SYS_fork,
            libc::SYS_vfork,
            libc::SYS_clone,
            libc::SYS_clone3,
        ];
        let registers = self.registers();
        FORKS.contains(&(registers.rax as i64)) && self.is_about_to_call()
    }

    /// Whether the next instruction is a system call.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_about_to_call(&self) -> bool {
        const SYSCALL: u64 = 0x050f;
        self.peek(self.place())
            .is_some_and(|word| word & 0xffff == SYSCALL)
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn is_about_to_call(&self) -> bool {
        false
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn is_about_to_fork(&self) -> bool {
        false
    }

    /// Runs at full speed until `address` is about to be executed for the `occurrence`th time (from 1); false when the operation ended before.
    /// `asleep` is called whenever it sleeps meanwhile, if that is expected.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn run_to(
        &mut self,
        address: u64,
        occurrence: usize,
        asleep: &mut dyn FnMut(),
    ) -> bool {
        let mut seen = usize::from(self.place() == address);
        while seen < occurrence {
            if self.place() == address {
                // Step off before the breakpoint goes in.
                let stop = self.step();
                if self.wake(stop, asleep) != Stop::Stepped {
                    return false;
                }
            }
            if self.place() == address {
                seen += 1; // one-instruction loop (rep prefix)
                continue;
            }
            let Some(word) = self.peek(address) else {
                return false;
            };
            self.poke(address, (word & !0xff) | 0xcc);
            let stop = self.resume(libc::PTRACE_CONT, 0);
            if self.wake(stop, asleep) != Stop::Marker {
                return false;
            }
            self.poke(address, word);
            let mut registers = self.registers();
            if registers.rip != address + 1 {
                return false; // the end marker
            }
            registers.rip = address;
            request(
                libc::PTRACE_SETREGS,
                self.pid,
                0,
                &raw const registers as u64,
            )
            .expect("registers can be set");
            seen += 1;
        }
        true
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn run_to(
        &mut self,
        _address: u64,
        _occurrence: usize,
        _asleep: &mut dyn FnMut(),
    ) -> bool {
        false
    }

    /// Calls `asleep` until it does not sleep any more.
    pub(crate) fn wake(&mut self, mut stop: Stop, asleep: &mut dyn FnMut()) -> Stop {
        while stop == Stop::Asleep {
            asleep();
            stop = self.wait_stop();
        }
        stop
    }

    #[cfg(target_arch = "x86_64")]
    fn peek(&self, address: u64) -> Option<u64> {
        let mut word = 0_u64;
        // SAFETY: the bare system call (unlike libc's wrapper) stores the word read behind its last
        // argument, a live local; the pid is a stopped child of ours; a wrong address is an error.
        let result = unsafe {
            libc::syscall(
                libc::SYS_ptrace,
                libc::PTRACE_PEEKTEXT,
                self.pid,
                address,
                &raw mut word,
            )
        };
        (result == 0).then_some(word)
    }

    #[cfg(target_arch = "x86_64")]
    fn poke(&self, address: u64, word: u64) {
        request(libc::PTRACE_POKETEXT, self.pid, address, word)
            .expect("a stopped child's text can be written");
    }

    /// SIGKILL. The child is dead when this returns, but not reaped: [`Tracee::reap`] or drop does that.
    pub(crate) fn kill(&mut self) {
        // SAFETY: the pid is an unreaped child of ours.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        // SAFETY: all-zero is a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: waits on our own child; the result is written to a local.
        while unsafe {
            libc::waitid(
                libc::P_PID,
                self.pid as u32,
                &mut info,
                libc::WEXITED | libc::WNOWAIT | libc::__WALL,
            )
        } != 0
        {}
    }

    pub(crate) fn reap(&mut self) {
        if !self.reaped {
            let mut status = 0;
            // SAFETY: waits on our own child; the result is written to a local.
            while unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL) } != self.pid {}
            self.reaped = true;
        }
    }
}

/// This thread and the traced process on one processor while this lives: a step is two switches between
/// them, which cost ten times as much from one processor to another.
pub(crate) struct Together(libc::cpu_set_t);

impl Together {
    /// None where the kernel does not let us.
    pub(crate) fn with(victim: &Tracee) -> Option<Self> {
        // SAFETY: all-zero is an empty set.
        let mut before: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::cpu_set_t>();
        // SAFETY: the set is a live local of the size given.
        if unsafe { libc::sched_getaffinity(0, size, &mut before) } != 0 {
            return None;
        }
        // SAFETY: asks for a number.
        let here = unsafe { libc::sched_getcpu() };
        let here = usize::try_from(here).ok()?;
        // SAFETY: all-zero is an empty set.
        let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        if here >= libc::CPU_SETSIZE as usize {
            return None;
        }
        // SAFETY: the number is less than the set's size, as just checked.
        unsafe { libc::CPU_SET(here, &mut one) };
        for pid in [0, victim.pid] {
            // SAFETY: the set is a live local of the size given; the pid is ours or an unreaped child's.
            unsafe { libc::sched_setaffinity(pid, size, &one) };
        }
        Some(Self(before))
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        // SAFETY: the set is a live value of the size given.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &self.0) };
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.reap();
        }
    }
}
