//! What modules asked for while a template loaded them: their answers, and so perhaps the modules, would
//! be others in a process where the answers are others.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use bequeath_os::memfd::{identity, Identity};

use crate::state::Environment;

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependence {
    /// Names of variables.
    pub variables: BTreeSet<Vec<u8>>,
    /// The environment as a whole.
    pub environment: bool,
    /// The working directory.
    pub directory: Option<Identity>,
}

impl Dependence {
    pub(super) fn join(&mut self, other: Self) {
        self.variables.extend(other.variables);
        self.environment |= other.environment;
        self.directory = self.directory.or(other.directory);
    }

    /// What of it differs in a starter, if anything does.
    pub(super) fn differs(
        &self,
        own: &Environment,
        wanted: &Environment,
        directory: Option<&OwnedFd>,
    ) -> Option<&'static str> {
        if self
            .variables
            .iter()
            .any(|name| own.get(name) != wanted.get(name))
        {
            return Some("an environment variable that a loaded module has read differs");
        }
        if self.environment && own != wanted {
            return Some("the environment, which a loaded module has read, differs");
        }
        let theirs = directory.and_then(|fd| identity(fd.as_fd()).ok());
        if self.directory.is_some() && self.directory != theirs {
            return Some("the working directory, which a loaded module has asked for, differs");
        }
        None
    }
}
