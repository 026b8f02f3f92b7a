//! The opcodes that are seldom seen, out of the way of the others.

use super::{argument, array, long_length, Decoder};
use crate::builder::Builder;
use crate::error::Error;
use crate::escape::{unquote, with_room};
use crate::opcode as op;
use crate::source::Source;

impl<V> Decoder<V> {
    /// One of them.
    #[allow(clippy::too_many_lines)]
    pub(super) fn rare<S, B>(
        &mut self,
        code: u8,
        source: &mut S,
        builder: &mut B,
    ) -> Result<(), B::Error>
    where
        S: Source,
        B: Builder<Value = V>,
        B::Error: From<S::Error>,
    {
        let value = match code {
            op::BINUNICODE => {
                let len = u32::from_le_bytes(array(source)?) as usize;
                builder.text(source.take(len)?)?
            }
            op::BINUNICODE8 => {
                let len = long_length("BINUNICODE8", array(source)?)?;
                builder.text(source.take(len)?)?
            }
            op::SHORT_BINBYTES => {
                let len = usize::from(argument(source)?);
                builder.bytes(source.take(len)?)?
            }
            op::BINBYTES => {
                let len = u32::from_le_bytes(array(source)?) as usize;
                builder.bytes_from(source, len, false)?
            }
            op::BINBYTES8 => {
                let len = long_length("BINBYTES8", array(source)?)?;
                builder.bytes_from(source, len, false)?
            }
            op::BYTEARRAY8 => {
                let len = long_length("BYTEARRAY8", array(source)?)?;
                builder.bytes_from(source, len, true)?
            }
            op::LONG1 => {
                let len = usize::from(argument(source)?);
                builder.long(source.take(len)?)?
            }
            op::LONG4 => {
                let len = length("LONG", array(source)?)?;
                builder.long(source.take(len)?)?
            }
            op::NEWOBJ_EX => {
                let keywords = self.pop()?;
                let arguments = self.pop()?;
                let class = self.pop()?;
                builder.new_object_with_keywords(class, arguments, keywords)?
            }
            op::FROZENSET => {
                let start = self.unmark()?;
                builder.frozenset(self.stack.drain(start..))?
            }
            op::LIST => {
                let start = self.unmark()?;
                builder.list(self.stack.drain(start..))?
            }
            op::DICT => {
                let start = self.unmark()?;
                if (self.stack.len() - start) % 2 != 0 {
                    return Err(Error::OddItems("DICT").into());
                }
                let dict = builder.dict()?;
                builder.set_items(&dict, self.stack.drain(start..))?;
                dict
            }
            op::GLOBAL => {
                let module = copied(name(source)?)?;
                builder.global(&module, name(source)?)?
            }
            op::INST => {
                let start = self.unmark()?;
                let module = copied(name(source)?)?;
                let class = builder.global(&module, name(source)?)?;
                let arguments = builder.tuple(self.stack.drain(start..))?;
                builder.instance(class, arguments)?
            }
            op::OBJ => {
                let start = self.unmark()?;
                if start >= self.stack.len() {
                    return Err(self.underflow().into());
                }
                let arguments = builder.tuple(self.stack.drain(start + 1..))?;
                let class = self.pop()?;
                builder.instance(class, arguments)?
            }
            op::EXT1 => extension(u32::from(argument(source)?), builder)?,
            op::EXT2 => extension(u32::from(u16::from_le_bytes(array(source)?)), builder)?,
            op::EXT4 => extension(u32::from_le_bytes(array(source)?), builder)?,
            op::PERSID => {
                let line = source.line()?;
                if !line.is_ascii() {
                    return Err(Error::PersistentNotAscii.into());
                }
                let id = builder.text(line)?;
                builder.persistent(id)?
            }
            op::BINPERSID => {
                let id = self.pop()?;
                builder.persistent(id)?
            }
            op::NEXT_BUFFER => builder.next_buffer()?,
            op::READONLY_BUFFER => {
                let buffer = self.pop()?;
                builder.readonly(buffer)?
            }
            op::DUP => {
                let top = self.top()?;
                builder.same(top)
            }
            op::INT => match source.line()? {
                b"00" => builder.boolean(false),
                b"01" => builder.boolean(true),
                line => match decimal(line) {
                    Some(value) => builder.int(value)?,
                    None => builder.long_text(line)?,
                },
            },
            op::LONG => {
                let line = source.line()?;
                builder.long_text(line.strip_suffix(b"L").unwrap_or(line))?
            }
            op::FLOAT => builder.float_text(source.line()?)?,
            op::UNICODE => builder.text_escaped(source.line()?)?,
            op::STRING => {
                let bytes = unquote(source.line()?)?;
                builder.old_string(&bytes)?
            }
            op::BINSTRING => {
                let len = length("BINSTRING", array(source)?)?;
                builder.old_string(source.take(len)?)?
            }
            op::SHORT_BINSTRING => {
                let len = usize::from(argument(source)?);
                builder.old_string(source.take(len)?)?
            }
            op::GET => {
                let number = decimal(source.line()?).ok_or(Error::NotANumber("GET"))?;
                let number = u64::try_from(number).map_err(|_| Error::NotANumber("GET"))?;
                return self.push_remembered(number, builder);
            }
            op::PUT => {
                let number = decimal(source.line()?).ok_or(Error::NotANumber("PUT"))?;
                let number = u64::try_from(number).map_err(|_| Error::NegativePut)?;
                return self.put(number, builder);
            }
            op::POP => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.unmark()?;
                } else {
                    self.pop()?;
                }
                return Ok(());
            }
            op::POP_MARK => {
                let start = self.unmark()?;
                self.stack.truncate(start);
                return Ok(());
            }
            unknown => return Err(Error::Opcode(unknown).into()),
        };
        Ok(self.push(value)?)
    }
}

/// Bytes that are kept while the source goes on.
fn copied(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut copy = with_room(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// A line that names something.
fn name<S: Source>(source: &mut S) -> Result<&[u8], S::Error> {
    match source.line()? {
        [] => Err(Error::Truncated.into()),
        line => Ok(line),
    }
}

fn decimal(line: &[u8]) -> Option<i64> {
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

fn extension<B: Builder>(code: u32, builder: &mut B) -> Result<B::Value, B::Error> {
    if code == 0 || i32::try_from(code).is_err() {
        return Err(Error::ExtensionCode.into());
    }
    builder.extension(code)
}

fn length(what: &'static str, bytes: [u8; 4]) -> Result<usize, Error> {
    usize::try_from(i32::from_le_bytes(bytes)).map_err(|_| Error::NegativeLength(what))
}
