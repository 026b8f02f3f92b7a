//! Writing opcodes.

use crate::escape::escape_into;
use crate::opcode as op;

/// From this size on a frame is closed, and a string travels outside of frames.
const FRAME_TARGET: usize = 64 * 1024;
/// A shorter frame is not worth its header.
const FRAME_LEAST: usize = 4;
/// The opcode and eight bytes of length.
const FRAME_HEADER: usize = 9;

/// `\\U` and eight digits.
const LONGEST_ESCAPE: usize = 10;

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
    out: Vec<u8>,
    protocol: u8,
    framing: bool,
    in_frames: bool,
    /// Where the open frame's header is.
    frame: Option<usize>,
    /// How large the buffer had to become when there was no memory for it.
    lost: Option<usize>,
}

impl Encoder {
    /// Writes `protocol` behind what `out` holds already. `framing` asks for frames where the protocol has them: a
    /// reader of a stream then fetches whole frames; whoever has the whole pickle does not need them.
    #[must_use]
    pub fn new(protocol: u8, framing: bool, out: Vec<u8>) -> Self {
        Self {
            out,
            protocol,
            framing: framing && protocol >= 4,
            in_frames: false,
            frame: None,
            lost: None,
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
        &self.out
    }

    /// Takes what is written; only between frames, as after [`Encoder::boundary`] said so and after
    /// [`Encoder::outside`].
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        debug_assert!(
            self.frame.is_none(),
            "the open frame's header is not written yet"
        );
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
        self.out
    }

    /// The start of a pickle.
    pub fn begin(&mut self) {
        if self.protocol >= 2 {
            self.out.extend_from_slice(&[op::PROTO, self.protocol]);
        }
        self.in_frames = self.framing;
    }

    /// The end of a pickle.
    pub fn end(&mut self) {
        self.byte(op::STOP);
        self.close_frame();
        self.in_frames = false;
    }

    /// Between two values: closes a frame that has become large enough, and says whether it did.
    #[inline]
    pub fn boundary(&mut self) -> bool {
        match self.frame {
            _ if self.lost.is_some() => true,
            Some(start) if self.out.len() - start - FRAME_HEADER >= FRAME_TARGET => {
                self.close_frame();
                true
            }
            _ => false,
        }
    }

    fn close_frame(&mut self) {
        let Some(start) = self.frame.take() else {
            return;
        };
        let len = self.out.len() - start - FRAME_HEADER;
        if len >= FRAME_LEAST {
            self.out[start] = op::FRAME;
            self.out[start + 1..start + FRAME_HEADER].copy_from_slice(&(len as u64).to_le_bytes());
        } else {
            self.out.drain(start..start + FRAME_HEADER);
        }
    }

    #[cold]
    fn open_frame(&mut self) {
        if self.has_room(FRAME_HEADER) {
            self.frame = Some(self.out.len());
            self.out.extend_from_slice(&[0; FRAME_HEADER]);
        }
    }

    #[inline(always)]
    fn ready(&mut self) {
        if self.in_frames && self.frame.is_none() {
            self.open_frame();
        }
    }

    /// A vector that grows by itself ends the program when there is no memory.
    #[inline(always)]
    fn has_room(&mut self, len: usize) -> bool {
        self.out.capacity() - self.out.len() >= len || self.grow(len)
    }

    #[cold]
    fn grow(&mut self, len: usize) -> bool {
        let grown = self
            .out
            .try_reserve(len)
            .or_else(|_| self.out.try_reserve_exact(len));
        if grown.is_err() {
            self.lost = Some(self.out.len().saturating_add(len));
        }
        grown.is_ok()
    }

    #[inline(always)]
    fn byte(&mut self, code: u8) {
        self.raw(&[code]);
    }

    #[inline(always)]
    fn raw(&mut self, bytes: &[u8]) {
        self.ready();
        if self.has_room(bytes.len()) {
            self.out.extend_from_slice(bytes);
        }
    }

    #[inline(always)]
    fn with_u32(&mut self, code: u8, value: u32) {
        let [a, b, c, d] = value.to_le_bytes();
        self.raw(&[code, a, b, c, d]);
    }

    fn with_u64(&mut self, code: u8, value: u64) {
        let mut all = [code; 9];
        all[1..].copy_from_slice(&value.to_le_bytes());
        self.raw(&all);
    }

    /// An opcode without an argument, as it is.
    #[inline]
    pub fn opcode(&mut self, code: u8) {
        self.byte(code);
    }

    // --- small values ---------------------------------------------------------------------------

    /// None.
    #[inline]
    pub fn none(&mut self) {
        self.byte(op::NONE);
    }

    /// A truth value.
    #[inline]
    pub fn boolean(&mut self, value: bool) {
        if self.protocol >= 2 {
            self.byte(if value { op::NEWTRUE } else { op::NEWFALSE });
        } else {
            self.raw(if value { b"I01\n" } else { b"I00\n" });
        }
    }

    /// An integer of 64 bits.
    #[inline]
    pub fn int(&mut self, value: i64) {
        if self.protocol == 0 {
            return self.int_line(value);
        }
        match value {
            0..=0xff => self.raw(&[op::BININT1, value.to_le_bytes()[0]]),
            0x100..=0xffff => {
                let [a, b, ..] = value.to_le_bytes();
                self.raw(&[op::BININT2, a, b]);
            }
            -0x8000_0000..=0x7fff_ffff => {
                let [a, b, c, d, ..] = value.to_le_bytes();
                self.raw(&[op::BININT, a, b, c, d]);
            }
            _ if self.protocol >= 2 => {
                let bytes = value.to_le_bytes();
                self.long(shortest(&bytes));
            }
            _ => self.long_line(value.to_string().as_bytes()),
        }
    }

    fn int_line(&mut self, value: i64) {
        let text = value.to_string();
        if i32::try_from(value).is_ok() {
            self.byte(op::INT);
            self.raw(text.as_bytes());
            self.byte(b'\n');
        } else {
            self.long_line(text.as_bytes());
        }
    }

    /// An integer of any size, little-endian in two's complement; protocol 2 or newer.
    pub fn long(&mut self, bytes: &[u8]) {
        match u8::try_from(bytes.len()) {
            Ok(len) => self.raw(&[op::LONG1, len]),
            #[allow(clippy::cast_possible_truncation)]
            // an int of 16 gigabits is refused by the caller
            Err(_) => self.with_u32(op::LONG4, bytes.len() as u32),
        }
        self.raw(bytes);
    }

    /// An integer of any size by its decimal digits; for protocols that have no binary form.
    pub fn long_line(&mut self, digits: &[u8]) {
        self.byte(op::LONG);
        self.raw(digits);
        self.raw(b"L\n");
    }

    /// A float; protocol 1 or newer.
    #[inline]
    pub fn float(&mut self, value: f64) {
        let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
        self.raw(&[op::BINFLOAT, a, b, c, d, e, f, g, h]);
    }

    /// A float by its repr, for protocol 0.
    pub fn float_line(&mut self, repr: &[u8]) {
        self.byte(op::FLOAT);
        self.raw(repr);
        self.byte(b'\n');
    }

    // --- strings --------------------------------------------------------------------------------

    /// Text of protocol 1 or newer.
    #[inline]
    pub fn text(&mut self, utf8: &[u8]) {
        if let (Ok(len), true) = (u8::try_from(utf8.len()), self.protocol >= 4) {
            self.ready();
            if self.has_room(utf8.len() + 2) {
                self.out.extend_from_slice(&[op::SHORT_BINUNICODE, len]);
                self.out.extend_from_slice(utf8);
            }
            return;
        }
        if self.is_outside(utf8.len()) {
            self.text_header_outside(utf8.len());
            return self.payload_outside(utf8);
        }
        self.text_header(utf8.len());
        self.raw(utf8);
    }

    fn text_header(&mut self, len: usize) {
        match u32::try_from(len) {
            Ok(len) => self.with_u32(op::BINUNICODE, len),
            Err(_) => self.with_u64(op::BINUNICODE8, len as u64),
        }
    }

    /// Text for protocol 0, by code points.
    pub fn text_line(&mut self, points: impl Iterator<Item = u32>) {
        self.byte(op::UNICODE);
        for point in points {
            if self.has_room(LONGEST_ESCAPE) {
                escape_into(&mut self.out, point);
            }
        }
        self.byte(b'\n');
    }

    /// Bytes of protocol 3 or newer.
    #[inline]
    pub fn binary(&mut self, bytes: &[u8]) {
        if self.is_outside(bytes.len()) {
            self.binary_header_outside(bytes.len());
            return self.payload_outside(bytes);
        }
        self.binary_header(bytes.len());
        self.raw(bytes);
    }

    fn binary_header(&mut self, len: usize) {
        match (u8::try_from(len), u32::try_from(len)) {
            (Ok(len), _) => self.raw(&[op::SHORT_BINBYTES, len]),
            (_, Ok(len)) => self.with_u32(op::BINBYTES, len),
            _ => self.with_u64(op::BINBYTES8, len as u64),
        }
    }

    /// A bytearray of protocol 5.
    pub fn bytearray(&mut self, bytes: &[u8]) {
        if self.is_outside(bytes.len()) {
            self.bytearray_header_outside(bytes.len());
            return self.payload_outside(bytes);
        }
        self.with_u64(op::BYTEARRAY8, bytes.len() as u64);
        self.raw(bytes);
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
        write(self);
        self.in_frames = in_frames;
    }

    fn payload_outside(&mut self, bytes: &[u8]) {
        if self.has_room(bytes.len()) {
            self.out.extend_from_slice(bytes);
        }
    }

    // --- memo, names and calls ------------------------------------------------------------------

    /// Remembers the top under a number, which is the next one where the protocol only counts.
    #[inline]
    pub fn put(&mut self, number: u32) {
        if self.protocol >= 4 {
            self.byte(op::MEMOIZE);
        } else if self.protocol == 0 {
            self.byte(op::PUT);
            self.raw(number.to_string().as_bytes());
            self.byte(b'\n');
        } else {
            match u8::try_from(number) {
                Ok(number) => self.raw(&[op::BINPUT, number]),
                Err(_) => self.with_u32(op::LONG_BINPUT, number),
            }
        }
    }

    /// Pushes what was remembered under a number.
    #[inline]
    pub fn get(&mut self, number: u32) {
        if self.protocol == 0 {
            self.byte(op::GET);
            self.raw(number.to_string().as_bytes());
            return self.byte(b'\n');
        }
        match u8::try_from(number) {
            Ok(number) => self.raw(&[op::BINGET, number]),
            Err(_) => self.with_u32(op::LONG_BINGET, number),
        }
    }

    /// A global by two lines, before protocol 4 and for names that have no dots.
    pub fn global_lines(&mut self, module: &[u8], name: &[u8]) {
        self.byte(op::GLOBAL);
        self.raw(module);
        self.byte(b'\n');
        self.raw(name);
        self.byte(b'\n');
    }

    /// A global by its registered code.
    pub fn extension(&mut self, code: u32) {
        match (u8::try_from(code), u16::try_from(code)) {
            (Ok(code), _) => self.raw(&[op::EXT1, code]),
            (_, Ok(code)) => {
                let [a, b] = code.to_le_bytes();
                self.raw(&[op::EXT2, a, b]);
            }
            _ => self.with_u32(op::EXT4, code),
        }
    }

    /// A persistent id, for protocol 0.
    pub fn persistent_line(&mut self, id: &[u8]) {
        self.byte(op::PERSID);
        self.raw(id);
        self.byte(b'\n');
    }
}

/// Without the bytes that only repeat the sign.
fn shortest(bytes: &[u8; 8]) -> &[u8] {
    let mut len = bytes.len();
    while len > 1 {
        let sign = if bytes[len - 2] & 0x80 == 0 { 0 } else { 0xff };
        if bytes[len - 1] != sign {
            break;
        }
        len -= 1;
    }
    &bytes[..len]
}
