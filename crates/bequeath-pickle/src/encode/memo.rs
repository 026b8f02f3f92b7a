//! What is remembered, and what is named instead of written.

use super::Encoder;
use crate::opcode as op;

impl Encoder {
    /// Remembers the top under a number, which is the next one where the protocol only counts.
    #[inline(always)]
    pub fn put(&mut self, number: u32) {
        if self.protocol >= 4 {
            self.byte(op::MEMOIZE);
        } else {
            self.put_by_number(number);
        }
    }

    #[cold]
    fn put_by_number(&mut self, number: u32) {
        if self.protocol == 0 {
            self.byte(op::PUT);
            self.raw(number.to_string().as_bytes());
            self.byte(b'\n');
        } else {
            match u8::try_from(number) {
                Ok(number) => self.few([op::BINPUT, number]),
                Err(_) => self.with_u32(op::LONG_BINPUT, number),
            }
        }
    }

    /// Pushes what was remembered under a number.
    #[inline(always)]
    pub fn get(&mut self, number: u32) {
        if self.protocol == 0 {
            return self.get_line(number);
        }
        match u8::try_from(number) {
            Ok(number) => self.few([op::BINGET, number]),
            Err(_) => self.with_u32(op::LONG_BINGET, number),
        }
    }

    #[cold]
    fn get_line(&mut self, number: u32) {
        self.byte(op::GET);
        self.raw(number.to_string().as_bytes());
        self.byte(b'\n');
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
            (Ok(code), _) => self.few([op::EXT1, code]),
            (_, Ok(code)) => {
                let [a, b] = code.to_le_bytes();
                self.few([op::EXT2, a, b]);
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
