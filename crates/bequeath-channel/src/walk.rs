//! Does the committed state of a queue refer to a block? Asked by the scavenger about what a dead process was moving in or out.

use bequeath_shm::{BlockName, Session};

use crate::error::{Error, Result};
use crate::queue::Body;
use crate::record::{Form, Header, HEADER};
use crate::segment::{Segment, FIRST};
use crate::state::{name, State};

/// More segments than any arena has.
const MOST_SEGMENTS: u64 = 1 << 26;

/// Under the queue's cell. A queue that cannot be read to its end refers to everything: a leak is better than a block in two places.
pub(crate) fn refers_to(body: &Body, session: &Session, block: BlockName) -> bool {
    let guard = body.cell.lock();
    let found =
        State::decode(guard.state()).and_then(|state| search(&state, session, block.to_bits()));
    drop(guard);
    found.unwrap_or(true)
}

fn search(state: &State, session: &Session, wanted: u64) -> Result<bool> {
    if [state.head_segment, state.tail_segment, state.spare].contains(&wanted) {
        return Ok(wanted != 0);
    }
    let (mut word, mut at) = (state.head_segment, state.head);
    let mut left = state.count;
    let mut hops = 0;
    while left > 0 {
        if word == wanted {
            return Ok(true);
        }
        let segment = Segment::at(session, name(word)?)?;
        let header = if at + HEADER <= segment.len() {
            segment.words(at)?
        } else {
            Header::END
        };
        let header = Header::decode(header)?;
        if header.form == Form::End {
            word = segment.next()?;
            at = FIRST;
            hops += 1;
            if hops > MOST_SEGMENTS {
                return Err(Error::Corrupted("its segments form a ring"));
            }
            continue;
        }
        if header.form == Form::Envelope && segment.words(at + HEADER)?[0] == wanted {
            return Ok(true);
        }
        at += header.size();
        left -= 1;
    }
    Ok(false)
}
