//! The word by which a child begins: it runs nothing of the program before its starter has heard of it.
//!
//! A template may die between forking a child and telling its starter. The starter then knows of no
//! child and asks somebody else for one: a child that went on all the same would run the program's code
//! a second time. So the starter gets one end of a line together with the child's pidfd, and says the
//! word; when the last copy of that end is closed unused, by whose death ever, the child ends as if it
//! had never been. It costs no time: the child becomes what its starter is while the word is on its way.
//!
//! A child that was kept ahead says a word first: that it is awake, and that signals which came while it was
//! nobody are forgotten.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};

use bequeath_os::socket::{self, RecvFlags, SendFlags, SocketType};

use crate::broken::{self, Mistake};
use crate::error::Result;

/// The child's end, and its starter's.
pub(crate) fn line() -> Result<(OwnedFd, OwnedFd)> {
    Ok(socket::pair(SocketType::SeqPacket)?)
}

/// At either end. (A child that has been killed meanwhile needs no word.)
pub(crate) fn say(line: impl AsFd) {
    let word = [IoSlice::new(b"!")];
    while socket::send(&line, &word, &[], SendFlags::DONTWAIT)
        .is_err_and(|error| error.is_interrupted())
    {}
}

/// At the child's end: whether the word came, which is waited for.
pub(crate) fn comes(line: impl AsFd) -> bool {
    broken::is(Mistake::GoesAheadUnasked) || is_heard(line)
}

/// Whether the word comes, at either end, which is waited for; not when the other end is closed.
pub(crate) fn is_heard(line: impl AsFd) -> bool {
    loop {
        match socket::recv(&line, &mut [0; 1], 0, RecvFlags::empty()) {
            Ok(received) => return received.len > 0,
            Err(error) if error.is_interrupted() => {}
            Err(_) => return false,
        }
    }
}
