//! A template as a starter sees it.

use std::collections::{HashMap, HashSet};
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use bequeath_os::poll::{self, Events};
use bequeath_os::socket::{self, Received, RecvFlags, SendFlags, SocketType};
use bequeath_os::{attributes, handover, Deadline, Errno, PidFd};

use super::go_ahead;
use super::protocol::{self, Told, PACKET, PAYLOAD_IN_PACKET};
use crate::child::{Child, Reaper};
use crate::error::{Error, Result};
use crate::exit::ExitStatus;
use crate::launch::Launch;
use crate::state::State;
use crate::watch;

const SIGKILL: i32 = 9;
/// A child that was kept ahead and takes longer to answer is stopped, or starved: then a fresh fork serves.
const PATIENCE: Duration = Duration::from_millis(500);

/// A template, as a process that starts children through it holds it.
///
/// # After fork
/// The forked child makes a [`Template`] of its own from [`door`](Template::door): the connection
/// belongs to its parent, and so do the children started through it.
///
/// # If a peer dies
/// Every call on a dead template says [`Error::TemplateGone`]. Its children live on.
#[derive(Debug)]
pub struct Template {
    door: OwnedFd,
    line: Arc<Line>,
}

/// What came of asking a template for a child.
#[derive(Debug)]
pub enum Answer {
    /// The child runs.
    Child(Child),
    /// This template cannot give it the caller's state; the reason.
    Refused(String),
}

/// This process's own connection to a template.
#[derive(Debug)]
struct Line {
    owner: u32,
    socket: OwnedFd,
    /// Held while the socket is read: whoever reads notes for the others.
    notes: Mutex<Notes>,
}

/// A message from the template.
enum Heard {
    /// A report, noted.
    Noted,
    /// The answer to a request, with what came along.
    Answer(Told, Vec<OwnedFd>),
}

#[derive(Debug, Default)]
struct Notes {
    /// How children ended that nobody has asked for yet.
    ended: HashMap<u32, ExitStatus>,
    /// Requests whose answers are still to come, and unwanted.
    abandoned: usize,
    /// Children of such requests, whose end nobody will ask for.
    unwanted: HashSet<u32>,
    /// What the template had to say besides.
    told: Vec<String>,
}

impl Template {
    /// The two ends of a door: what starters hold, and what the template is started with.
    ///
    /// # Errors
    /// When descriptors ran out.
    pub fn make_door() -> Result<(OwnedFd, OwnedFd)> {
        Ok(socket::pair(SocketType::SeqPacket)?)
    }

    /// Introduces this process to the template behind a door.
    ///
    /// # Errors
    /// [`Error::TemplateGone`]; when descriptors ran out.
    pub fn through(door: OwnedFd) -> Result<Self> {
        let (ours, theirs) = socket::pair(SocketType::SeqPacket)?;
        let this_process = watch::this_process()?;
        send(
            door.as_fd(),
            &protocol::hello(),
            &[theirs.as_fd(), this_process.as_fd()],
        )?;
        let owner = std::process::id();
        let line = Arc::new(Line {
            owner,
            socket: ours,
            notes: Mutex::default(),
        });
        Ok(Self { door, line })
    }

    /// The way to this template, for other processes of the tree.
    #[must_use]
    pub fn door(&self) -> BorrowedFd<'_> {
        self.door.as_fd()
    }

    /// What the template has told since this was last asked; see [`Server::note`](super::Server::note).
    #[must_use]
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.line.notes().told)
    }

    /// Whether the template is still there.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let gone = Events::HUP | Events::ERR | Events::NVAL;
        poll::is_ready(self.door.as_fd(), Events::empty()).is_ok_and(|ready| !ready)
            && !poll::wait_one(self.line.socket.as_fd(), Events::empty(), Deadline::PAST)
                .is_ok_and(|events| events.intersects(gone))
    }

    /// Asks for a child with this process's present state.
    ///
    /// After an error there is no child: what the template may have forked runs nothing of the program
    /// before this process has heard of it. So another template may be asked for the same.
    ///
    /// Several threads may ask at once; they are served one after the other. `interrupted` is called
    /// when a signal arrived while the template is waited for; when it says so, the call gives up,
    /// and the child, if it comes to be, ends before it has begun.
    ///
    /// # Errors
    /// [`Error::TemplateGone`]; [`Error::Fork`] when the template could not fork; EINTR when the
    /// call was given up; when descriptors ran out, here or there.
    pub fn start(
        &self,
        launch: &Launch<'_>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Answer> {
        // First: what is opened from here on may get the number of a closed one.
        let streams = attributes::standard_streams();
        let state = State::capture()?;
        let directory = attributes::working_directory()?;
        let bonds = launch.bonds()?;
        let manifest = launch.manifest(&bonds)?;
        let large = (launch.payload.len() > PAYLOAD_IN_PACKET)
            .then(|| handover::with_content(c"bequeath-launch", launch.payload))
            .transpose()?;
        let inline = large.is_none().then_some(launch.payload);
        let open = streams.map(|stream| stream.is_some());
        let mut descriptors = vec![directory.as_fd()];
        descriptors.extend(streams.iter().flatten());
        descriptors.extend(large.as_ref().map(OwnedFd::as_fd));
        descriptors.extend(manifest.descriptors.iter().copied());
        let mut ask = |fresh| {
            let packet = protocol::start(
                fresh,
                launch.hurried,
                &state,
                open,
                &manifest.header,
                inline,
            );
            if packet.len() > PACKET {
                let reason = "an environment too large for a message";
                return Ok(Some(Answer::Refused(reason.into())));
            }
            let told = self.line.ask(&packet, &descriptors, interrupted)?;
            self.answer(told, interrupted)
        };
        if let Some(answer) = ask(false)? {
            return Ok(answer);
        }
        // The child that was kept ahead is dead, stopped or starved: one is forked.
        ask(true)?.ok_or(Error::Malformed { what: "answer" })
    }

    /// `None`: the child was kept ahead, and is not there.
    fn answer(
        &self,
        (told, came): (Told, Vec<OwnedFd>),
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Answer>> {
        match (told, <[OwnedFd; 2]>::try_from(came)) {
            (Told::Started { pid, ahead }, Ok([pidfd, line])) => {
                let pidfd = PidFd::arrived(pidfd, pid);
                match is_awake(ahead, line.as_fd(), interrupted) {
                    Ok(true) => go_ahead::say(&line),
                    other => {
                        self.line.forgo(pid);
                        let _ = pidfd.send_signal(SIGKILL);
                        return other.map(|_| None);
                    }
                }
                let reaper: Arc<dyn Reaper> = Arc::clone(&self.line) as _;
                Ok(Some(Answer::Child(Child::of_template(pid, pidfd, reaper))))
            }
            // The message arrived without its descriptors: our table is full. The child ends by itself.
            (Told::Started { pid, .. }, Err(_)) => {
                self.line.forgo(pid);
                Err(bequeath_os::Error::new("recvmsg", Errno::MFILE).into())
            }
            (Told::Refused(reason), _) => Ok(Some(Answer::Refused(reason))),
            (Told::Failed(errno), _) => Err(Error::Fork { errno }),
            (Told::Ended(..) | Told::Staying | Told::Note(_), _) => {
                Err(Error::Malformed { what: "answer" })
            }
        }
    }

    /// Lets go of the template; it ends if nobody else uses it. Says whether it will end.
    ///
    /// # Errors
    /// EINTR for a signal.
    pub fn leave(self, patience: Duration) -> Result<bool> {
        drop(self.door);
        let sent = send(self.line.socket.as_fd(), &protocol::goodbye(), &[]);
        if sent.is_err() {
            return Ok(true);
        }
        let deadline = Deadline::after(patience);
        let mut notes = self.line.notes();
        loop {
            match self.line.receive(&mut notes, deadline) {
                Ok(Some(Heard::Answer(Told::Staying, _)) | None) => return Ok(false),
                Ok(Some(_)) => {}
                Err(Error::TemplateGone) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Line {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        // Nothing in here panics half-way through a change.
        self.notes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Nobody will ask after this child, which was never told to go ahead.
    fn forgo(&self, pid: u32) {
        let mut notes = self.notes();
        if notes.ended.remove(&pid).is_some() {
            let _ = send(self.socket.as_fd(), &protocol::collected(pid), &[]);
        } else {
            notes.unwanted.insert(pid);
        }
    }

    fn ask(
        &self,
        packet: &[u8],
        descriptors: &[BorrowedFd<'_>],
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(Told, Vec<OwnedFd>)> {
        let mut notes = self.notes();
        send(self.socket.as_fd(), packet, descriptors)?;
        loop {
            match self.receive(&mut notes, Deadline::NEVER) {
                Ok(Some(Heard::Answer(told, came))) if notes.abandoned == 0 => {
                    return Ok((told, came));
                }
                Ok(Some(Heard::Answer(told, _))) => notes.forgo(&told),
                Ok(Some(Heard::Noted) | None) => {}
                Err(error) if error.is_interrupted() && !interrupted() => {}
                Err(error) => {
                    if error.is_interrupted() {
                        notes.abandoned += 1;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// The next message; reports of an end are noted. `None` at the deadline.
    fn receive(&self, notes: &mut Notes, deadline: Deadline) -> Result<Option<Heard>> {
        loop {
            if poll::wait_one(self.socket.as_fd(), Events::IN, deadline)?.is_empty() {
                return Ok(None);
            }
            let mut packet = [0; 4096];
            let received = match socket::recv(&self.socket, &mut packet, 2, RecvFlags::DONTWAIT) {
                Ok(received) => received,
                Err(error) if error.would_block() => continue,
                Err(error) if error.errno == Errno::CONNRESET => return Err(Error::TemplateGone),
                Err(error) => return Err(error.into()),
            };
            let Received { len, fds, .. } = received;
            if len == 0 {
                return Err(Error::TemplateGone);
            }
            match Told::decode(&packet[..len])? {
                Told::Ended(pid, _) if notes.unwanted.remove(&pid) => {
                    let _ = send(self.socket.as_fd(), &protocol::collected(pid), &[]);
                    return Ok(Some(Heard::Noted));
                }
                Told::Ended(pid, status) => {
                    notes.ended.insert(pid, ExitStatus::from_raw(status));
                    return Ok(Some(Heard::Noted));
                }
                Told::Note(text) => {
                    notes.told.push(text);
                    return Ok(Some(Heard::Noted));
                }
                told => return Ok(Some(Heard::Answer(told, fds))),
            }
        }
    }
}

impl Reaper for Line {
    fn status_of(
        &self,
        pid: u32,
        known: &OnceLock<ExitStatus>,
        deadline: Deadline,
    ) -> Result<Option<ExitStatus>> {
        if self.owner != std::process::id() {
            // A copy in a forked child; the lock may be held by a thread that does not exist here.
            return Ok(Some(ExitStatus::Lost));
        }
        let mut notes = self.notes();
        loop {
            if let Some(status) = known.get() {
                return Ok(Some(*status)); // another thread was first
            }
            if let Some(status) = notes.ended.remove(&pid) {
                let status = *known.get_or_init(|| status);
                // Whether or not the template hears it: when this process ends, it knows anyway.
                let _ = send(self.socket.as_fd(), &protocol::collected(pid), &[]);
                return Ok(Some(status));
            }
            match self.receive(&mut notes, deadline) {
                Ok(Some(Heard::Noted)) => {}
                Ok(Some(Heard::Answer(told, _))) => notes.forgo(&told),
                Ok(None) => return Ok(None),
                Err(Error::TemplateGone) => return Ok(Some(ExitStatus::Lost)),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Notes {
    /// The answer to a request that was given up. The child, never told to go ahead, ends by itself.
    fn forgo(&mut self, told: &Told) {
        self.abandoned = self.abandoned.saturating_sub(1);
        if let Told::Started { pid, .. } = told {
            self.unwanted.insert(*pid);
        }
    }
}

/// Whether a child that was kept ahead says so in time; any other needs not say it.
fn is_awake(
    ahead: bool,
    line: BorrowedFd<'_>,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<bool> {
    if !ahead {
        return Ok(true);
    }
    let deadline = Deadline::after(PATIENCE);
    loop {
        match poll::wait_one(line, Events::IN, deadline) {
            Ok(events) => return Ok(!events.is_empty() && go_ahead::is_heard(line)),
            Err(error) if error.is_interrupted() && !interrupted() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn send(socket: BorrowedFd<'_>, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    loop {
        match socket::send(
            socket,
            &[IoSlice::new(packet)],
            descriptors,
            SendFlags::empty(),
        ) {
            Ok(_) => return Ok(()),
            // Packets are whole: nothing has been sent.
            Err(error) if error.is_interrupted() => {}
            Err(error) if matches!(error.errno, Errno::PIPE | Errno::CONNRESET) => {
                return Err(Error::TemplateGone);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
