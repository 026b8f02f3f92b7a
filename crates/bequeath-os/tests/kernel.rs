#![allow(unsafe_code)]
//! One test per promise of the kernel's vocabulary that others build on.

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bequeath_os::futex::{self, Wait};
use bequeath_os::socket::{self, RecvFlags, SendFlags, SocketType};
use bequeath_os::{lifeline, memfd, pidfd, Deadline, Errno, EventFd, Mapping, PidFd};

#[test]
fn deadlines_saturate_and_compare() {
    assert!(Deadline::after(Duration::MAX).is_never());
    assert!(Deadline::PAST.is_past());
    assert!(!Deadline::NEVER.is_past());
    let soon = Deadline::after(Duration::from_secs(60));
    assert_eq!(soon.earlier(Deadline::NEVER), soon);
    assert!(soon.remaining().unwrap() > Duration::from_secs(50));
    assert_eq!(Deadline::NEVER.remaining(), None);
}

#[test]
fn a_futex_wait_ends_by_change_deadline_or_wake() {
    let word = AtomicU32::new(1);
    assert_eq!(futex::wait(&word, 2, Deadline::NEVER), Wait::Changed);
    assert_eq!(
        futex::wait(&word, 1, Deadline::after(Duration::from_millis(1))),
        Wait::TimedOut
    );
    std::thread::scope(|scope| {
        scope.spawn(|| while futex::wait(&word, 1, Deadline::NEVER) != Wait::Changed {});
        while futex::wake(&word, 1) == 0 {
            std::thread::yield_now();
        }
        word.store(2, Ordering::Relaxed);
        futex::wake(&word, u32::MAX);
    });
}

#[test]
fn wake_op_stores_and_wakes_both_words() {
    let event = AtomicU32::new(0);
    let word = AtomicU64::new(0xabcd_0000_8000_4200);
    std::thread::scope(|scope| {
        scope.spawn(|| while futex::wait(&event, 0, Deadline::NEVER) != Wait::Woken {});
        let mut woken = 0;
        while woken == 0 {
            std::thread::yield_now();
            woken = futex::wake_op_set(&event, 1, futex::low_half(&word), 1).unwrap();
        }
    });
    assert_eq!(word.load(Ordering::Relaxed), 0xabcd_0000_0000_0001);
    assert!(futex::wake_op_set(&event, 1, futex::low_half(&word), 2048).is_err());
}

#[test]
fn a_memory_file_is_filled_emptied_sealed_and_measured() {
    let file = memfd::create(c"bequeath-test", 1 << 30).unwrap();
    assert_eq!(memfd::used_bytes(&file).unwrap(), 0);
    memfd::allocate(&file, 0, 1 << 16).unwrap();
    assert_eq!(memfd::used_bytes(&file).unwrap(), 1 << 16);
    memfd::punch(&file, 0, 1 << 16).unwrap();
    assert_eq!(memfd::used_bytes(&file).unwrap(), 0);
    assert!(!memfd::is_sealed(&file).unwrap());
    memfd::seal(&file).unwrap();
    assert!(memfd::is_sealed(&file).unwrap());
    let again = memfd::reopen(file.as_fd()).unwrap();
    assert_eq!(
        memfd::identity(&file).unwrap(),
        memfd::identity(&again).unwrap()
    );
}

#[test]
fn a_range_is_held_by_the_description_until_its_last_descriptor_closes() {
    let file = memfd::create(c"bequeath-test", 4096).unwrap();
    let token = memfd::reopen(file.as_fd()).unwrap();
    memfd::hold_range(token.as_fd(), 64).unwrap();
    let (left, right) = socket::pair(SocketType::SeqPacket).unwrap();
    socket::send(
        &left,
        &[IoSlice::new(b"x")],
        &[token.as_fd()],
        SendFlags::empty(),
    )
    .unwrap();
    drop(token);
    assert!(memfd::is_range_held(file.as_fd(), 64).unwrap());
    assert!(!memfd::is_range_held(file.as_fd(), 65).unwrap());
    drop((left, right));
    // The kernel may finish the last close of a descriptor in flight a moment later.
    while memfd::is_range_held(file.as_fd(), 64).unwrap() {
        std::thread::yield_now();
    }
}

#[test]
fn descriptors_survive_a_peek_and_a_full_buffer_reports_truncation() {
    let (left, right) = socket::pair(SocketType::SeqPacket).unwrap();
    let event = EventFd::create().unwrap();
    event.raise().unwrap();
    let fds = [event.as_fd(), left.as_fd()];
    socket::send(&left, &[IoSlice::new(b"hello")], &fds, SendFlags::empty()).unwrap();
    let mut bytes = [0; 16];
    let peeked = socket::recv(&right, &mut bytes, 4, RecvFlags::PEEK).unwrap();
    assert_eq!(
        (peeked.len, peeked.fds.len(), peeked.truncated),
        (5, 2, false)
    );
    let short = socket::recv(&right, &mut bytes[..2], 8, RecvFlags::PEEK).unwrap();
    assert!(short.truncated && !short.fds_truncated);
    let got = socket::recv(&right, &mut bytes, 8, RecvFlags::empty()).unwrap();
    assert_eq!((&bytes[..got.len], got.fds.len()), (&b"hello"[..], 2));
    let none = socket::recv(&right, &mut bytes, 8, RecvFlags::DONTWAIT).unwrap_err();
    assert!(none.would_block());
    assert_eq!(socket::peer(&left).unwrap().pid, std::process::id());
}

#[test]
fn a_private_remap_parts_later_writes() {
    let file = memfd::create(c"bequeath-test", 8192).unwrap();
    let (one, two) = (
        Mapping::shared(&file, 0, 8192).unwrap(),
        Mapping::shared(&file, 0, 8192).unwrap(),
    );
    let byte = |mapping: &Mapping, at: usize| {
        // SAFETY: `at` lies in the mapping, and no other thread has it.
        unsafe { mapping.as_ptr().wrapping_add(at).read_volatile() }
    };
    let write = |mapping: &Mapping, at: usize, value: u8| {
        // SAFETY: as above.
        unsafe { mapping.as_ptr().wrapping_add(at).write_volatile(value) }
    };
    write(&one, 4096, 7);
    assert_eq!(byte(&two, 4096), 7);
    // SAFETY: no references into the range exist.
    unsafe { one.remap(4096, 4096, &file, 4096, false) }.unwrap();
    write(&one, 4096, 9);
    assert_eq!((byte(&one, 4096), byte(&two, 4096)), (9, 7));
    // SAFETY: no references into the range exist.
    let outside = unsafe { one.remap(8192, 4096, &file, 0, false) };
    assert_eq!(outside.unwrap_err().errno, Errno::INVAL);
}

#[test]
fn a_pipe_stands_in_for_a_pidfd() {
    let (reader, writer) = lifeline::pipe().unwrap();
    let mut child = Command::new("sleep")
        .arg("1000")
        .stdout(Stdio::from(writer))
        .spawn()
        .unwrap();
    let pidfd = PidFd::arrived(reader, child.id());
    assert!(!pidfd.is_dead().unwrap() && !pidfd::is_gone(child.id()));
    assert_eq!(pidfd.wait(Deadline::PAST).unwrap(), None);
    pidfd.send_signal(9).unwrap();
    let ended = |status: Option<std::process::ExitStatus>| status.unwrap().signal();
    assert!(pidfd.wait_dead(Deadline::NEVER).unwrap());
    // A zombie is gone, whoever looks.
    while !pidfd::is_gone(child.id()) {}
    assert_eq!(ended(pidfd.peek().unwrap()), Some(9));
    assert_eq!(ended(pidfd.wait(Deadline::NEVER).unwrap()), Some(9));
    assert_eq!(pidfd.exit_status(), None);
    let _ = child.wait();
    assert!(pidfd::is_gone(child.id()) && pidfd.peek().is_err());
}

#[test]
fn who_closes_everything_and_runs_on_is_not_taken_for_dead() {
    let (reader, writer) = lifeline::pipe().unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "exec >&-; read line; exit 3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::from(writer))
        .spawn()
        .unwrap();
    let pidfd = PidFd::arrived(reader, child.id());
    assert!(pidfd.wait_dead(Deadline::NEVER).unwrap());
    assert_eq!(pidfd.peek().unwrap(), None);
    let soon = Deadline::after(Duration::from_millis(20));
    assert_eq!(pidfd.wait(soon).unwrap(), None);
    drop(child.stdin.take());
    let status = pidfd.wait(Deadline::NEVER).unwrap().unwrap();
    assert_eq!(status.code(), Some(3));
    let _ = child.wait();
}

#[test]
fn a_pidfd_tells_death_and_exit_status() {
    let mut child = Command::new("sleep")
        .arg("1000")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pidfd = PidFd::open(child.id()).unwrap();
    assert!(!pidfd.is_dead().unwrap());
    assert_eq!(pidfd.wait(Deadline::PAST).unwrap(), None);
    pidfd.send_signal(9).unwrap();
    assert!(pidfd.wait_dead(Deadline::NEVER).unwrap());
    assert_eq!(
        pidfd.wait(Deadline::NEVER).unwrap().unwrap().signal(),
        Some(9)
    );
    // Known after reaping too where the kernel keeps it (6.15 and newer), else not at all.
    assert!(pidfd
        .exit_status()
        .is_none_or(|status| status.signal() == Some(9)));
    let _ = child.wait();
    assert_eq!(PidFd::open(0).unwrap_err().errno, Errno::INVAL);
}
