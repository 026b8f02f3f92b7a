//! Writing opcodes.

use crate::opcode as op;

mod memo;
mod values;

/// From this size on a frame is closed, and a string travels outside of frames.
const FRAME_TARGET: usize = 64 * 1024;
/// A shorter frame is not worth its header.
const FRAME_LEAST: usize = 4;
/// The opcode and eight bytes of length.
const FRAME_HEADER: usize = 9;
/// The least buffer.
const FIRST: usize = 256;

/// Writes values as one protocol spells them. It keeps no memo: the caller decides what is remembered, says so
/// after the value with [`Encoder::put`], and refers back with [`Encoder::get`].
///
/// ```
/// let mut pickle = bequeath_pickle::Encoder::new(5, false, Vec::new());
/// pickle.begin();
/// pickle.text(b"spam");
/// pickle.end();
/// assert_eq!(pickle.bytes(), b"\x80\x05\x8c\x04spam.");
/// ```
#[derive(Debug)]
pub struct Encoder {
    /// As long as it has been written to once: only the first `len` bytes count.
    out: Vec<u8>,
    len: usize,
    protocol: u8,
    framing: bool,
    in_frames: bool,
    /// Where the open frame's header is.
    frame: Option<usize>,
    /// How large the buffer had to become when there was no memory for it.
    lost: Option<usize>,
    /// Another frame is to be opened before the next byte.
    unopened: bool,
    /// How long the output may become before the open frame is closed.
    limit: usize,
}

impl Encoder {
    /// Writes `protocol` behind what `out` holds already. `framing` asks for frames where the protocol has them: a
    /// reader of a stream then fetches whole frames; whoever has the whole pickle does not need them.
    #[must_use]
    pub fn new(protocol: u8, framing: bool, out: Vec<u8>) -> Self {
        Self {
            len: out.len(),
            ..Self::over(protocol, framing, out)
        }
    }

    /// The same from the first byte of `out` on, over whatever it holds: room that was written to once need not be
    /// cleared again.
    #[must_use]
    pub fn over(protocol: u8, framing: bool, out: Vec<u8>) -> Self {
        Self {
            len: 0,
            out,
            protocol,
            framing: framing && protocol >= 4,
            in_frames: false,
            frame: None,
            lost: None,
            unopened: false,
            limit: usize::MAX,
        }
    }

    /// Which protocol is written.
    #[inline]
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// What is written and not yet [taken](Encoder::take).
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.out[..self.len]
    }

    /// Takes what is written; only between frames, as after [`Encoder::boundary`] said so and after
    /// [`Encoder::outside`].
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        debug_assert!(
            self.frame.is_none(),
            "the open frame's header is not written yet"
        );
        self.out.truncate(self.len);
        self.len = 0;
        std::mem::take(&mut self.out)
    }

    /// How many bytes there was no memory for. What was written is not a pickle then; the encoder goes on without harm, and
    /// [`Encoder::boundary`] says that it wants to be looked at.
    #[inline]
    #[must_use]
    pub fn lost(&self) -> Option<usize> {
        self.lost
    }

    /// Ends the encoder and hands out its buffer.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let (mut out, len) = self.into_room();
        out.truncate(len);
        out
    }

    /// Ends the encoder and hands out its buffer as it is, of which so many bytes are written.
    #[must_use]
    pub fn into_room(self) -> (Vec<u8>, usize) {
        (self.out, self.len)
    }

    /// There was no memory for `more` bytes that the caller needs to go on: what was written is not a pickle then, as
    /// [`Encoder::lost`] tells.
    #[cold]
    pub fn give_up(&mut self, more: usize) {
        self.lose(self.len.saturating_add(more));
    }

    /// The start of a pickle.
    pub fn begin(&mut self) {
        self.in_frames = self.framing;
        if self.framing {
            // Both at once: much of a small pickle is its beginning.
            let mut start = [0; 2 + FRAME_HEADER];
            (start[0], start[1]) = (op::PROTO, self.protocol);
            let written = self.copy(start);
            self.opened(written);
        } else if self.protocol >= 2 {
            let _ = self.copy([op::PROTO, self.protocol]);
        }
    }

    /// The end of a pickle.
    pub fn end(&mut self) {
        self.byte(op::STOP);
        self.close_frame();
        self.in_frames = false;
        self.unopened = false;
    }

    /// Lets the open frame be closed when so many bytes are written, if it is before the frame is full.
    #[inline]
    pub fn close_at(&mut self, len: usize) {
        self.limit = self.limit.min(len);
    }

    /// Between two values: closes a frame that has become large enough, and says whether it did.
    #[inline(always)]
    pub fn boundary(&mut self) -> bool {
        self.len >= self.limit && self.at_boundary()
    }

    #[cold]
    fn at_boundary(&mut self) -> bool {
        if self.lost.is_none() {
            self.close_frame();
        }
        true
    }

    fn close_frame(&mut self) {
        let Some(start) = self.frame.take() else {
            return;
        };
        (self.limit, self.unopened) = (usize::MAX, self.in_frames);
        let len = self.len - start - FRAME_HEADER;
        if len >= FRAME_LEAST {
            self.out[start] = op::FRAME;
            self.out[start + 1..start + FRAME_HEADER].copy_from_slice(&(len as u64).to_le_bytes());
        } else {
            self.out.copy_within(start + FRAME_HEADER..self.len, start);
            self.len -= FRAME_HEADER;
        }
    }

    #[inline(always)]
    fn open_frame(&mut self) {
        let written = self.copy([0; FRAME_HEADER]);
        self.opened(written);
    }

    #[inline(always)]
    fn opened(&mut self, written: bool) {
        self.frame = written.then(|| self.len - FRAME_HEADER);
        if self.frame.is_some() {
            (self.limit, self.unopened) = (self.len + FRAME_TARGET, false);
        }
    }

    #[cold]
    fn open_another_frame(&mut self) {
        self.open_frame();
    }

    #[inline(always)]
    fn ready(&mut self) {
        if self.unopened {
            self.open_another_frame();
        }
    }

    #[inline(always)]
    fn byte(&mut self, code: u8) {
        self.few([code]);
    }

    #[inline(always)]
    fn raw(&mut self, bytes: &[u8]) {
        self.ready();
        self.append(bytes);
    }

    /// Without looking after frames.
    #[inline(always)]
    fn append(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        match self.out.get_mut(self.len..end) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.len = end;
            }
            None => self.append_beyond(bytes),
        }
    }

    /// A code, a length and so many bytes: what most of a small pickle is made of. Bytes that are few are copied by
    /// pieces of a known size, without a call.
    #[inline(always)]
    fn short(&mut self, code: u8, bytes: &[u8]) {
        #[allow(clippy::cast_possible_truncation)] // the caller has looked
        let len = bytes.len() as u8;
        self.ready();
        let end = self.len + 2 + bytes.len();
        if end > self.out.len() && !self.grow(end) {
            return;
        }
        let Some([first, second, place @ ..]) = self.out.get_mut(self.len..end) else {
            return;
        };
        (*first, *second) = (code, len);
        match bytes.len() {
            8..=16 => by_two::<8>(place, bytes),
            4..=7 => by_two::<4>(place, bytes),
            2..=3 => by_two::<2>(place, bytes),
            _ => place.copy_from_slice(bytes),
        }
        self.len = end;
    }

    #[cold]
    #[inline(never)]
    fn append_beyond(&mut self, bytes: &[u8]) {
        self.out.truncate(self.len);
        if self.out.try_reserve(bytes.len()).is_err() {
            return self.lose(self.len.saturating_add(bytes.len()));
        }
        self.out.extend_from_slice(bytes);
        self.len = self.out.len();
    }

    /// The same where the number of bytes is known here: no call of a function that copies. Says whether they were
    /// written.
    #[inline(always)]
    fn copy<const LEN: usize>(&mut self, bytes: [u8; LEN]) -> bool {
        let end = self.len + LEN;
        if end > self.out.len() && !self.grow(end) {
            return false;
        }
        if let Some(place) = self.out[self.len..].first_chunk_mut::<LEN>() {
            *place = bytes;
        }
        self.len = end;
        true
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, least: usize) -> bool {
        // A large buffer does not become twice as large at once for a few bytes.
        let more = self.out.len().clamp(FIRST, FRAME_TARGET);
        let len = (self.out.len() + more).max(least);
        if self.out.try_reserve(len - self.out.len()).is_err() {
            self.lose(least);
            return false;
        }
        self.out.resize(len, 0);
        true
    }

    /// There is no memory: told at the next boundary.
    fn lose(&mut self, needed: usize) {
        self.lost = Some(needed);
        self.limit = 0;
    }

    /// A few bytes.
    #[inline(always)]
    fn few<const LEN: usize>(&mut self, bytes: [u8; LEN]) {
        self.ready();
        let _ = self.copy(bytes);
    }

    #[inline(always)]
    fn with_u32(&mut self, code: u8, value: u32) {
        let [a, b, c, d] = value.to_le_bytes();
        self.few([code, a, b, c, d]);
    }

    fn with_u64(&mut self, code: u8, value: u64) {
        let mut all = [code; 9];
        all[1..].copy_from_slice(&value.to_le_bytes());
        self.raw(&all);
    }

    /// An opcode without an argument, as it is.
    #[inline(always)]
    pub fn opcode(&mut self, code: u8) {
        self.byte(code);
    }

    /// Whether a string of this length travels outside of frames.
    #[inline]
    #[must_use]
    pub fn is_outside(&self, len: usize) -> bool {
        len >= FRAME_TARGET && self.in_frames
    }

    /// Only the header of a text outside of frames; its bytes must follow, by way of the caller's own.
    pub fn text_header_outside(&mut self, len: usize) {
        self.outside(|this| this.text_header(len));
    }

    /// Only the header of bytes outside of frames.
    pub fn binary_header_outside(&mut self, len: usize) {
        self.outside(|this| this.binary_header(len));
    }

    /// Only the header of a bytearray outside of frames.
    pub fn bytearray_header_outside(&mut self, len: usize) {
        self.outside(|this| this.with_u64(op::BYTEARRAY8, len as u64));
    }

    /// Writes outside of frames: the open one is closed first, the next value opens another.
    pub fn outside(&mut self, write: impl FnOnce(&mut Self)) {
        self.close_frame();
        let in_frames = std::mem::replace(&mut self.in_frames, false);
        self.unopened = false;
        write(self);
        (self.in_frames, self.unopened) = (in_frames, in_frames);
    }

    fn payload_outside(&mut self, bytes: &[u8]) {
        self.append(bytes);
    }
}

/// Copies at least `LEN` and at most twice as many bytes: the first and the last ones, which may overlap.
#[inline(always)]
fn by_two<const LEN: usize>(place: &mut [u8], bytes: &[u8]) {
    if let (Some(place), Some(bytes)) = (place.first_chunk_mut::<LEN>(), bytes.first_chunk()) {
        *place = *bytes;
    }
    if let (Some(place), Some(bytes)) = (place.last_chunk_mut::<LEN>(), bytes.last_chunk()) {
        *place = *bytes;
    }
}
