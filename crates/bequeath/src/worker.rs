//! The started copy's side: `init` finds out that this process is a worker, runs the function and
//! ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

use bequeath_os::handover;
use bequeath_os::socket::{self, RecvFlags};
use bequeath_process::{OnParentDeath, Tie};
use bequeath_shm::Session;
use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::function::{identity, Call, Name};
use crate::line::{pack, Arrived, Line, Packed};
use crate::transfer::Parts;

/// First argument of a started copy; the second is the number of its line's descriptor.
pub(crate) const MARK: &str = "--bequeath-worker";

/// Exit code of a worker whose function panicked, as a Rust program's whose `main` did.
const PANICKED: i32 = 101;
/// Exit code of a worker that could not run its function or hand back the result.
const FAILED: i32 = 1;

/// What a start says. The session's arena, the board's two ends and the tie are its extra descriptors.
#[derive(Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) identity: Bytes,
    pub(crate) function: Name,
    pub(crate) name: String,
    pub(crate) tied: bool,
}

/// What became of the function; a returned value travels beside it.
#[derive(Serialize, Deserialize)]
pub(crate) enum Outcome {
    Returned,
    Panicked(String),
    Failed(String),
}

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Makes this program able to start copies of itself. The first statement of `main`, before
/// anything that the copies shall not do too.
///
/// In a process that the program was started as it returns at once. In a copy started by
/// [`Session::spawn`](crate::Session::spawn) it does not return: it runs the worker's function and
/// exits, with code 0, or 101 when the function panicked.
///
/// # After fork
/// A forked child may start copies as its parent could.
///
/// ```
/// fn main() -> Result<(), bequeath::Error> {
///     bequeath::init();
///     let session = bequeath::Session::new()?;
///     let child = session.spawn(|n: u64| n * n, 12)?;
///     assert_eq!(child.result()?, 144);
///     Ok(())
/// }
/// ```
pub fn init() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == MARK) {
        let number = arguments
            .next()
            .and_then(|number| number.to_str()?.parse().ok());
        let code = line(number)
            .and_then(|line| run(&line))
            .unwrap_or_else(|error| {
                eprintln!("bequeath: this copy cannot be a worker: {error}");
                FAILED
            });
        std::process::exit(code);
    }
    INITIALISED.store(true, Ordering::Relaxed);
}

/// Whether [`init`] ran, so that a started copy will not run `main`.
pub(crate) fn is_initialised() -> bool {
    INITIALISED.load(Ordering::Relaxed)
}

/// The line that the command line names: a local socket whose other end is of the same user.
fn line(number: Option<u32>) -> Result<Line> {
    let foreign = Error::Malformed("the command line names no line to a parent");
    let Some(number) = number else {
        return Err(foreign);
    };
    let Ok(inherited) = handover::adopt_inherited(number) else {
        return Err(foreign);
    };
    let peer = socket::peer(&inherited)?;
    if Some(peer.uid) != own_uid() {
        return Err(foreign);
    }
    Ok(Line::from_fd(inherited))
}

/// Whose rights this process has. In a set-user-id program procfs says root, so that a stranger
/// cannot have such a program run a function of the stranger's choice.
fn own_uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self")
        .ok()
        .map(|process| process.uid())
}

fn run(line: &Line) -> Result<i32> {
    // A parent that died meanwhile wants nothing any more.
    let Some(start) = line.recv::<Start>(RecvFlags::empty())? else {
        return Ok(FAILED);
    };
    INITIALISED.store(true, Ordering::Relaxed);
    let mut session = None;
    let (outcome, code, parts) = match prepare_and_call(start, &mut session) {
        Ok(Call::Returned(parts)) => (Outcome::Returned, 0, parts),
        Ok(Call::Panicked(message)) => (Outcome::Panicked(message), PANICKED, Parts::default()),
        Ok(Call::Failed(error)) | Err(error) => {
            (Outcome::Failed(error.to_string()), FAILED, Parts::default())
        }
    };
    Ok(report(line, session.as_ref(), outcome, parts).map_or(FAILED, |()| code))
}

fn prepare_and_call(mut start: Arrived<Start>, joined: &mut Option<Session>) -> Result<Call> {
    let mut extra = std::mem::take(&mut start.extra).into_iter();
    let (Some(arena), Some(sender), Some(receiver)) = (extra.next(), extra.next(), extra.next())
    else {
        return Err(Error::Malformed("a start without its session"));
    };
    let session = Session::attach(arena)?;
    bequeath_channel::board::install(sender, receiver)?;
    crate::session::register_kinds();
    session.set_current();
    *joined = Some(session.clone());
    if start.head.tied {
        let tie = extra
            .next()
            .ok_or(Error::Malformed("a start without its tie"))?;
        Tie::from_fd(tie).hold(OnParentDeath::Kill)?;
    }
    if start.head.identity.0 != identity() {
        return Err(Error::Malformed("a start of another build of this program"));
    }
    // What `ps` and `top` show; a kernel without the file shows the program's name.
    let _ = std::fs::write("/proc/self/comm", &start.head.name);
    bequeath_shm::set_name(&start.head.name);
    bequeath_shm::set_role(bequeath_shm::Role::Worker);
    let function = start.head.function;
    let arguments = start.open(&session)?;
    function.call(arguments, &session)
}

/// Tells the parent; a parent that is gone is nobody's trouble.
fn report(line: &Line, session: Option<&Session>, outcome: Outcome, parts: Parts) -> Result<()> {
    let inline = |outcome| line.send(&outcome, Vec::new(), Packed::empty());
    let Some(session) = session else {
        return inline(outcome);
    };
    match pack(session, parts) {
        Ok(packed) => line.send(&outcome, Vec::new(), packed),
        Err(error) => {
            inline(Outcome::Failed(format!(
                "its result could not be handed back: {error}"
            )))?;
            Err(error)
        }
    }
}
