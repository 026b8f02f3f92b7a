//! Does the committed state of a queue refer to a block? Asked by the scavenger about what a dead process was moving in or out.

use bequeath_shm::{BlockName, Session};

use crate::error::{Error, Result};
use crate::queue::Body;
use crate::record::{Form, Header, HEADER};
use crate::segment::{Segment, FIRST};
use crate::state::{name, State};

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
    // Brent's: one of the segments passed is remembered, ever further apart. In a ring it comes again.
    let (mut milestone, mut hops, mut next_milestone) = (word, 0_u64, 1);
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
            if word == milestone {
                return Err(Error::Corrupted("its segments form a ring"));
            }
            hops += 1;
            if hops == next_milestone {
                (milestone, next_milestone) = (word, 2 * hops);
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bequeath_os::Deadline;
    use bequeath_shm::Options;
    use bequeath_sync::Never;

    use super::*;
    use crate::{Outgoing, Queue};

    #[test]
    fn a_ring_of_segments_is_noticed() {
        crate::register_kinds();
        let mut options = Options::default();
        options.size = Some(64 << 20);
        let session = Session::create(&options).unwrap();
        let queue = Queue::create(&session, None).unwrap();
        for _ in 0..100 {
            let message = Outgoing {
                payload: &[1; 4000],
                ..Outgoing::default()
            };
            queue.send(message, Deadline::PAST, &mut Never).unwrap();
        }
        let mut state = queue.state().unwrap();
        let tail = Segment::at(&session, name(state.tail_segment).unwrap()).unwrap();
        tail.set_next(state.head_segment).unwrap();
        tail.set_words(state.tail, Header::END).unwrap();
        // As many as no ring has to hold: without an end this would take days.
        state.count = 1 << 59;
        let nowhere = 1 << 60 | 1;
        assert!(matches!(
            search(&state, &session, nowhere),
            Err(Error::Corrupted("its segments form a ring"))
        ));
        state.count = 100;
        assert!(!search(&state, &session, nowhere).unwrap());
    }
}
