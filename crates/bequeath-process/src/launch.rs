//! What a child is started with: a payload that this crate does not look into, and descriptors,
//! each with its role. The same for an exec'ed child, which reads it from a memory file, and for
//! one that a template forks, which has it in the request.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use bequeath_os::{handover, socket::MAX_DESCRIPTORS, PidFd};

use crate::child::Child;
use crate::command::Command;
use crate::error::{Error, Result};
use crate::tie::{OnParentDeath, Tie};
use crate::watch;
use crate::wire::{Reader, Writer};

const MAGIC: u64 = u64::from_le_bytes(*b"bqlaunch");
const VERSION: u32 = 1;

/// What a descriptor is to the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    /// The parent, as a pidfd.
    Parent = 1,
    /// The reading end of the parent's lifeline.
    Tie = 2,
    /// The session's arena.
    Session = 3,
    /// The way to a template of the tree, whose key says which.
    Door = 4,
    /// Something that the payload refers to by its position.
    Given = 5,
}

impl Role {
    fn from_u8(value: u8) -> Result<Self> {
        [
            Self::Parent,
            Self::Tie,
            Self::Session,
            Self::Door,
            Self::Given,
        ]
        .into_iter()
        .find(|role| *role as u8 == value)
        .ok_or(Error::Malformed { what: "role" })
    }
}

/// What a child shall be started with.
#[derive(Debug)]
pub struct Launch<'fd> {
    /// The child's name, for its template and the kernel.
    pub name: &'fd str,
    /// What becomes of the child when this process is gone.
    pub on_parent_death: Option<OnParentDeath>,
    /// What the child shall read.
    pub payload: &'fd [u8],
    /// The session's arena, if this process has one.
    pub session: Option<BorrowedFd<'fd>>,
    /// Ways to templates, with their keys.
    pub doors: Vec<(u64, BorrowedFd<'fd>)>,
    /// What the payload refers to, in order.
    pub given: Vec<BorrowedFd<'fd>>,
    /// Several are started together, and somebody waits for the first: a template keeps no child ahead meanwhile.
    pub hurried: bool,
}

/// The descriptors of a launch in the order in which they travel.
pub(crate) struct Manifest<'fd> {
    pub(crate) header: Vec<u8>,
    pub(crate) descriptors: Vec<BorrowedFd<'fd>>,
}

/// Those that are made for one launch and dropped after it.
#[derive(Debug)]
pub(crate) struct Bonds {
    parent: PidFd,
    tie: Option<OwnedFd>,
}

impl Launch<'_> {
    pub(crate) fn bonds(&self) -> Result<Bonds> {
        let tie = self
            .on_parent_death
            .map(|_| Tie::to_this_process())
            .transpose()?;
        Ok(Bonds {
            parent: watch::this_process()?,
            tie: tie.map(Tie::into_fd),
        })
    }

    pub(crate) fn manifest<'a>(&'a self, bonds: &'a Bonds) -> Result<Manifest<'a>> {
        let mut entries: Vec<(Role, u64, BorrowedFd<'a>)> =
            Vec::with_capacity(self.given.len() + 6);
        entries.push((Role::Parent, 0, bonds.parent.as_fd()));
        if let Some(tie) = &bonds.tie {
            entries.push((Role::Tie, 0, tie.as_fd()));
        }
        entries.extend(self.session.map(|fd| (Role::Session, 0, fd)));
        entries.extend(self.doors.iter().map(|(key, fd)| (Role::Door, *key, *fd)));
        entries.extend(self.given.iter().map(|fd| (Role::Given, 0, *fd)));
        if entries.len() > DESCRIPTORS {
            return Err(Error::TooManyDescriptors {
                count: entries.len(),
                limit: DESCRIPTORS,
            });
        }
        let mut header = Writer::default();
        header.bytes(self.name.as_bytes());
        header.u8(encode(self.on_parent_death));
        header.u32(entries.len() as u32);
        for (role, key, _) in &entries {
            header.u8(*role as u8);
            header.u64(*key);
        }
        let descriptors = entries.into_iter().map(|(_, _, fd)| fd).collect();
        Ok(Manifest {
            header: header.into_bytes(),
            descriptors,
        })
    }

    /// Writes everything into a memory file that the child will read from its start.
    ///
    /// # Errors
    /// When memory or descriptors ran out.
    pub fn seal(&self) -> Result<Sealed<'_>> {
        let bonds = self.bonds()?;
        let numbers: Vec<RawFd>;
        let mut file = Writer::default();
        {
            let manifest = self.manifest(&bonds)?;
            numbers = manifest
                .descriptors
                .iter()
                .map(AsRawFd::as_raw_fd)
                .collect();
            file.u64(MAGIC);
            file.u32(VERSION);
            file.bytes(&manifest.header);
            for number in &numbers {
                file.u32(number.unsigned_abs());
            }
        }
        file.bytes(self.payload);
        let file = handover::with_content(c"bequeath-launch", &file.into_bytes())?;
        Ok(Sealed {
            launch: self,
            bonds,
            file,
        })
    }
}

/// A launch on its way to an exec'ed child.
#[derive(Debug)]
pub struct Sealed<'a> {
    launch: &'a Launch<'a>,
    bonds: Bonds,
    file: OwnedFd,
}

impl Sealed<'_> {
    /// The number under which the child will find the memory file.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// For this process's own next program: leaves everything open across its exec, and says where.
    ///
    /// # Errors
    /// EBADF.
    pub fn leave_open(self) -> Result<RawFd> {
        let Self {
            launch,
            bonds,
            file,
        } = self;
        let descriptors = launch.manifest(&bonds)?.descriptors;
        for fd in descriptors.iter().chain([&file.as_fd()]) {
            handover::keep_across_exec(*fd)?;
        }
        std::mem::forget(bonds);
        Ok(file.into_raw_fd())
    }

    /// Runs the program, whose arguments tell it [`number`](Self::number).
    ///
    /// # Errors
    /// What the kernel refused; no process is left then.
    pub fn execute(&self, command: Command<'_>) -> Result<Child> {
        let manifest = self.launch.manifest(&self.bonds)?;
        let mut command = command.keep(self.file.as_fd());
        for fd in &manifest.descriptors {
            command = command.keep(*fd);
        }
        command.start()
    }
}

/// A launch as the child finds it.
#[derive(Debug)]
pub struct Arrived {
    /// The child's name.
    pub name: String,
    /// What the starter put in.
    pub payload: Vec<u8>,
    /// The starter.
    pub parent: Option<PidFd>,
    /// The session's arena.
    pub session: Option<OwnedFd>,
    /// Ways to templates, with their keys.
    pub doors: Vec<(u64, OwnedFd)>,
    /// What the payload refers to, in order.
    pub given: Vec<OwnedFd>,
    on_parent_death: Option<OnParentDeath>,
    tie: Option<OwnedFd>,
}

impl Arrived {
    /// Reads the memory file, and takes over the descriptors whose numbers it tells.
    ///
    /// # Errors
    /// When it is no launch, or a descriptor that it tells of is not open.
    pub fn from_file(file: &OwnedFd) -> Result<Self> {
        let content = handover::content(file.as_fd())?;
        let mut reader = Reader::new(&content);
        if reader.u64("launch")? != MAGIC || reader.u32("launch version")? != VERSION {
            return Err(Error::Malformed { what: "launch" });
        }
        let header = reader.bytes("header")?;
        let count = Self::count(header)?;
        let mut descriptors = Vec::with_capacity(count.min(DESCRIPTORS));
        for _ in 0..count {
            let number = reader.u32("descriptor")?;
            descriptors.push(handover::adopt_inherited(number)?);
        }
        Self::from_parts(header, descriptors, reader.bytes("payload")?.to_vec())
    }

    /// Whether a header says that the starter's death is to end the child.
    pub(crate) fn tells_tie(header: &[u8]) -> bool {
        let mut reader = Reader::new(header);
        reader.bytes("name").is_ok() && reader.u8("tie").is_ok_and(|tie| decode(tie).is_some())
    }

    fn count(header: &[u8]) -> Result<usize> {
        let mut reader = Reader::new(header);
        reader.bytes("name")?;
        reader.u8("tie")?;
        Ok(reader.u32("count")? as usize)
    }

    /// From what came over a socket: descriptors in the order of the header.
    pub(crate) fn from_parts(
        header: &[u8],
        descriptors: Vec<OwnedFd>,
        payload: Vec<u8>,
    ) -> Result<Self> {
        let mut reader = Reader::new(header);
        let name = String::from_utf8_lossy(reader.bytes("name")?).into_owned();
        let on_parent_death = decode(reader.u8("tie")?);
        if reader.u32("count")? as usize != descriptors.len() {
            return Err(Error::Malformed {
                what: "number of descriptors",
            });
        }
        let mut arrived = Self {
            name,
            payload,
            parent: None,
            session: None,
            doors: Vec::new(),
            given: Vec::new(),
            on_parent_death,
            tie: None,
        };
        for fd in descriptors {
            let role = Role::from_u8(reader.u8("role")?)?;
            let key = reader.u64("key")?;
            match role {
                Role::Parent => arrived.parent = Some(PidFd::from_fd(fd)),
                Role::Tie => arrived.tie = Some(fd),
                Role::Session => arrived.session = Some(fd),
                Role::Door => arrived.doors.push((key, fd)),
                Role::Given => arrived.given.push(fd),
            }
        }
        Ok(arrived)
    }

    /// The numbers of all descriptors that came.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        let parent = self.parent.iter().map(|pidfd| pidfd.as_fd().as_raw_fd());
        let doors = self.doors.iter().map(|(_, door)| door);
        let owned = self
            .session
            .iter()
            .chain(&self.tie)
            .chain(doors)
            .chain(&self.given);
        parent.chain(owned.map(AsRawFd::as_raw_fd))
    }

    /// Whether the starter's death is to end this process.
    #[must_use]
    pub const fn is_tied(&self) -> bool {
        self.on_parent_death.is_some()
    }

    /// In the child, once: from now on the starter's death ends this process, if it was so wished.
    ///
    /// # Errors
    /// Where the kernel has no signals for pipes.
    pub fn hold_tie(&mut self) -> Result<()> {
        match (self.tie.take(), self.on_parent_death) {
            (Some(fd), Some(on_parent_death)) => Tie::from_fd(fd).hold(on_parent_death),
            _ => Ok(()),
        }
    }
}

/// How many descriptors a launch can carry beside those of the template's request itself.
const DESCRIPTORS: usize = MAX_DESCRIPTORS - 8;

const fn encode(on_parent_death: Option<OnParentDeath>) -> u8 {
    match on_parent_death {
        None => 0,
        Some(OnParentDeath::Terminate) => 1,
        Some(OnParentDeath::Kill) => 2,
    }
}

const fn decode(value: u8) -> Option<OnParentDeath> {
    match value {
        1 => Some(OnParentDeath::Terminate),
        2 => Some(OnParentDeath::Kill),
        _ => None,
    }
}
