//! Parcels: the descriptors of a message, on their way beside it.
//!
//! Each queue that carries descriptors has a pair of sockets (`companions.rs`). Under the queue's cell a sender puts a numbered parcel into it and then commits
//! the record with the number; a receiver *peeks* at the parcel, which gives it duplicates, commits the removal of the record, and takes the
//! parcel out. Whoever dies in between leaves a parcel that no record names: the next receiver finds its number smaller than the one it
//! looks for and drops it. So descriptors arrive exactly as often as their message.
//!
//! Numbers are consumed by a commit of their own before the parcel is sent, so that a dead sender's parcel never has the number of a later one.

use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd};

use bequeath_os::errno::Errno;
use bequeath_os::socket::{self, RecvFlags, SendFlags, MAX_DESCRIPTORS};

use crate::board::Purpose;
use crate::error::{Error, Result};
use crate::queue::Queue;

/// Sends a parcel; false when the kernel has no room for more in flight (as when the queue is full).
pub(crate) fn send(queue: &Queue, number: u64, descriptors: &[BorrowedFd<'_>]) -> Result<bool> {
    let pair = queue.companions.find_or_make(queue, Purpose::Parcels)?;
    let bytes = number.to_ne_bytes();
    loop {
        match socket::send(
            pair.sender()?,
            &[IoSlice::new(&bytes)],
            descriptors,
            SendFlags::DONTWAIT,
        ) {
            Ok(_) => return Ok(true),
            Err(error) if error.is_interrupted() => {}
            Err(error) if error.would_block() || error.errno == Errno::TOOMANYREFS => {
                return Ok(false)
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Duplicates of the descriptors of parcel `number`, which stays where it is. Parcels before it belong to messages that never came to be.
pub(crate) fn peek(queue: &Queue, number: u64, count: usize) -> Result<Vec<OwnedFd>> {
    let pair = queue
        .companions
        .find(queue, Purpose::Parcels)?
        .ok_or(Error::DescriptorsLost)?;
    loop {
        match front(pair.receiver()?)? {
            Some(front) if front < number => drop_front(pair.receiver()?)?,
            Some(front) if front == number => break,
            _ => return Err(Error::DescriptorsLost),
        }
    }
    if count > MAX_DESCRIPTORS {
        return Err(Error::Corrupted("a record has too many descriptors"));
    }
    let mut bytes = [0; 8];
    let received = socket::recv(
        pair.receiver()?,
        &mut bytes,
        count,
        RecvFlags::PEEK | RecvFlags::DONTWAIT,
    )?;
    if received.fds.len() == count {
        Ok(received.fds)
    } else {
        Err(Error::NoRoomForDescriptors { count })
    }
}

/// The number of the first parcel. No descriptor is installed by looking.
fn front(receiver: BorrowedFd<'_>) -> Result<Option<u64>> {
    let mut bytes = [0; 8];
    loop {
        match socket::recv(
            receiver,
            &mut bytes,
            0,
            RecvFlags::PEEK | RecvFlags::DONTWAIT,
        ) {
            Ok(_) => return Ok(Some(u64::from_ne_bytes(bytes))),
            Err(error) if error.is_interrupted() => {}
            Err(error) if error.would_block() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

fn drop_front(receiver: BorrowedFd<'_>) -> Result<()> {
    socket::recv(receiver, &mut [0; 8], 0, RecvFlags::DONTWAIT)?;
    Ok(())
}

/// Takes out the parcel that was peeked at, after the commit. Losing this call is harmless.
pub(crate) fn discard(queue: &Queue) {
    if let Ok(Some(pair)) = queue.companions.find(queue, Purpose::Parcels) {
        if let Ok(receiver) = pair.receiver() {
            let _ = drop_front(receiver);
        }
    }
}

/// Takes out every parcel, when no record names any.
pub(crate) fn discard_all(queue: &Queue) {
    if let Ok(Some(pair)) = queue.companions.find(queue, Purpose::Parcels) {
        while pair
            .receiver()
            .is_ok_and(|receiver| drop_front(receiver).is_ok())
        {}
    }
}
