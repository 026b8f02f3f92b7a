//! Why a program cannot be looked at.

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a program cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No process has this number.
    #[error("there is no process {0}")]
    NoProcess(u32),
    /// It is another user's, or does not let itself be looked at.
    #[error(
        "process {pid} cannot be looked at: it belongs to {owner}, and procfs shows a program's \
         files only to its own user and to root"
    )]
    NotOurs {
        /// Which.
        pid: u32,
        /// Whose it is.
        owner: String,
    },
    /// It shares nothing.
    #[error(
        "process {0} is in no session of bequeath: it has made or been given no queue, lock or process \
         of bequeath's yet, or it is another program altogether"
    )]
    NoSession(u32),
    /// It has a session, and closed the descriptor by which others find it.
    #[error(
        "process {0} is in a session whose descriptor it closed; look at another process of it, \
         or as root"
    )]
    DescriptorClosed(u32),
    /// Its numbers mean other processes than ours.
    #[error(
        "process {0} is in another process number namespace (a container): run this inside it"
    )]
    OtherNamespace(u32),
    /// The arena is not one that this version can read.
    #[error("the session of process {pid} cannot be read: {source}")]
    Unreadable {
        /// Which.
        pid: u32,
        /// Why.
        source: bequeath_shm::Error,
    },
    /// Procfs is not there, or hides what is needed.
    #[error("procfs does not show process {pid}: {source}")]
    Procfs {
        /// Which.
        pid: u32,
        /// What it said.
        source: std::io::Error,
    },
}
