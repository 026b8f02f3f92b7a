//! What procfs tells about a process by number, where it can be believed.
//!
//! It may be missing, hide other users' processes, or belong to another PID namespace (a container
//! that kept the outer `/proc`): then its numbers mean other processes than ours do.

use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The fields of a process's `stat` that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The state's letter; of the first thread.
    pub state: u8,
    /// How many threads are not gone yet; a zombie's first one counts.
    pub threads: u32,
    /// When it started, in clock ticks since boot, low 32 bits.
    pub start_ticks: u32,
}

impl Stat {
    /// Whether every thread is gone. A zombie alone may be only a first thread that ended first. State
    /// and number are read in this order by the kernel, and a dead first thread makes no new ones.
    #[must_use]
    pub const fn is_dead(self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

/// Whether `/proc` is there and its numbers are this process's: looked up once per process.
#[must_use]
pub fn is_ours() -> bool {
    // The process's number and the answer: a forked child, in whatever namespace, looks again.
    static KNOWN: AtomicU64 = AtomicU64::new(0);
    let pid = std::process::id();
    let known = KNOWN.load(Relaxed);
    if known >> 1 == u64::from(pid) {
        return known & 1 == 1;
    }
    let ours = own_number() == Some(pid);
    KNOWN.store(u64::from(pid) << 1 | u64::from(ours), Relaxed);
    ours
}

/// This process's number as the mounted procfs has it.
fn own_number() -> Option<u32> {
    let mut place = [MaybeUninit::uninit(); 16];
    let (text, _) =
        rustix::fs::readlinkat_raw(rustix::fs::CWD, c"/proc/self", &mut place[..]).ok()?;
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// Of this process; right under any procfs.
#[must_use]
pub fn own_stat() -> Option<Stat> {
    read(File::open("/proc/self/stat").ok()?)
}

/// Of the process with this number; `None` where procfs does not tell, or tells of others.
///
/// Allocates nothing: it runs in forked children of threaded programs.
#[must_use]
pub fn stat(pid: u32) -> Option<Stat> {
    read(open(pid)?)
}

/// How the process with this number that started then has ended: of one that is dead and not reaped
/// yet, asked by its own user or root. `None` of all others.
#[must_use]
pub fn exit_status(pid: u32, start_ticks: u32) -> Option<ExitStatus> {
    let file = open(pid)?;
    // To others the kernel says zero.
    let user = rustix::process::geteuid();
    if !user.is_root() && file.metadata().ok()?.uid() != user.as_raw() {
        return None;
    }
    let mut text = String::new();
    (&file).read_to_string(&mut text).ok()?;
    let stat = parse(text.as_bytes())?;
    if !stat.is_dead() || stat.start_ticks != start_ticks {
        return None;
    }
    // The 52nd field; the third one is the first that the bracket before it leaves to count.
    let (_, fields) = text.rsplit_once(") ")?;
    let code = fields.trim_end().split(' ').nth(49)?;
    code.parse().ok().map(ExitStatus::from_raw)
}

/// `stat` of the process with this number, where it means ours.
fn open(pid: u32) -> Option<File> {
    if !is_ours() {
        return None;
    }
    let mut path = *b"/proc/0000000000/stat";
    let mut rest = pid;
    for digit in path[6..16].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // procfs knows a number only without leading zeros.
    let first = path[6..16].iter().position(|digit| *digit != b'0')?;
    path.copy_within(..6, first);
    File::open(core::str::from_utf8(&path[first..]).ok()?).ok()
}

fn read(mut file: File) -> Option<Stat> {
    let mut text = [0_u8; 768];
    let read = file.read(&mut text).ok()?;
    parse(&text[..read])
}

/// Plain loops, since it stands on the path of every takeover.
fn parse(text: &[u8]) -> Option<Stat> {
    // The second field, the command's name, may hold blanks and brackets: count from its last bracket.
    let mut at = text.len().checked_sub(1)?;
    while text[at] != b')' {
        at = at.checked_sub(1)?;
    }
    let (mut blanks, mut state, mut threads, mut ticks) = (0, b'?', 0_u64, 0_u64);
    for byte in &text[at..] {
        let digit = u64::from(byte.wrapping_sub(b'0'));
        match byte {
            b' ' => blanks += 1,
            letter if blanks == 1 => state = *letter,
            b'0'..=b'9' if blanks == 18 => threads = threads.wrapping_mul(10).wrapping_add(digit),
            b'0'..=b'9' if blanks == 20 => ticks = ticks.wrapping_mul(10).wrapping_add(digit),
            _ => {}
        }
        if blanks > 20 {
            return Some(Stat {
                state,
                threads: threads as u32,
                start_ticks: ticks as u32,
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_the_last_bracket_of_the_name() {
        let text = b"7 (a b) Z 1) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 3 0 4294967297 9 9";
        let stat = parse(text).unwrap();
        assert_eq!((stat.state, stat.threads, stat.start_ticks), (b'S', 3, 1));
        assert!(parse(&text[..40]).is_none());
        assert!(parse(b"").is_none());
    }

    #[test]
    fn this_process_is_alive_and_has_the_same_start_by_both_names() {
        let own = own_stat().unwrap();
        assert!(!own.is_dead() && own.threads >= 1 && own.start_ticks > 0);
        if is_ours() {
            assert_eq!(
                stat(std::process::id()).unwrap().start_ticks,
                own.start_ticks
            );
        }
        assert_eq!(stat(0), None);
    }

    #[test]
    fn how_a_dead_child_ended_is_told_until_it_is_reaped() {
        if !is_ours() {
            return;
        }
        let mut child = std::process::Command::new("sh")
            .args(["-c", "exit 7"])
            .spawn()
            .unwrap();
        let pid = child.id();
        let watched = crate::PidFd::open(pid).unwrap();
        assert!(watched.wait_dead(crate::Deadline::NEVER).unwrap());
        let started = stat(pid).unwrap().start_ticks;
        assert_eq!(exit_status(pid, started).unwrap().code(), Some(7));
        assert_eq!(exit_status(pid, started + 1), None);
        assert_eq!(
            exit_status(std::process::id(), own_stat().unwrap().start_ticks),
            None
        );
        child.wait().unwrap();
        assert_eq!(exit_status(pid, started), None);
    }

    #[test]
    fn a_first_thread_that_ended_first_is_no_dead_process() {
        let stat = |state, threads| Stat {
            state,
            threads,
            start_ticks: 0,
        };
        assert!(stat(b'Z', 1).is_dead() && stat(b'X', 0).is_dead());
        assert!(!stat(b'Z', 2).is_dead() && !stat(b'T', 1).is_dead());
    }
}
