//! Values of builtin types.

use super::Encoder;
use crate::escape::escape_into;
use crate::opcode as op;

impl Encoder {
    /// None.
    #[inline(always)]
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
    #[inline(always)]
    pub fn int(&mut self, value: i64) {
        if self.protocol == 0 {
            return self.int_line(value);
        }
        match value {
            0..=0xff => self.few([op::BININT1, value.to_le_bytes()[0]]),
            0x100..=0xffff => {
                let [a, b, ..] = value.to_le_bytes();
                self.few([op::BININT2, a, b]);
            }
            -0x8000_0000..=0x7fff_ffff => {
                let [a, b, c, d, ..] = value.to_le_bytes();
                self.few([op::BININT, a, b, c, d]);
            }
            _ => self.large(value),
        }
    }

    #[inline(never)]
    fn large(&mut self, value: i64) {
        if self.protocol >= 2 {
            self.long(shortest(&value.to_le_bytes()));
        } else {
            self.long_line(value.to_string().as_bytes());
        }
    }

    /// An integer of 128 bits; protocol 2 or newer.
    pub fn wide(&mut self, value: i128) {
        match i64::try_from(value) {
            Ok(value) => self.int(value),
            Err(_) => self.long(shortest(&value.to_le_bytes())),
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
            Ok(len) => self.few([op::LONG1, len]),
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
    #[inline(always)]
    pub fn float(&mut self, value: f64) {
        let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
        self.few([op::BINFLOAT, a, b, c, d, e, f, g, h]);
    }

    /// A float by its repr, for protocol 0.
    pub fn float_line(&mut self, repr: &[u8]) {
        self.byte(op::FLOAT);
        self.raw(repr);
        self.byte(b'\n');
    }

    /// Text of up to 255 bytes, of protocol 4 or newer.
    #[inline(always)]
    pub fn short_text(&mut self, utf8: &[u8]) {
        debug_assert!(utf8.len() <= usize::from(u8::MAX) && self.protocol >= 4);
        self.short(op::SHORT_BINUNICODE, utf8);
    }

    /// Text of protocol 1 or newer.
    #[inline]
    pub fn text(&mut self, utf8: &[u8]) {
        if utf8.len() <= usize::from(u8::MAX) && self.protocol >= 4 {
            return self.short_text(utf8);
        }
        if self.is_outside(utf8.len()) {
            self.text_header_outside(utf8.len());
            return self.payload_outside(utf8);
        }
        self.text_header(utf8.len());
        self.raw(utf8);
    }

    pub(super) fn text_header(&mut self, len: usize) {
        match u32::try_from(len) {
            Ok(len) => self.with_u32(op::BINUNICODE, len),
            Err(_) => self.with_u64(op::BINUNICODE8, len as u64),
        }
    }

    /// Text for protocol 0, by code points.
    pub fn text_line(&mut self, points: impl Iterator<Item = u32>) {
        self.byte(op::UNICODE);
        let mut one = Vec::new();
        for point in points {
            one.clear();
            escape_into(&mut one, point);
            self.raw(&one);
        }
        self.byte(b'\n');
    }

    /// Bytes of protocol 3 or newer.
    #[inline]
    pub fn binary(&mut self, bytes: &[u8]) {
        if bytes.len() <= usize::from(u8::MAX) {
            return self.short(op::SHORT_BINBYTES, bytes);
        }
        if self.is_outside(bytes.len()) {
            self.binary_header_outside(bytes.len());
            return self.payload_outside(bytes);
        }
        self.binary_header(bytes.len());
        self.raw(bytes);
    }

    pub(super) fn binary_header(&mut self, len: usize) {
        match u32::try_from(len) {
            Ok(len) => self.with_u32(op::BINBYTES, len),
            Err(_) => self.with_u64(op::BINBYTES8, len as u64),
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
}

/// Without the bytes that only repeat the sign.
fn shortest(bytes: &[u8]) -> &[u8] {
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
