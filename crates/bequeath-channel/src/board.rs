//! The board: where the processes of a session find each other's descriptors.
//!
//! An object of the session needs no descriptor, so it can be handed over as a mere name; but a queue that is polled, or that carries
//! descriptors, needs sockets which every process with that queue must have. Whoever makes them *pins* a copy to the board: a
//! message with the queue's name and the sockets, sent into a socket pair that all members inherit or are given at their start, and never
//! taken out. Others peek along the messages until the name fits: the kernel gives them duplicates. So the sockets outlive
//! their maker, and no process has to serve them.
//!
//! Access is serialised by a cell of the session, since the place to peek at is a setting of the socket.
//!
//! # If a peer dies
//! Pinning is one `sendmsg`. Unpinning moves the messages before the doomed one behind the others, each by sending a copy and
//! then taking the original: a death in between leaves it there twice, which is harmless. Where no copy can be sent, nothing
//! is moved and the doomed one stays until another time.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Mutex;

use bequeath_os::socket::{self, RecvFlags, SendFlags, SocketType};
use bequeath_os::{memfd, Errno};
use bequeath_shm::{Reference, Session};

use crate::error::{Error, Result};
use crate::pair::Pair;

/// What a pinned pair of sockets is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Readable while the queue is not empty.
    Readiness = 1,
    /// Carries the descriptors of messages.
    Parcels = 2,
}

const MAGIC: u64 = 0x6265_7162_6f61_7264;
/// Magic number, the session's identity, the object, the purpose.
const NOTE: usize = 32;
/// What may lie on the board, in the unit of `SO_SNDBUF` (the kernel doubles it): the usual default.
const ROOM: usize = 106_496;
/// With the reserve that only the copies of [`unpin`] may use: within the usual `wmem_max`.
const ROOM_AND_RESERVE: usize = 2 * ROOM;

/// Set once or a few times in a process's life; what was replaced stays, since somebody may be using it.
static BOARD: Mutex<Option<&'static Pair>> = Mutex::new(None);

fn board() -> Result<&'static Pair> {
    // Held for an instant only: but a fork may have copied it in that instant.
    let known = (0..1000)
        .find_map(|_| BOARD.try_lock().ok().map(|board| *board))
        .flatten();
    known
        .filter(|board| board.is_intact())
        .ok_or(Error::NoBoard)
}

/// Makes a board for the session that this process has just created. Later members get [`descriptors`].
///
/// # Errors
/// When descriptors ran out.
pub fn create() -> Result<()> {
    install_pair(Pair::create(SocketType::SeqPacket)?)
}

/// Makes a board unless this process has one; a board serves any number of sessions.
///
/// # Errors
/// When descriptors ran out.
pub fn ensure() -> Result<()> {
    match board() {
        Ok(_) => Ok(()),
        Err(_) => create(),
    }
}

/// Takes over the board of the session that this process has just joined.
///
/// # Errors
/// When these are no open descriptors.
pub fn install(sender: OwnedFd, receiver: OwnedFd) -> Result<()> {
    install_pair(Pair::new(sender, receiver)?)
}

/// Whether this process has a board, and has not closed it.
#[must_use]
pub fn is_installed() -> bool {
    board().is_ok()
}

fn install_pair(pair: Pair) -> Result<()> {
    *BOARD.lock().map_err(|_| Error::NoBoard)? = Some(Box::leak(Box::new(pair)));
    Ok(())
}

/// Copies of the two descriptors that a new member must be given beside the session's.
///
/// # Errors
/// [`Error::NoBoard`] when this process has none (or closed it), and when descriptors ran out.
pub fn descriptors() -> Result<[OwnedFd; 2]> {
    let board = board()?;
    let copy = |fd: BorrowedFd<'_>| {
        fd.try_clone_to_owned()
            .map_err(|_| Error::NoRoomForDescriptors { count: 2 })
    };
    Ok([copy(board.sender()?)?, copy(board.receiver()?)?])
}

/// The numbers under which this process holds its board: for a template's child, which closes every
/// other descriptor that it inherited.
#[must_use]
pub fn numbers() -> Option<[RawFd; 2]> {
    let board = board().ok()?;
    Some([
        board.sender().ok()?.as_raw_fd(),
        board.receiver().ok()?.as_raw_fd(),
    ])
}

fn encode(session: u64, object: Reference, purpose: u64) -> [u8; NOTE] {
    let mut note = [0; NOTE];
    let words = [MAGIC, session, object.to_bits(), purpose];
    for (at, word) in words.into_iter().enumerate() {
        note[8 * at..8 * at + 8].copy_from_slice(&word.to_ne_bytes());
    }
    note
}

/// Which session an object is of: a process may have been in several, and objects of two sessions
/// can have the same name.
fn identity(session: &Session) -> Result<u64> {
    Ok(memfd::identity(session.descriptor()?)?.inode)
}

/// The session and the object that a note is about.
fn object_of(note: &[u8; NOTE]) -> Option<(u64, Reference)> {
    let session = note[8..16].try_into().map(u64::from_ne_bytes).ok()?;
    let object = note[16..24].try_into().map(u64::from_ne_bytes).ok()?;
    Some((session, Reference::from_bits(object)?))
}

/// The pinned sockets of an object, if there are any.
pub(crate) fn find(session: &Session, object: Reference, purpose: Purpose) -> Result<Option<Pair>> {
    let board = board()?;
    let _alone = session.board_cell().lock();
    let wanted = encode(identity(session)?, object, purpose as u64);
    let found = search(board.receiver()?, &wanted);
    socket::set_peek_offset(board.receiver()?, None)?;
    found
}

fn search(receiver: BorrowedFd<'_>, wanted: &[u8; NOTE]) -> Result<Option<Pair>> {
    socket::set_peek_offset(receiver, Some(0))?;
    for index in 0_u32.. {
        let mut note = [0; NOTE];
        match socket::recv(
            receiver,
            &mut note,
            0,
            RecvFlags::PEEK | RecvFlags::DONTWAIT,
        ) {
            Ok(_) if note == *wanted => {
                socket::set_peek_offset(receiver, Some(index * NOTE as u32))?;
                return peek_pair(receiver).map(Some);
            }
            Ok(_) => {}
            Err(error) if error.would_block() => break,
            Err(error) if error.is_interrupted() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn peek_pair(receiver: BorrowedFd<'_>) -> Result<Pair> {
    let mut note = [0; NOTE];
    let mut received = socket::recv(
        receiver,
        &mut note,
        2,
        RecvFlags::PEEK | RecvFlags::DONTWAIT,
    )?;
    match (received.fds.pop(), received.fds.pop()) {
        (Some(second), Some(first)) if !received.truncated => Pair::new(first, second),
        _ => Err(Error::NoRoomForDescriptors { count: 2 }),
    }
}

/// Pins the sockets of an object. The caller knows that none are pinned yet (it holds the object's cell).
pub(crate) fn pin(
    session: &Session,
    object: Reference,
    purpose: Purpose,
    pair: &Pair,
) -> Result<()> {
    let board = board()?;
    // Dropped after the cell is free: the last handle to a queue gives the queue back, which comes here.
    let mut alive = Vec::new();
    let _alone = session.board_cell().lock();
    let mine = identity(session)?;
    let note = encode(mine, object, purpose as u64);
    match pin_note(board, &note, pair) {
        Err(Error::Os(error)) if error.would_block() || error.errno == Errno::TOOMANYREFS => {
            // What other sessions pinned is theirs to judge. (As far as it gets is far enough, or the note
            // finds no room a second time.)
            let _ = unpin(board, |of, object| {
                of == mine
                    && match session.open_any(object) {
                        Ok(handle) => {
                            alive.push(handle);
                            false
                        }
                        Err(_) => true,
                    }
            });
            pin_note(board, &note, pair)
        }
        result => result,
    }
}

fn pin_note(board: &Pair, note: &[u8; NOTE], pair: &Pair) -> Result<()> {
    let descriptors = [pair.sender()?, pair.receiver()?];
    socket::send(
        board.sender()?,
        &[IoSlice::new(note)],
        &descriptors,
        SendFlags::DONTWAIT,
    )?;
    Ok(())
}

/// Pins a second copy of a note, whose original is taken then; a full board has room for that.
fn pin_copy(board: &Pair, note: &[u8; NOTE], pair: &Pair) -> Result<()> {
    match pin_note(board, note, pair) {
        Err(Error::Os(error)) if error.would_block() => {
            socket::set_send_buffer(board.sender()?, ROOM_AND_RESERVE)?;
            let copied = pin_note(board, note, pair);
            socket::set_send_buffer(board.sender()?, ROOM)?;
            copied
        }
        result => result,
    }
}

/// Unpins what belonged to an object that is gone.
pub(crate) fn forget(session: &Session, object: Reference) {
    if let (Ok(board), Ok(mine)) = (board(), identity(session)) {
        let _alone = session.board_cell().lock();
        // What cannot be unpinned now is unpinned when the board is full.
        let _ = unpin(board, |of, pinned| of == mine && pinned == object);
    }
}

/// Goes once through all notes, dropping those that are `doomed` and moving the others to the back.
fn unpin(board: &Pair, mut doomed: impl FnMut(u64, Reference) -> bool) -> Result<()> {
    let receiver = board.receiver()?;
    socket::set_peek_offset(receiver, None)?;
    // Somebody may have died with the reserve open.
    socket::set_send_buffer(board.sender()?, ROOM)?;
    let mut first_kept: Option<[u8; NOTE]> = None;
    loop {
        let mut note = [0; NOTE];
        match socket::recv(
            receiver,
            &mut note,
            0,
            RecvFlags::PEEK | RecvFlags::DONTWAIT,
        ) {
            Err(error) if error.would_block() => return Ok(()),
            Err(error) if error.is_interrupted() => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let keep = object_of(&note).is_some_and(|(of, object)| !doomed(of, object));
        if keep {
            if first_kept == Some(note) {
                return Ok(());
            }
            first_kept.get_or_insert(note);
            // Where no copy can be pinned (too many descriptors of this user are on their way), the note
            // stays: taken first it would be lost with us, or for want of room to pin it again.
            pin_copy(board, &note, &peek_pair(receiver)?)?;
        }
        socket::recv(receiver, &mut [0; NOTE], 0, RecvFlags::DONTWAIT)?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn notes(board: &Pair) -> u32 {
        let receiver = board.receiver().unwrap();
        socket::set_peek_offset(receiver, Some(0)).unwrap();
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let found = (0..)
            .take_while(|_| socket::recv(receiver, &mut [0; NOTE], 0, flags).is_ok())
            .count();
        socket::set_peek_offset(receiver, None).unwrap();
        u32::try_from(found).unwrap()
    }

    fn note(number: u64) -> [u8; NOTE] {
        let object = Reference::from_bits(number << 32 | 4096).unwrap();
        encode(7, object, Purpose::Parcels as u64)
    }

    /// A note is never off the board while it moves: who dies in that moment would take it along.
    #[test]
    fn a_full_board_has_room_for_the_copy_of_a_note_that_moves() {
        let board = Pair::create(SocketType::SeqPacket).unwrap();
        let pinned = Pair::create(SocketType::Stream).unwrap();
        socket::set_send_buffer(board.sender().unwrap(), ROOM).unwrap();
        let mut number = 1;
        while pin_note(&board, &note(number), &pinned).is_ok() {
            number += 1;
        }
        let full = notes(&board);
        assert!(full > 100, "only {full} notes fit");
        pin_copy(&board, &note(1), &pinned).unwrap();
        assert_eq!(notes(&board), full + 1);
        assert!(
            pin_note(&board, &note(number), &pinned).is_err(),
            "the reserve is for copies"
        );
        // All go once round, but those that are doomed.
        unpin(&board, |_, object| matches!(object.to_bits() >> 32, 2 | 3)).unwrap();
        assert_eq!(notes(&board), full - 1);
        pin_note(&board, &note(number), &pinned).unwrap();
    }

    /// Where a note cannot be copied it stays: nobody knows what happens to who holds the only one.
    #[test]
    fn a_note_that_cannot_be_copied_is_not_taken_off_the_board() {
        let board = Pair::create(SocketType::SeqPacket).unwrap();
        let pinned = Pair::create(SocketType::Stream).unwrap();
        socket::set_send_buffer(board.sender().unwrap(), ROOM_AND_RESERVE).unwrap();
        let mut number = 1;
        while pin_note(&board, &note(number), &pinned).is_ok() {
            number += 1;
        }
        let full = notes(&board);
        let all_but_the_first = |_, object: Reference| object.to_bits() >> 32 != 1;
        assert!(unpin(&board, all_but_the_first).is_err());
        assert_eq!(notes(&board), full);
        let mut first = [0; NOTE];
        let receiver = board.receiver().unwrap();
        socket::recv(
            receiver,
            &mut first,
            0,
            RecvFlags::PEEK | RecvFlags::DONTWAIT,
        )
        .unwrap();
        assert_eq!(first, note(1));
        // What is doomed goes all the same as long as it is in front.
        unpin(&board, |_, object| object.to_bits() >> 32 < u64::from(full)).unwrap();
        assert_eq!(notes(&board), 1);
    }
}
