//! What a process tells of itself, for people: what kind of process it is, and its name.
//!
//! Kept by the process itself (it may have a name before it has a session) and written into its
//! member entry. Nobody's decisions depend on it.

use bequeath_sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use bequeath_sync::ProcessId;

use crate::layout::About;
use crate::session::Session;
use crate::space::Space;
use crate::words::MemberName;

/// What kind of process a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Role {
    /// It did not say: the program's main process, or one that joined from elsewhere.
    Program,
    /// Started by "spawn".
    Spawn,
    /// Started by "forkserver".
    ForkServer,
    /// Started by "fork", or by a fork of the program's own.
    Fork,
    /// A template that children of "spawn" are forked from.
    SpawnTemplate,
    /// A template that children of "forkserver" are forked from.
    ForkServerTemplate,
    /// A child of a template that was forked ahead of its request.
    Spare,
    /// A child of a template in which imports are tried.
    Trial,
    /// A worker of a Rust program.
    Worker,
}

const ROLES: [(Role, &str); 9] = [
    (Role::Program, "program"),
    (Role::Spawn, "spawn"),
    (Role::ForkServer, "forkserver"),
    (Role::Fork, "fork"),
    (Role::SpawnTemplate, "template of spawn"),
    (Role::ForkServerTemplate, "template of forkserver"),
    (Role::Spare, "spare"),
    (Role::Trial, "trial"),
    (Role::Worker, "worker"),
];

impl Role {
    /// In a word or two.
    #[must_use]
    pub fn name(self) -> &'static str {
        ROLES[self.number() as usize].1
    }

    /// The role of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        ROLES.iter().find(|role| role.1 == name).map(|role| role.0)
    }

    fn number(self) -> u64 {
        self as u64
    }

    fn from_number(number: u64) -> Self {
        let role = usize::try_from(number).ok().and_then(|at| ROLES.get(at));
        role.map_or(Self::Program, |role| role.0)
    }
}

/// Bytes of a name that are kept.
const NAME: usize = 24;

/// As it was read from shared memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AboutProcess {
    /// What kind of process it is.
    pub role: Role,
    /// The first bytes of its name; empty when it gave none.
    pub name: String,
}

impl AboutProcess {
    pub(crate) fn read(words: [u64; 4]) -> Self {
        let bytes: Vec<u8> = words[1..]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        Self {
            role: Role::from_number(words[0]),
            name: String::from_utf8_lossy(&bytes[..end]).into_owned(),
        }
    }
}

impl About {
    const fn new() -> Self {
        Self {
            role: AtomicU64::new(0),
            name: [const { AtomicU64::new(0) }; 3],
        }
    }

    pub(crate) fn words(&self) -> [u64; 4] {
        let [first, second, third] = self.name.each_ref().map(|word| word.load(Relaxed));
        [self.role.load(Relaxed), first, second, third]
    }

    pub(crate) fn set_words(&self, words: [u64; 4]) {
        self.role.store(words[0], Relaxed);
        for (word, value) in self.name.iter().zip(&words[1..]) {
            word.store(*value, Relaxed);
        }
    }
}

/// This process's own copy. Not under a lock: a fork may come at any moment.
static OWN: About = About::new();
/// Whose it is: a forked child has its parent's.
static OWN_OF: AtomicU32 = AtomicU32::new(0);

fn own() -> &'static About {
    let (me, whose) = (ProcessId::current().pid(), OWN_OF.load(Relaxed));
    if whose != me {
        if whose != 0 {
            // Until it says otherwise.
            OWN.role.store(Role::Fork.number(), Relaxed);
        }
        OWN_OF.store(me, Relaxed);
    }
    &OWN
}

/// What kind of process this is.
pub fn set_role(role: Role) {
    own().role.store(role.number(), Relaxed);
    publish();
}

/// The name of this process: the first bytes of it are kept.
pub fn set_name(name: &str) {
    let mut end = name.len().min(NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = [0_u8; NAME];
    bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
    for (word, eight) in own().name.iter().zip(bytes.chunks_exact(8)) {
        let mut value = [0_u8; 8];
        value.copy_from_slice(eight);
        word.store(u64::from_ne_bytes(value), Relaxed);
    }
    publish();
}

fn publish() {
    if let Some(session) = Session::current().filter(Session::is_mine) {
        if let Ok(me) = session.me() {
            session.space().tell_about(me);
        }
    }
}

impl Space {
    /// Writes what this process tells of itself into its entry.
    pub(crate) fn tell_about(&self, me: MemberName) {
        if let Ok(member) = self.member(me.index) {
            member.about.set_words(own().words());
        }
    }
}
