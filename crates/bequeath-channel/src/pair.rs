//! Two connected sockets that this process keeps by number, and checks before each use.
//!
//! A program may close every descriptor it finds (`os.closerange`) and open others under the same numbers: sockets have inodes
//! of their own, so a foreign file is recognised, never written to, and never closed by us.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bequeath_os::memfd::{identity, Identity};
use bequeath_os::socket::{self, SocketType};

use crate::error::{Error, Result};

/// The two ends; what goes into `sender` comes out of `receiver`.
pub(crate) struct Pair {
    ends: [Option<OwnedFd>; 2],
    known: [Identity; 2],
}

impl Pair {
    pub(crate) fn create(kind: SocketType) -> Result<Self> {
        let (sender, receiver) = socket::pair(kind)?;
        Self::new(sender, receiver)
    }

    pub(crate) fn new(sender: OwnedFd, receiver: OwnedFd) -> Result<Self> {
        let known = [identity(&sender)?, identity(&receiver)?];
        Ok(Self {
            ends: [Some(sender), Some(receiver)],
            known,
        })
    }

    fn end(&self, index: usize) -> Option<BorrowedFd<'_>> {
        let fd = self.ends[index].as_ref()?.as_fd();
        (identity(fd).ok()? == self.known[index]).then_some(fd)
    }

    /// Whether both numbers still mean what they meant.
    pub(crate) fn is_intact(&self) -> bool {
        self.end(0).is_some() && self.end(1).is_some()
    }

    pub(crate) fn sender(&self) -> Result<BorrowedFd<'_>> {
        self.end(0).ok_or(Error::NoBoard)
    }

    pub(crate) fn receiver(&self) -> Result<BorrowedFd<'_>> {
        self.end(1).ok_or(Error::NoBoard)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for index in 0..2 {
            if self.end(index).is_none() {
                // Not ours any more: closing it would close somebody else's file.
                std::mem::forget(self.ends[index].take());
            }
        }
    }
}
