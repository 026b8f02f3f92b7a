//! A child's word to its starter on whether it could load what it was started with.
//!
//! One packet, or none. The starter may stop listening at any moment; then the child learns that
//! nobody hears it, and tells standard error instead.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bequeath_os::poll::{self, Events};
use bequeath_os::socket::{self, RecvFlags, SendFlags, Shutdown, SocketType};
use bequeath_os::Deadline;

use crate::error::Result;

/// No report is longer; a longer one is cut by whoever makes it.
pub const LONGEST: usize = 64 * 1024;

/// The starter's end.
#[derive(Debug)]
pub struct Report {
    ours: OwnedFd,
    theirs: Option<OwnedFd>,
}

/// What the starter heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The child's packet.
    Packet(Vec<u8>),
    /// The child is gone, or has closed its end, without a word.
    Nothing,
    /// The deadline came. Nothing that the child says from now on is heard.
    TooLate,
}

impl Report {
    /// Both ends.
    ///
    /// # Errors
    /// When descriptors ran out.
    pub fn new() -> Result<Self> {
        let (ours, theirs) = socket::pair(SocketType::SeqPacket)?;
        Ok(Self {
            ours,
            theirs: Some(theirs),
        })
    }

    /// The child's end, to be handed to it.
    #[must_use]
    pub fn child_end(&self) -> Option<BorrowedFd<'_>> {
        self.theirs.as_ref().map(AsFd::as_fd)
    }

    /// Once the child has its end, ours of it must go: else nobody notices that the child is gone.
    pub fn handed_over(&mut self) {
        self.theirs = None;
    }

    /// Listens until the deadline.
    ///
    /// # Errors
    /// EINTR for a signal.
    pub fn hear(&self, deadline: Deadline) -> Result<Heard> {
        if poll::wait_one(self.ours.as_fd(), Events::IN, deadline)?.is_empty() {
            // From here on the child's sending fails; what it sent before is still to be read.
            let _ = socket::shutdown(&self.ours, Shutdown::Read);
            return Ok(match self.receive() {
                Heard::Nothing => Heard::TooLate,
                heard => heard,
            });
        }
        Ok(self.receive())
    }

    fn receive(&self) -> Heard {
        let mut word = [0; 64];
        let look = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        match socket::recv(&self.ours, &mut word, 0, look) {
            Ok(received) if received.truncated => {}
            Ok(received) if received.len > 0 => {
                return Heard::Packet(word[..received.len].to_vec())
            }
            _ => return Heard::Nothing,
        }
        let mut packet = vec![0; LONGEST];
        match socket::recv(&self.ours, &mut packet, 0, RecvFlags::DONTWAIT) {
            Ok(received) => {
                packet.truncate(received.len);
                Heard::Packet(packet)
            }
            Err(_) => Heard::Nothing,
        }
    }
}

/// In the child: says it; false when nobody listens.
#[must_use]
pub fn tell(child_end: BorrowedFd<'_>, packet: &[u8]) -> bool {
    let packet = &packet[..packet.len().min(LONGEST)];
    socket::send(child_end, &[IoSlice::new(packet)], &[], SendFlags::DONTWAIT).is_ok()
}
