//! Who is a member: one entry per process, claimed by one compare-and-swap of its identity.
//!
//! Identity first, state second: an entry whose identity is dead and whose state is still FREE
//! belonged to somebody who died in between and owned nothing yet.

use std::sync::atomic::Ordering::*;

use bequeath_sync::ProcessId;

use crate::layout::{Member, PAGE};
use crate::space::Space;
use crate::words::MemberName;
use crate::{Error, Result};

/// What an entry's process is to the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    Free,
    Live,
    /// A child that is being prepared for; the identity is its parent's, and nobody else exists yet.
    Preparing,
    /// A child that is being forked; the identity is still its parent's.
    Pending,
    /// Exiting in order: what it holds stays held in the eyes of multiprocessing.
    Leaving,
    /// Left in order and settled; kept so that locks can tell.
    Left,
    /// A pending child whose claim came too late, or never: being settled.
    Settling,
    Unknown,
}

impl Standing {
    fn from_state(state: u64) -> Self {
        match state & 0xff {
            0 => Self::Free,
            1 => Self::Live,
            2 => Self::Pending,
            3 => Self::Leaving,
            4 => Self::Left,
            5 => Self::Settling,
            6 => Self::Preparing,
            _ => Self::Unknown,
        }
    }

    /// As people read it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Live => "live",
            Self::Preparing => "preparing",
            Self::Pending => "pending",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Settling => "settling",
            Self::Unknown => "unknown",
        }
    }

    fn with(self, generation: u32) -> u64 {
        let tag = match self {
            Self::Free | Self::Unknown => 0,
            Self::Live => 1,
            Self::Pending => 2,
            Self::Leaving => 3,
            Self::Left => 4,
            Self::Settling => 5,
            Self::Preparing => 6,
        };
        u64::from(generation) << 32 | tag
    }
}

/// One entry, read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) name: MemberName,
    pub(crate) identity: Option<ProcessId>,
    pub(crate) standing: Standing,
    pub(crate) note: Option<ProcessId>,
    pub(crate) stamp: u64,
}

impl Space {
    fn member_table(&self) -> u64 {
        self.header()
            .members
            .load(Acquire)
            .min(self.geometry.members)
    }

    pub(crate) fn member(&self, index: u16) -> Result<&Member> {
        if u64::from(index) >= self.geometry.members {
            return Err(Error::Corrupted("a member beyond the table"));
        }
        self.shared(self.geometry.members_at + u64::from(index) * 64)
    }

    /// All entries that are in use.
    pub(crate) fn members(&self) -> impl Iterator<Item = Seen> + '_ {
        (0..self.member_table()).filter_map(|index| {
            let seen = self.see(index as u16)?;
            (seen.identity.is_some() || seen.standing != Standing::Free).then_some(seen)
        })
    }

    pub(crate) fn see(&self, index: u16) -> Option<Seen> {
        let member = self.member(index).ok()?;
        let mut state = member.state.load(Acquire);
        // Read between two looks at the same state: the identity of a later user of the entry must not
        // be taken for that of an earlier one. (Somebody may write nonsense into it all the time.)
        let mut left = 100;
        loop {
            let seen = Seen {
                name: MemberName {
                    index,
                    generation: (state >> 32) as u32,
                },
                identity: ProcessId::from_bits(member.identity.load(Acquire)),
                standing: Standing::from_state(state),
                note: ProcessId::from_bits(member.note.load(Acquire)),
                stamp: member.stamp.load(Relaxed),
            };
            let after = member.state.load(Acquire);
            left -= 1;
            if after == state || left == 0 {
                return Some(seen);
            }
            state = after;
        }
    }

    /// Claims an entry for `identity` with this standing (Live, or Pending for a child).
    pub(crate) fn join(
        &self,
        identity: ProcessId,
        standing: Standing,
        stamp: u64,
    ) -> Result<MemberName> {
        loop {
            let count = self.member_table();
            for index in 0..count {
                if let Some(name) = self.try_claim(index as u16, identity, standing, stamp)? {
                    return Ok(name);
                }
            }
            if count == self.geometry.members {
                self.forget_one_that_left()?;
            } else {
                self.back_tables(self.geometry.members_at + count * 64, PAGE)?;
                let _ = self.header().members.compare_exchange(
                    count,
                    count + PAGE / 64,
                    AcqRel,
                    Relaxed,
                );
            }
        }
    }

    fn try_claim(
        &self,
        index: u16,
        identity: ProcessId,
        standing: Standing,
        stamp: u64,
    ) -> Result<Option<MemberName>> {
        let member = self.member(index)?;
        if member.identity.load(Relaxed) != 0
            || member
                .identity
                .compare_exchange(0, identity.to_bits(), AcqRel, Relaxed)
                .is_err()
        {
            return Ok(None);
        }
        let generation = ((member.state.load(Acquire) >> 32) as u32).wrapping_add(1);
        member.note.store(0, Relaxed);
        member.stamp.store(stamp, Relaxed);
        member.about.set_words([0; 4]);
        member.state.store(standing.with(generation), Release);
        Ok(Some(MemberName { index, generation }))
    }

    fn forget_one_that_left(&self) -> Result<()> {
        let left = self.members().find(|seen| seen.standing == Standing::Left);
        let seen = left.ok_or(Error::TableFull {
            what: "member processes",
            limit: self.geometry.members,
        })?;
        self.change_standing(seen.name, Standing::Left, Standing::Free);
        self.clear_identity(seen);
        Ok(())
    }

    /// One step of an entry's life; false when somebody else took it before.
    pub(crate) fn change_standing(&self, name: MemberName, from: Standing, to: Standing) -> bool {
        let Ok(member) = self.member(name.index) else {
            return false;
        };
        let (from, to) = (from.with(name.generation), to.with(name.generation));
        member
            .state
            .compare_exchange(from, to, AcqRel, Relaxed)
            .is_ok()
    }

    /// Last step of settling: the entry is free for others.
    pub(crate) fn clear_identity(&self, seen: Seen) {
        if let (Ok(member), Some(identity)) = (self.member(seen.name.index), seen.identity) {
            let _ = member
                .identity
                .compare_exchange(identity.to_bits(), 0, AcqRel, Relaxed);
        }
    }

    /// The latest dead process that had this number, with its entry. (There may be several: who left in order keeps
    /// an entry, and a child that is announced has its parent's name.)
    pub(crate) fn latest_dead(&self, pid: u32) -> Option<(Seen, ProcessId)> {
        let had_it = |process: &ProcessId| process.pid() == pid && process.is_dead();
        let of_one = |seen: Seen| {
            let process = seen.note.filter(had_it).or(seen.identity.filter(had_it))?;
            Some((seen, process))
        };
        self.members()
            .filter_map(of_one)
            .max_by_key(|(seen, process)| {
                let own = matches!(seen.standing, Standing::Live | Standing::Leaving);
                (process.start_ticks(), own)
            })
    }

    /// Whether this process marked its exit as an orderly one.
    pub(crate) fn left_in_order(&self, identity: ProcessId) -> bool {
        self.members().any(|seen| {
            seen.identity == Some(identity)
                && matches!(seen.standing, Standing::Leaving | Standing::Left)
        })
    }
}
