//! Joining the session of a Python program that started this one, and taking what it handed over.
//!
//! The invitation is what Python's side packs for any child: which form, which envelope, and under
//! which numbers the descriptors are inherited. The envelope keeps what it names alive until it is
//! opened here, or until the last copy of its descriptor is closed.

use std::os::fd::OwnedFd;

use bequeath_os::handover;
use bequeath_shm::{AnyHandle, BlockName, Envelope};

use crate::error::{Error, Result};
use crate::session::Session;

/// The form that says: there is an envelope.
const IN_ENVELOPE: u8 = 1;
const MALFORMED: Error = Error::Malformed("an invitation that no program with bequeath wrote");

impl Session {
    /// Joins the session of the Python program that started this one, and takes the objects that it
    /// handed over, in the order in which it named them.
    ///
    /// That program writes, with queues made by bequeath:
    ///
    /// ```python
    /// invitation = bequeath.invite(tasks, results)
    /// subprocess.Popen(["worker", invitation.text], pass_fds=invitation.descriptors)
    /// ```
    ///
    /// # Errors
    /// [`Error::Malformed`] for another text, or when the descriptors did not come along; when the
    /// session is one of another user or namespace. An invitation is good for one process.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), bequeath::Error> {
    /// use bequeath::{Queue, Session};
    /// let invitation = std::env::args().nth(1).expect("started by a program with bequeath");
    /// let (_session, handles) = Session::accept(&invitation)?;
    /// let tasks: Queue<(u32, String)> = Queue::from_handle(&handles[0])?;
    /// let results: Queue<u32> = Queue::from_handle(&handles[1])?;
    /// while let Ok((number, _name)) = tasks.recv() {
    ///     results.send(&(number + 1))?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn accept(invitation: &str) -> Result<(Self, Vec<AnyHandle>)> {
        let (bytes, numbers) = parse(invitation).ok_or(MALFORMED)?;
        let mut descriptors = Vec::with_capacity(numbers.len());
        for number in numbers {
            descriptors.push(handover::adopt_inherited(number).map_err(|_| MALFORMED)?);
        }
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().ok_or(MALFORMED);
        let session = Self::join(next()?, [next()?, next()?])?;
        let Some((&IN_ENVELOPE, rest)) = bytes.split_first() else {
            return Ok((session, Vec::new()));
        };
        // After the form and the message's kind: the envelope's name.
        let name = rest.get(1..).and_then(|bits| bits.try_into().ok());
        let name = name.and_then(|bits| BlockName::from_bits(u64::from_ne_bytes(bits)));
        let name = name.ok_or(MALFORMED)?;
        let mut envelope = Envelope::from_kernel_token(session.engine(), name, next()?)?;
        let handles = envelope.take_references()?;
        Ok((session, handles))
    }

    fn join(arena: OwnedFd, [sender, receiver]: [OwnedFd; 2]) -> Result<Self> {
        let session = Self::attach(arena)?;
        if !bequeath_channel::board::is_installed() {
            bequeath_channel::board::install(sender, receiver)?;
        }
        if Self::current().is_none() {
            session.engine().set_current();
        }
        Ok(session)
    }
}

/// The bytes, in hexadecimal digits, and the numbers of descriptors behind them.
fn parse(invitation: &str) -> Option<(Vec<u8>, Vec<u32>)> {
    let (digits, numbers) = invitation.split_once(':')?;
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let bytes = (0..digits.len())
        .step_by(2)
        .map(byte)
        .collect::<Option<_>>()?;
    let numbers = numbers.split(',').map(|number| number.parse().ok());
    Some((bytes, numbers.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_invitation_is_refused() {
        assert_eq!(parse("01ff:3,44"), Some((vec![1, 255], vec![3, 44])));
        for text in [
            "",
            ":",
            "01",
            "0:3",
            "zz:3",
            "01:",
            "01:3,",
            "01:-3",
            "0\u{e9}:3",
        ] {
            assert!(Session::accept(text).is_err(), "{text}");
        }
        // Numbers under which nothing is open, or somebody's standard stream.
        assert!(Session::accept("00:1000000,1000001,1000002").is_err());
        assert!(Session::accept("00:0,1,2").is_err());
    }
}
