//! The header in front of each message of a segment, and its checks.
//!
//! ```text
//! word 0   bits 0..31 payload bytes   32..39 form   40..47 kind   48..63 descriptors
//! word 1   bits 0..41 id of the parcel with the descriptors, 0 = none   42..63 the sender's pid, only for telling
//! ```
//! A record is its header and payload, rounded up to [`ALIGN`]; it never crosses a segment's end.

use crate::error::{Error, Result};

/// Bytes of a record header.
pub(crate) const HEADER: usize = 16;
/// Records start at multiples of this.
pub(crate) const ALIGN: usize = 16;
/// The longest record, header included. What is larger goes into an envelope.
pub(crate) const LONGEST: usize = 4096;
/// The longest payload of a record.
pub(crate) const LONGEST_PAYLOAD: usize = LONGEST - HEADER;
/// Payload of a record that names an envelope: its name and the message's size.
pub(crate) const ENVELOPE_PAYLOAD: usize = 16;

/// Above the parcel's id: the sender. (Nobody sends 2^42 parcels; no pid is longer than 22 bits.)
const SENDER: u32 = 42;
const PARCEL: u64 = (1 << SENDER) - 1;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// The payload follows.
    Inline = 1,
    /// An envelope's name and the bytes it carries follow.
    Envelope = 2,
    /// Nothing more in this segment: go on with the next.
    End = 3,
}

/// A record's header, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) form: Form,
    pub(crate) kind: u8,
    pub(crate) len: usize,
    pub(crate) descriptors: u16,
    pub(crate) parcel: u64,
    /// The pid of who sent it.
    pub(crate) sender: u32,
}

impl Header {
    pub(crate) const END: [u64; 2] = [(Form::End as u64) << 32, 0];

    pub(crate) fn encode(&self) -> [u64; 2] {
        let word = self.len as u64
            | (self.form as u64) << 32
            | u64::from(self.kind) << 40
            | u64::from(self.descriptors) << 48;
        [
            word,
            self.parcel & PARCEL | u64::from(self.sender) << SENDER,
        ]
    }

    /// Reads what shared memory says, and refuses what no sender writes.
    pub(crate) fn decode(words: [u64; 2]) -> Result<Self> {
        let form = match (words[0] >> 32) as u8 {
            1 => Form::Inline,
            2 => Form::Envelope,
            3 => Form::End,
            _ => return Err(Error::Corrupted("a record has no known form")),
        };
        let header = Self {
            form,
            kind: (words[0] >> 40) as u8,
            len: (words[0] & 0xffff_ffff) as usize,
            descriptors: (words[0] >> 48) as u16,
            parcel: words[1] & PARCEL,
            sender: (words[1] >> SENDER) as u32,
        };
        let fits = match form {
            Form::Inline => header.len <= LONGEST_PAYLOAD,
            Form::Envelope => header.len == ENVELOPE_PAYLOAD,
            Form::End => header.len == 0,
        };
        if fits {
            Ok(header)
        } else {
            Err(Error::Corrupted("a record's length is impossible"))
        }
    }

    /// Bytes that the record takes in its segment.
    pub(crate) fn size(&self) -> usize {
        size(self.len)
    }
}

/// Bytes that a record with so much payload takes.
pub(crate) const fn size(payload: usize) -> usize {
    (HEADER + payload).div_ceil(ALIGN) * ALIGN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_its_words() {
        let header = Header {
            form: Form::Inline,
            kind: 200,
            len: 4080,
            descriptors: 253,
            parcel: PARCEL,
            sender: (1 << 22) - 1,
        };
        assert_eq!(Header::decode(header.encode()).unwrap(), header);
    }

    #[test]
    fn rubbish_is_refused() {
        for words in [
            [0, 0],
            [u64::MAX, 0],
            [4 << 32, 0],
            [1 << 32 | 4081, 0],
            [2 << 32 | 8, 0],
            [3 << 32 | 1, 0],
        ] {
            assert!(Header::decode(words).is_err(), "{words:?}");
        }
    }
}
