//! The bytes in front of a message on a socket or pipe: encoding and parsing, no input or output.
//!
//! Toward everybody a frame is multiprocessing's: a signed 32-bit big-endian length and that many
//! bytes; a length above `i32::MAX` is written as -1 followed by an unsigned 64-bit length.
//!
//! Members of one session have a second kind, which names an envelope in the arena and counts the
//! descriptors that ride along. It must never look like a frame of multiprocessing, so it starts as
//! a 64-bit length that no message can have (the top sixteen bits are set). A foreign reader that
//! meets one by mistake fails on that length instead of taking rubbish for a message.

/// Bytes of the longest header, and what a receiver looks at first.
pub const LONGEST_HEADER: usize = MEMBER_HEADER;
/// Bytes of a member frame's header, the escape included.
pub const MEMBER_HEADER: usize = 40;
/// Bytes of a plain header whose length fits 31 bits.
pub const SHORT_HEADER: usize = 4;
/// Bytes of a plain header with a 64-bit length.
pub const LONG_HEADER: usize = 12;

/// The impossible length that marks a member frame: sixteen set bits, a name, a version.
const ESCAPE: u64 = 0xFFFF_6271_7468_0001;
const FLAG_ENVELOPE: u8 = 1;

/// The header of a frame between members of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberHeader {
    /// Bytes of the message that follow the header on the socket itself.
    pub inline: u32,
    /// Meaningless bytes after those: they make the kernel's accounting slow a sender down whose
    /// receiver is behind, although the message itself is not in the socket.
    pub ballast: u32,
    /// The user's descriptors riding with this header, the envelope's token not counted.
    pub descriptors: u16,
    /// What the payload is; the bindings' business.
    pub kind: u8,
    /// Where the envelope with the message's blocks and references is, if it has one.
    pub envelope: Option<u64>,
    /// The sending process, as the bits of its `ProcessId`: errors can name it.
    pub sender: u64,
}

impl MemberHeader {
    /// Descriptors that the kernel hands over with this frame.
    #[must_use]
    pub fn carried(&self) -> usize {
        usize::from(self.descriptors) + usize::from(self.envelope.is_some())
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn frame_length(&self) -> usize {
        MEMBER_HEADER + self.inline as usize + self.ballast as usize
    }

    /// The header as it is sent.
    #[must_use]
    pub fn encode(&self) -> [u8; MEMBER_HEADER] {
        let mut bytes = [0; MEMBER_HEADER];
        let flags = if self.envelope.is_some() {
            FLAG_ENVELOPE
        } else {
            0
        };
        bytes[0..4].copy_from_slice(&(-1_i32).to_be_bytes());
        bytes[4..12].copy_from_slice(&ESCAPE.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.inline.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.ballast.to_be_bytes());
        bytes[20..22].copy_from_slice(&self.descriptors.to_be_bytes());
        bytes[22] = self.kind;
        bytes[23] = flags;
        bytes[24..32].copy_from_slice(&self.envelope.unwrap_or(0).to_be_bytes());
        bytes[32..40].copy_from_slice(&self.sender.to_be_bytes());
        bytes
    }

    fn parse(bytes: &[u8; MEMBER_HEADER]) -> Option<Self> {
        let flags = bytes[23];
        if flags & !FLAG_ENVELOPE != 0 {
            return None;
        }
        Some(Self {
            inline: u32::from_be_bytes(array(bytes, 12)),
            ballast: u32::from_be_bytes(array(bytes, 16)),
            descriptors: u16::from_be_bytes(array(bytes, 20)),
            kind: bytes[22],
            envelope: (flags & FLAG_ENVELOPE != 0).then(|| u64::from_be_bytes(array(bytes, 24))),
            sender: u64::from_be_bytes(array(bytes, 32)),
        })
    }
}

/// A plain header, in the shortest form for its length.
#[derive(Clone, Copy, Debug)]
pub struct PlainHeader {
    bytes: [u8; LONG_HEADER],
    used: usize,
}

impl PlainHeader {
    /// The header of a message of `length` bytes.
    #[must_use]
    pub fn new(length: usize) -> Self {
        let mut bytes = [0; LONG_HEADER];
        let used = match i32::try_from(length) {
            Ok(short) => {
                bytes[..SHORT_HEADER].copy_from_slice(&short.to_be_bytes());
                SHORT_HEADER
            }
            Err(_) => {
                bytes[..SHORT_HEADER].copy_from_slice(&(-1_i32).to_be_bytes());
                bytes[SHORT_HEADER..].copy_from_slice(&(length as u64).to_be_bytes());
                LONG_HEADER
            }
        };
        Self { bytes, used }
    }

    /// The bytes to send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

/// What the first bytes of a frame say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A frame of multiprocessing: this many header bytes, then this many bytes of message.
    Plain {
        /// Bytes of the header.
        header: usize,
        /// Bytes of the message.
        length: u64,
    },
    /// A frame between members.
    Member(MemberHeader),
    /// The header is longer than what is here: look again with this many bytes.
    Incomplete(usize),
    /// No frame starts like this.
    Malformed,
}

/// Reads a header from the first bytes of a frame; bytes after it are ignored.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    let Some(first) = bytes.first_chunk::<SHORT_HEADER>() else {
        return Parsed::Incomplete(SHORT_HEADER);
    };
    let short = i32::from_be_bytes(*first);
    if let Ok(length) = u32::try_from(short) {
        return Parsed::Plain {
            header: SHORT_HEADER,
            length: u64::from(length),
        };
    }
    if short != -1 {
        return Parsed::Malformed;
    }
    let Some(long) = bytes.first_chunk::<LONG_HEADER>() else {
        return Parsed::Incomplete(LONG_HEADER);
    };
    let length = u64::from_be_bytes(array(long, SHORT_HEADER));
    if length != ESCAPE {
        return match i64::try_from(length) {
            Ok(_) => Parsed::Plain {
                header: LONG_HEADER,
                length,
            },
            Err(_) => Parsed::Malformed,
        };
    }
    match bytes.first_chunk::<MEMBER_HEADER>() {
        Some(header) => MemberHeader::parse(header).map_or(Parsed::Malformed, Parsed::Member),
        None => Parsed::Incomplete(MEMBER_HEADER),
    }
}

/// The `N` bytes from `start`, whose presence the callers' array lengths prove.
fn array<const N: usize>(bytes: &[u8], start: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[start..start + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_header_is_multiprocessings() {
        assert_eq!(PlainHeader::new(3).as_bytes(), [0, 0, 0, 3]);
        let long = PlainHeader::new(0x8000_0000);
        assert_eq!(
            long.as_bytes(),
            [255, 255, 255, 255, 0, 0, 0, 0, 0x80, 0, 0, 0]
        );
        assert_eq!(
            parse(long.as_bytes()),
            Parsed::Plain {
                header: 12,
                length: 0x8000_0000
            }
        );
        assert_eq!(PlainHeader::new(0x7fff_ffff).as_bytes().len(), 4);
    }

    #[test]
    fn a_member_header_survives_the_way() {
        for envelope in [None, Some(0x1234_5678_9abc)] {
            let header = MemberHeader {
                inline: 77,
                ballast: 9,
                descriptors: 3,
                kind: 5,
                envelope,
                sender: u64::MAX,
            };
            assert_eq!(parse(&header.encode()), Parsed::Member(header));
        }
    }

    #[test]
    fn every_shorter_prefix_asks_for_more() {
        let header = MemberHeader {
            inline: 0,
            ballast: 0,
            descriptors: 0,
            kind: 0,
            envelope: None,
            sender: 1,
        }
        .encode();
        for cut in 0..MEMBER_HEADER {
            match parse(&header[..cut]) {
                Parsed::Incomplete(needed) => assert!(needed > cut && needed <= MEMBER_HEADER),
                other => panic!("{other:?} of {cut} bytes"),
            }
        }
    }

    #[test]
    fn rubbish_is_malformed() {
        assert_eq!(parse(&(-2_i32).to_be_bytes()), Parsed::Malformed);
        let mut bytes = [255; MEMBER_HEADER];
        assert_eq!(parse(&bytes), Parsed::Malformed);
        bytes[4..12].copy_from_slice(&ESCAPE.to_be_bytes());
        assert_eq!(parse(&bytes), Parsed::Malformed, "unknown flags");
    }
}
