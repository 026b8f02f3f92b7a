//! The committed state of a queue: eight words of its cell.

use bequeath_shm::BlockName;

use crate::broken::{self, Mistake};
use crate::error::{Error, Result};
use crate::segment::{FIRST, LONGEST_SEGMENT};

/// Words of the cell.
pub(crate) const WORDS: usize = 8;

/// Somebody asked for a descriptor to poll: senders must raise it.
pub(crate) const WATCHED: u64 = 1;
/// It is raised. False may be wrong (a sender died in between), true never is.
pub(crate) const RAISED: u64 = 2;
/// Closed for everybody.
pub(crate) const CLOSED: u64 = 4;
/// Only of a deliberate mistake: closed for senders.
pub(crate) const REFUSING: u64 = 8;
const FLAGS: u64 = 0xff;

/// Bits of a place in a segment; a pid's 22 fit above two of them.
const PLACE_BITS: u32 = 21;
const _: () = assert!(LONGEST_SEGMENT < 1 << PLACE_BITS);

/// More messages than any arena holds, and than anyone lives to report as done.
const MOST_MESSAGES: u64 = 1 << 60;

/// What is true about a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Segment of the oldest record and segment of the end, 0 = none yet.
    pub(crate) head_segment: u64,
    pub(crate) tail_segment: u64,
    /// Where in them.
    pub(crate) head: usize,
    pub(crate) tail: usize,
    /// A drained segment kept for the next need, 0 = none.
    pub(crate) spare: u64,
    pub(crate) count: u64,
    pub(crate) unfinished: u64,
    /// Bytes of payload in all messages.
    pub(crate) bytes: u64,
    pub(crate) flags: u64,
    /// Id of the last parcel sent.
    pub(crate) parcel: u64,
    /// The pid of who took the last message, 0 = nobody yet; only for telling.
    pub(crate) receiver: u32,
}

impl State {
    pub(crate) fn encode(&self) -> [u64; WORDS] {
        [
            self.head_segment,
            self.tail_segment,
            self.head as u64
                | (self.tail as u64) << PLACE_BITS
                | u64::from(self.receiver) << (2 * PLACE_BITS),
            self.spare,
            self.count,
            self.unfinished,
            self.bytes,
            self.flags | self.parcel << 8,
        ]
    }

    /// Reads the words; what no queue writes is refused.
    pub(crate) fn decode(words: [u64; WORDS]) -> Result<Self> {
        let places = [words[2], words[2] >> PLACE_BITS];
        let [head, tail] = places.map(|word| (word & ((1 << PLACE_BITS) - 1)) as usize);
        let place = |segment: u64, at: usize| {
            segment == 0 || (at % 16 == 0 && (FIRST..=LONGEST_SEGMENT).contains(&at))
        };
        let consistent = place(words[0], head)
            && place(words[1], tail)
            && (words[0] == 0) == (words[1] == 0)
            && (words[4] == 0 || words[0] != 0)
            && words[4].max(words[5]) < MOST_MESSAGES;
        if !consistent {
            return Err(Error::Corrupted("its positions are impossible"));
        }
        Ok(Self {
            head_segment: words[0],
            tail_segment: words[1],
            head,
            tail,
            spare: words[3],
            count: words[4],
            unfinished: words[5],
            bytes: words[6],
            flags: words[7] & FLAGS,
            parcel: words[7] >> 8,
            receiver: (words[2] >> (2 * PLACE_BITS)) as u32,
        })
    }

    /// How many messages there are, of words that may be a mixture of two states.
    pub(crate) fn count_of(words: [u64; WORDS]) -> u64 {
        words[4]
    }

    pub(crate) fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Whether senders are refused.
    pub(crate) fn refuses(&self) -> bool {
        self.has(CLOSED) || broken::is(Mistake::ClosedInTwoSteps) && self.has(REFUSING)
    }
}

/// The block that a word names.
pub(crate) fn name(word: u64) -> Result<BlockName> {
    BlockName::from_bits(word).ok_or(Error::Corrupted("a segment has no name"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FULL: State = State {
        head_segment: 1 << 40 | 7,
        tail_segment: 2 << 40 | 9,
        head: LONGEST_SEGMENT,
        tail: FIRST,
        spare: 3 << 40 | 1,
        count: MOST_MESSAGES - 1,
        unfinished: 5,
        bytes: u64::MAX,
        flags: WATCHED | RAISED | CLOSED,
        parcel: (1 << 42) - 1,
        receiver: (1 << 22) - 1,
    };

    #[test]
    fn a_state_survives_its_words() {
        assert_eq!(State::decode(FULL.encode()).unwrap(), FULL);
        let none = State::decode([0; WORDS]).unwrap();
        assert_eq!(none.encode(), [0; WORDS]);
    }

    #[test]
    fn what_no_queue_writes_is_refused() {
        let change = |index: usize, word: u64| {
            let mut words = FULL.encode();
            words[index] = word;
            State::decode(words)
        };
        let places = FULL.encode()[2];
        assert!(change(2, places | 8).is_err(), "a head between records");
        assert!(change(2, places | 16).is_err(), "a head behind its segment");
        let before = places & !(0xffff << PLACE_BITS);
        assert!(
            change(2, before).is_err(),
            "a tail in the segment's own words"
        );
        assert!(change(0, 0).is_err(), "messages, and no segment");
        assert!(change(1, 0).is_err(), "a head without a tail");
        assert!(change(4, MOST_MESSAGES).is_err());
        assert!(change(5, MOST_MESSAGES).is_err());
    }
}
