//! The session: the processes of one tree and the memory that they share.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, MutexGuard};

use bequeath_os::{limits, memfd};
use bequeath_sync::atomic::{AtomicU64, Ordering::*};
use bequeath_sync::ProcessId;

use crate::budget::{self, LimitSource};
use crate::current;
use crate::layout::{
    Geometry, Header, DEATHS_AT, DEFAULT_SIZE, MAGIC, MINIMUM_SIZE, PAGE, VERSION,
};
use crate::local::{Local, LocalTables};
use crate::members::Standing;
use crate::space::{Access, Space};
use crate::words::{self, MemberName};
use crate::{Error, Result};

/// What a new session is to be like.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Fixed size of the arena in bytes; default 1 TiB or what RLIMIT_FSIZE allows.
    pub size: Option<u64>,
    /// Memory budget in bytes; default: half of what the limits leave, or `BEQUEATH_MEMORY_LIMIT`.
    pub limit: Option<u64>,
}

/// This process's membership in a session; clones share it.
///
/// # After fork
/// With [`Session::before_fork`] and its two answers the child is a member with its own counts of
/// all that its parent held. Without them (a fork that no hook saw) the child joins by itself at the
/// first use.
///
/// # If a peer dies
/// What it held is given back by whoever proves its death: see [`Session::scavenge`].
#[derive(Clone)]
pub struct Session(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) space: Space,
    /// This process as owner words name it, and whose name that is (a forked child's differs).
    me: AtomicU64,
    identity: AtomicU64,
    sequence: AtomicU64,
    local: LocalTables,
    /// This process was forked into another PID namespace.
    abroad: AtomicBool,
}

/// Whether that is so of any session of this process: all that a usual process reads.
static ABROAD: AtomicBool = AtomicBool::new(false);

/// Figures of a session, for people and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes of pages that the arena has, by the kernel's count.
    pub used: u64,
    /// The budget.
    pub limit: u64,
    /// Fixed size of the arena.
    pub size: u64,
    /// Bytes of free blocks whose pages are kept for reuse (approximate).
    pub warm: u64,
    /// Processes that are members now.
    pub members: u64,
    /// Children that were announced before a fork and have not claimed their place yet.
    pub announced: u64,
    /// References that are counted now, of processes and envelopes.
    pub references: u64,
    /// Slots and runs in use: objects, blocks, envelopes.
    pub places: u64,
}

impl Session {
    /// Makes a session with this process as its first member.
    ///
    /// # Errors
    /// Without memory files, under too small an RLIMIT_FSIZE, out of descriptors or memory.
    pub fn create(options: &Options) -> Result<Self> {
        let allowed = limits::file_size().soft.unwrap_or(u64::MAX);
        let size = options.size.unwrap_or(DEFAULT_SIZE).min(allowed);
        if size < MINIMUM_SIZE {
            return Err(Error::FileSizeLimit {
                needed: MINIMUM_SIZE,
                allowed: size,
            });
        }
        let geometry = Geometry::of(size.min(DEFAULT_SIZE));
        let fd = memfd::create(c"bequeath", geometry.size)?;
        memfd::seal(&fd)?;
        memfd::allocate(&fd, 0, size_of::<Header>() as u64)?;
        memfd::allocate(&fd, DEATHS_AT, PAGE)?;
        let space = Space::new(fd, geometry, Access::Write)?;
        let size_source = match options.size {
            Some(_) if geometry.size <= allowed => LimitSource::Program,
            None if geometry.size == DEFAULT_SIZE => LimitSource::Arena,
            _ => LimitSource::FileSize,
        };
        write_header(&space, options.limit, size_source)?;
        Self::join(space)
    }

    /// Joins the session whose arena this descriptor is.
    ///
    /// # Errors
    /// [`Error::NotASession`], [`Error::ForeignSession`], [`Error::Corrupted`].
    pub fn attach(descriptor: OwnedFd) -> Result<Self> {
        let (size, geometry) = geometry_of(&descriptor)?;
        let space = Space::new(descriptor, geometry, Access::Write)?;
        check_header(&space, size)?;
        Self::join(space)
    }

    fn join(space: Space) -> Result<Self> {
        crate::objects::register();
        let identity = ProcessId::current();
        let me = space.join(identity, Standing::Live, 0)?;
        space.tell_about(me);
        Ok(Self(Arc::new(Inner {
            space,
            me: AtomicU64::new(me.to_word()),
            identity: AtomicU64::new(identity.to_bits()),
            sequence: AtomicU64::new(0),
            local: LocalTables::new(),
            abroad: AtomicBool::new(false),
        })))
    }

    /// The session that this process uses by default, if it has one yet.
    #[must_use]
    pub fn current() -> Option<Self> {
        current::get()
    }

    /// The same, borrowed for the rest of the process's life.
    pub(crate) fn current_for_ever() -> Option<&'static Inner> {
        current::get_ref()
    }

    /// Makes this the process's default session, and its members the ones that locks ask about.
    pub fn set_current(&self) {
        current::set(self);
        crate::waits::provide();
        bequeath_sync::owner::set_exited_in_order(|process| {
            Self::current().is_some_and(|session| session.space().left_in_order(process))
        });
    }

    /// The arena's descriptor, after checking that the number still means it.
    ///
    /// # Errors
    /// [`Error::DescriptorLost`].
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        self.0.space.descriptor()
    }

    /// 128 random bits that tell this session from every other.
    #[must_use]
    pub fn id(&self) -> u128 {
        let [high, low] = self
            .space()
            .header()
            .session
            .each_ref()
            .map(|half| half.load(Relaxed));
        u128::from(high) << 64 | u128::from(low)
    }

    pub(crate) fn space(&self) -> &Space {
        &self.0.space
    }

    pub(crate) fn local(&self) -> MutexGuard<'_, Local> {
        self.0.local.lock()
    }

    pub(crate) fn local_tables(&self) -> &LocalTables {
        &self.0.local
    }

    /// This process as owner words name it. A child of a fork that no hook saw joins here.
    pub(crate) fn me(&self) -> Result<MemberName> {
        if !self.is_mine() {
            self.join_forked_child()?;
        }
        Ok(MemberName::from_word(self.0.me.load(Relaxed)))
    }

    /// Refuses a process that was forked into another PID namespace (`unshare`): the session's process
    /// numbers are other processes' there, so that it would take the living for dead, and be taken for another.
    ///
    /// # Errors
    /// [`Error::ForeignSession`].
    #[inline]
    pub fn check_at_home(&self) -> Result<()> {
        if ABROAD.load(Relaxed) && self.0.abroad.load(Relaxed) {
            return Err(Error::ForeignSession(ANOTHER_NAMESPACE));
        }
        Ok(())
    }

    /// In a forked child, whose parent was `parent`: whether it may use the session. One that may not can
    /// make another: this one is no longer its default.
    pub(crate) fn arrive(&self, parent: Option<ProcessId>) -> Result<()> {
        // A parent in another namespace has no number here.
        let seen = std::os::unix::process::parent_id();
        if parent.is_some_and(|parent| parent.pid() == seen) {
            return Ok(());
        }
        let (home, here) = (&self.space().header().pid_namespace, namespace("pid"));
        let home = home.load(Relaxed);
        if home != 0 && here != 0 && home != here {
            self.0.abroad.store(true, Relaxed);
            ABROAD.store(true, Relaxed);
            current::forget(self);
        }
        self.check_at_home()
    }

    /// Whether this very process joined (and not its parent before a fork).
    pub(crate) fn is_mine(&self) -> bool {
        self.0.identity.load(Relaxed) == ProcessId::current().to_bits()
    }

    pub(crate) fn become_member(&self, me: MemberName) {
        self.0.me.store(me.to_word(), Relaxed);
        self.0.space.tell_about(me);
        self.0
            .identity
            .store(ProcessId::current().to_bits(), Relaxed);
    }

    /// This process's owner word; `None` in a forked child that has not joined: what it finds in its
    /// memory is its parent's, so that dropping it must do nothing.
    pub(crate) fn my_word(&self) -> Option<u64> {
        self.is_mine()
            .then(|| words::owned(MemberName::from_word(self.0.me.load(Relaxed))))
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.0.sequence.fetch_add(1, Relaxed)
    }

    /// Figures of this moment.
    ///
    /// # Errors
    /// When the descriptor is lost.
    pub fn usage(&self) -> Result<Usage> {
        let space = self.space();
        let header = space.header();
        let warm =
            [&header.warm_slots, &header.warm_runs].map(|bytes| bytes.load(Relaxed).max(0) as u64);
        let mut references = 0;
        space.for_each_reference(|_, _| references += 1);
        let mut places = 0;
        space.for_each_place(|place| {
            places += u64::from(place.slot.owner.load(Relaxed) > words::FREE_WARM);
        });
        Ok(Usage {
            used: space.used()?,
            limit: self.limit(),
            size: space.geometry.size,
            warm: warm[0].saturating_add(warm[1]),
            members: space
                .members()
                .filter(|seen| seen.standing == Standing::Live)
                .count() as u64,
            announced: space
                .members()
                .filter(|seen| seen.standing == Standing::Pending)
                .count() as u64,
            references,
            places,
        })
    }

    /// One line per slot and run in use: where, how large, whose. For tests and bug reports.
    #[must_use]
    pub fn describe_places(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.space().for_each_place(|place| {
            let slot = place.slot;
            let owner = slot.owner.load(Relaxed);
            if owner > words::FREE_WARM {
                let (via, generation) = (slot.via.load(Relaxed), slot.generation.load(Relaxed));
                lines.push(format!(
                    "{:#x}.{generation} of {} bytes: {:?} (word {owner:#x}, via {via:#x})",
                    place.offset,
                    place.size,
                    words::parse(owner),
                ));
            }
        });
        lines
    }

    /// The memory budget in bytes, the same for all members.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.space().header().limit.load(Relaxed)
    }

    /// Changes the budget for all members.
    pub fn set_limit(&self, bytes: u64) {
        self.space().header().limit.store(bytes, Relaxed);
        let size = self.space().size_source();
        self.space().note_sources(LimitSource::Program, size);
    }

    /// Gives back what is only kept for speed: pages of free blocks, and extents that no block is in.
    /// Returns how many bytes of pages that were. Done by itself when memory is short.
    ///
    /// # Errors
    /// When the descriptor is lost.
    pub fn trim(&self) -> Result<u64> {
        Ok(self.space().trim(words::owned(self.me()?)))
    }

    /// Bytes of the largest block that is no run of extents of its own: 1.3 MiB, less in a small arena.
    #[must_use]
    pub fn largest_slot(&self) -> usize {
        self.space().geometry.largest_slot as usize
    }

    /// A cell in the session's header that serialises access to the board, the socket pair through which
    /// the channel's queues share their descriptors; all zero at the start.
    #[must_use]
    pub fn board_cell(&self) -> &bequeath_sync::Cell<1> {
        &self.space().header().board
    }

    /// In a model: takes back what the kernel takes back when a process ends. Its thread runs no more.
    #[cfg(shuttle)]
    pub fn abandon(&self) {
        self.space().let_go();
    }

    /// Says that this process ends in order: a lock that it holds stays held in the eyes of others,
    /// as with multiprocessing. Nothing is given back yet, since daemon threads may still run;
    /// whoever proves this process's end does that.
    pub fn leave_in_order(&self) {
        if self.is_mine() {
            let me = MemberName::from_word(self.0.me.load(Relaxed));
            self.space()
                .change_standing(me, Standing::Live, Standing::Leaving);
        }
    }
}

impl Drop for Inner {
    /// Only for sessions that are not the process's default: nothing of theirs is in use any more.
    fn drop(&mut self) {
        if self.identity.load(Relaxed) != ProcessId::current().to_bits() {
            return;
        }
        let me = MemberName::from_word(self.me.load(Relaxed));
        if let Some(seen) = self.space.see(me.index).filter(|seen| seen.name == me) {
            self.space
                .change_standing(me, seen.standing, Standing::Free);
            self.space.clear_identity(seen);
        }
    }
}

fn write_header(space: &Space, limit: Option<u64>, size_source: LimitSource) -> Result<()> {
    space.at(0)?;
    let header = space.header();
    let random = || RandomState::new().build_hasher().finish();
    for half in &header.session {
        half.store(random(), Relaxed);
    }
    let size = space.geometry.size;
    header.size.store(size, Relaxed);
    header.pid_namespace.store(namespace("pid"), Relaxed);
    header.time_namespace.store(namespace("time"), Relaxed);
    header
        .uid
        .store(u64::from(memfd::owner_uid(space.descriptor()?)?), Relaxed);
    let (limit, source) = match limit {
        Some(limit) => (limit, LimitSource::Program),
        None => budget::default_limit(size, size_source),
    };
    header.limit.store(limit, Relaxed);
    space.note_sources(source, size_source);
    header.fresh.store(space.geometry.first, Relaxed);
    header.version.store(VERSION, Relaxed);
    header.magic.store(MAGIC, Release);
    Ok(())
}

/// Size and layout of the arena that a descriptor seems to be.
pub(crate) fn geometry_of(descriptor: &OwnedFd) -> Result<(u64, Geometry)> {
    if !memfd::is_sealed(descriptor).unwrap_or(false) {
        return Err(Error::NotASession(
            "the descriptor is not a sealed memory file",
        ));
    }
    let size = memfd::len(descriptor)?;
    if !(MINIMUM_SIZE..=DEFAULT_SIZE).contains(&size) {
        return Err(Error::NotASession("it has no arena's size"));
    }
    Ok((size, Geometry::of(size)))
}

/// Refuses what is not an arena of this layout.
pub(crate) fn check_layout(space: &Space, size: u64) -> Result<()> {
    space.at(0)?;
    let header: &Header = space.header();
    if header.magic.load(Acquire) != MAGIC {
        return Err(Error::NotASession("no session's mark at its start"));
    }
    if header.version.load(Relaxed) != VERSION {
        return Err(Error::NotASession("another layout version"));
    }
    let fresh = header.fresh.load(Relaxed);
    if header.size.load(Relaxed) != size
        || !(space.geometry.first..=space.geometry.extents).contains(&fresh)
    {
        return Err(Error::Corrupted("sizes in the header contradict the file"));
    }
    Ok(())
}

/// Refuses also arenas whose process numbers mean nothing here.
fn check_header(space: &Space, size: u64) -> Result<()> {
    check_layout(space, size)?;
    let header: &Header = space.header();
    let same = |field: &AtomicU64, here: u64| field.load(Relaxed) == here;
    if !same(&header.pid_namespace, namespace("pid")) {
        return Err(Error::ForeignSession(ANOTHER_NAMESPACE));
    }
    if !same(&header.time_namespace, namespace("time")) {
        return Err(Error::ForeignSession(
            "its processes are of another time namespace",
        ));
    }
    if !same(&header.uid, u64::from(bequeath_os::memfd::user_id())) {
        return Err(Error::ForeignSession("it belongs to another user"));
    }
    Ok(())
}

const ANOTHER_NAMESPACE: &str =
    "it is of another PID namespace, in which process numbers mean other processes";

/// Inode of a namespace of this process; 0 where procfs does not tell.
fn namespace(kind: &str) -> u64 {
    std::fs::metadata(format!("/proc/self/ns/{kind}")).map_or(0, |meta| meta.ino())
}
