//! Facilities of the kernel, each tried on something of our own.

use std::ffi::CString;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64};

use bequeath_os::socket::{self, RecvFlags, SendFlags, SocketType};
use bequeath_os::{clone, futex, lifeline, memfd, pidfd, procfs, Errno, Error, Mapping, PidFd};

use super::{Finding, Level};

const TOPIC: &str = "kernel";
/// A signal that does nothing to who does not ask for it: SIGURG.
const HARMLESS: i32 = 23;

pub(super) fn findings() -> Vec<Finding> {
    let memory = memory_file();
    vec![
        needed("memfd_create", memory.as_ref().map(|_| ()), "there can be no session"),
        needed("fallocate", with(&memory, allocate), "there can be no session"),
        instead(
            "F_OFD_SETLK",
            with(&memory, lock_range),
            "a large message in a pipe whose reader died stays in memory until the session ends",
        ),
        needed("SCM_RIGHTS", pass_descriptor(), "descriptors cannot be passed, templates not be used"),
        instead(
            "SO_PEEK_OFF",
            peek_offset(),
            "queues that were polled or carry descriptors cannot be used by a process that did not inherit them",
        ),
        instead(
            "FUTEX_WAKE_OP",
            wake_op(),
            "a commit and the wake after it are two calls: a process killed between them costs its peers 0.2 s",
        ),
        instead(
            "MADV_WIPEONFORK",
            wipe_on_fork(),
            "the process number is asked of the kernel at each use: locks are slower",
        ),
        instead(
            "pidfd_open",
            PidFd::open(std::process::id()).map(|_| ()),
            "processes are watched by pipes and procfs instead: deaths are noticed a little later",
        ),
        instead("pidfd_send_signal", signal_self(), "signals go by number instead"),
        unused("pidfd_getfd", get_fd()),
        instead("clone(CLONE_VFORK)", clone_vfork(), "a program is started by fork and exec instead"),
        instead(
            "F_SETSIG",
            signal_on_close(),
            "children are not ended with their parent (daemon, on_parent_death)",
        ),
        own_procfs(),
    ]
}

fn present(name: &str) -> Finding {
    Finding::new(TOPIC, name, Level::Good, "present", "used")
}

fn absent(error: &Error) -> String {
    format!("absent: {}", std::io::Error::from(*error))
}

/// Without it bequeath does not work.
fn needed(name: &str, tried: Result<(), impl std::borrow::Borrow<Error>>, means: &str) -> Finding {
    match tried {
        Ok(()) => present(name),
        Err(error) => Finding::new(TOPIC, name, Level::Problem, absent(error.borrow()), means),
    }
}

/// Without it, something else is done.
fn instead(name: &str, tried: Result<(), Error>, means: &str) -> Finding {
    match tried {
        Ok(()) => present(name),
        Err(error) => Finding::new(TOPIC, name, Level::Note, absent(&error), means),
    }
}

fn unused(name: &str, tried: Result<(), Error>) -> Finding {
    let found = match tried {
        Ok(()) => "present".to_owned(),
        Err(error) => absent(&error),
    };
    Finding::new(
        TOPIC,
        name,
        Level::Good,
        format!("{found}, not needed"),
        "nothing",
    )
}

fn memory_file() -> Result<OwnedFd, Error> {
    let file = memfd::create(c"bequeath-doctor", 65_536)?;
    memfd::seal(&file)?;
    Ok(file)
}

fn with(
    memory: &Result<OwnedFd, Error>,
    attempt: impl FnOnce(&OwnedFd) -> Result<(), Error>,
) -> Result<(), Error> {
    match memory {
        Ok(file) => attempt(file),
        Err(error) => Err(*error),
    }
}

fn allocate(file: &OwnedFd) -> Result<(), Error> {
    memfd::allocate(file, 0, 8192)?;
    memfd::punch(file, 0, 4096)
}

fn lock_range(file: &OwnedFd) -> Result<(), Error> {
    let other = memfd::reopen(file.as_fd())?;
    memfd::hold_range(other.as_fd(), 0)?;
    match memfd::is_range_held(file.as_fd(), 0)? {
        true => Ok(()),
        false => Err(Error::new("fcntl", Errno::NOSYS)),
    }
}

fn pass_descriptor() -> Result<(), Error> {
    let (here, there) = socket::pair(SocketType::SeqPacket)?;
    let given = [here.as_fd()];
    socket::send(&here, &[IoSlice::new(b"x")], &given, SendFlags::empty())?;
    let got = socket::recv(&there, &mut [0], 1, RecvFlags::empty())?;
    match got.fds.len() {
        1 => Ok(()),
        _ => Err(Error::new("recvmsg", Errno::NOSYS)),
    }
}

fn peek_offset() -> Result<(), Error> {
    let (here, _there) = socket::pair(SocketType::SeqPacket)?;
    socket::set_peek_offset(&here, Some(0))
}

fn wake_op() -> Result<(), Error> {
    let (event, word) = (AtomicU32::new(0), AtomicU64::new(1));
    futex::wake_op_set(&event, 1, futex::low_half(&word), 1).map(|_| ())
}

fn wipe_on_fork() -> Result<(), Error> {
    Mapping::anonymous(bequeath_os::mapping::page_size(), false)?.wipe_on_fork()
}

fn signal_self() -> Result<(), Error> {
    PidFd::open(std::process::id())?.send_signal(0)
}

fn get_fd() -> Result<(), Error> {
    let (here, _there) = socket::pair(SocketType::Stream)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&here);
    PidFd::open(std::process::id())?.get_fd(number).map(|_| ())
}

/// A program that is not there: the new process is made, and ends at once.
fn clone_vfork() -> Result<(), Error> {
    let arguments = [CString::from(c"nothing")];
    let program = clone::Program {
        path: c"/nonexistent/bequeath-doctor",
        arguments: &arguments,
        environment: None,
        stdio: None,
        keep: &[],
    };
    match clone::execute(&program) {
        Err(error) if error.call == "execve" => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

fn signal_on_close() -> Result<(), Error> {
    let (reader, writer) = lifeline::pipe()?;
    lifeline::signal_on_close(reader.as_fd(), HARMLESS)?;
    // In this order no signal comes.
    drop(reader);
    drop(writer);
    Ok(())
}

fn own_procfs() -> Finding {
    if procfs::is_ours() {
        return present("/proc");
    }
    let means = if pidfd::can_open() {
        "descriptors cannot be opened anew and start times not be compared; inspect shows nothing"
    } else {
        "without it and without pidfd_open the end of processes that are no children is noticed late or never"
    };
    let found = "not mounted, or of another process number namespace";
    Finding::new(TOPIC, "/proc", Level::Note, found, means)
}
