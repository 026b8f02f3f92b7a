//! How much memory a session may use, when nobody says otherwise.
//!
//! `fallocate` does not fail at a control group's limit: the kernel kills. So the session refuses
//! first: at half of what the limits and the free memory leave when it is made, and where growing
//! further would use up what the group or the machine has left at that moment.

use std::fmt;

use bequeath_os::limits;

use crate::layout::PAGE;

/// Environment variable with the limit: bytes, or a number with K, M, G or T behind it.
pub const LIMIT_VARIABLE: &str = "BEQUEATH_MEMORY_LIMIT";

/// Reads a limit such as `1500000`, `512M` or `2GiB`.
#[must_use]
pub fn parse_limit(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// What set a limit that was met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LimitSource {
    /// [`LIMIT_VARIABLE`].
    Variable,
    /// A control group's memory limit.
    Cgroup,
    /// The memory that the machine had left.
    AvailableMemory,
    /// RLIMIT_AS.
    AddressSpace,
    /// RLIMIT_FSIZE.
    FileSize,
    /// [`Session::set_limit`](crate::Session::set_limit) or [`Options`](crate::Options).
    Program,
    /// The largest arena that there can be.
    Arena,
}

impl LimitSource {
    const ALL: [Self; 7] = [
        Self::Variable,
        Self::Cgroup,
        Self::AvailableMemory,
        Self::AddressSpace,
        Self::FileSize,
        Self::Program,
        Self::Arena,
    ];

    pub(crate) fn to_word(self) -> u64 {
        let place = Self::ALL.iter().position(|source| *source == self);
        place.map_or(0, |place| place as u64)
    }

    pub(crate) fn from_word(word: u64) -> Self {
        let known = usize::try_from(word).ok().and_then(|at| Self::ALL.get(at));
        known.copied().unwrap_or(Self::Program)
    }
}

impl fmt::Display for LimitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Variable => LIMIT_VARIABLE,
            Self::Cgroup => "cgroup",
            Self::AvailableMemory => "available memory",
            Self::AddressSpace => "RLIMIT_AS",
            Self::FileSize => "RLIMIT_FSIZE",
            Self::Program => "the program",
            Self::Arena => "the largest possible arena",
        })
    }
}

/// The budget of a new session in an arena of `size` bytes, which `size_source` decided.
pub(crate) fn default_limit(size: u64, size_source: LimitSource) -> (u64, LimitSource) {
    let asked = std::env::var(LIMIT_VARIABLE)
        .ok()
        .and_then(|text| parse_limit(&text));
    let (limit, source) = match asked {
        Some(limit) => (limit, LimitSource::Variable),
        None => {
            let ceilings = [
                (limits::cgroup_memory(), LimitSource::Cgroup),
                (limits::available_memory(), LimitSource::AvailableMemory),
                (limits::address_space().soft, LimitSource::AddressSpace),
            ];
            let known = ceilings
                .into_iter()
                .filter_map(|(limit, source)| Some((limit?, source)));
            let (room, source) = known
                .min_by_key(|(limit, _)| *limit)
                .unwrap_or((1 << 30, LimitSource::AvailableMemory));
            ((room / 2).max(64 * PAGE), source)
        }
    };
    if limit <= size {
        (limit, source)
    } else {
        (size, size_source)
    }
}

/// The most that a process adds to the arena without looking again at what the machine has left.
const STRIDE: u64 = 256 << 20;
/// What it may add before the first look: most children need no more, and a look costs a start dearly.
pub(crate) const UNSEEN: u64 = 1 << 20;
/// What is always left to the program itself: an eighth of the group's limit, and at most so much.
const RESERVE: u64 = 64 << 20;

/// How much the arena may grow now so that the kernel finds no reason to kill, and what says so.
/// The program's own memory grows, too, and so do other programs: half of it at the start may be all.
pub(crate) fn room_now() -> (u64, LimitSource) {
    let limit = limits::cgroup_memory().unwrap_or(u64::MAX);
    let group = limits::cgroup_memory_room().map_or(u64::MAX, |room| {
        room.saturating_sub((limit / 8).min(RESERVE))
    });
    let machine = limits::available_memory().map_or(u64::MAX, |room| room.saturating_sub(RESERVE));
    if group <= machine {
        (group, LimitSource::Cgroup)
    } else {
        (machine, LimitSource::AvailableMemory)
    }
}

/// After such a look: how much may be added before the next. (Others may grow at the same time.)
pub(crate) fn stride(room: u64) -> u64 {
    (room / 16).min(STRIDE)
}
