//! Rust values become pickles of protocol 5, without memo and frames.

use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Serialize, Serializer};

use crate::encode::Encoder;
use crate::error::{Error, Result};
use crate::opcode as op;

use super::object;
use super::MAX_DEPTH;

/// The pickle of a value; any Python from 3.8 on reads it.
///
/// ```
/// let pickle = bequeath_pickle::to_vec(&("spam", 3, [1.5])).unwrap();
/// let (name, count, sizes): (String, u8, Vec<f64>) = bequeath_pickle::from_slice(&pickle).unwrap();
/// assert_eq!((name.as_str(), count, sizes), ("spam", 3, vec![1.5]));
/// ```
///
/// # Errors
/// Whatever a `Serialize` implementation says; [`Error::TooMuch`] for nesting that [`from_slice`](crate::from_slice)
/// would not follow.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let mut encoder = Encoder::new(crate::HIGHEST_PROTOCOL, false, Vec::new());
    encoder.begin();
    value.serialize(&mut Writer {
        encoder: &mut encoder,
        depth: 0,
        ends: None,
    })?;
    encoder.end();
    Ok(encoder.into_bytes())
}

struct Writer<'a> {
    encoder: &'a mut Encoder,
    depth: usize,
    /// What makes something else than a tuple of the pair that comes now.
    ends: Option<&'static [u8]>,
}

/// A container that was begun; the opcodes that end it.
struct Open<'a, 'b> {
    writer: &'b mut Writer<'a>,
    end: &'static [u8],
    /// How deep it is inside.
    levels: usize,
}

impl<'a> Writer<'a> {
    fn open<'b>(&'b mut self, begin: &[u8], end: &'static [u8]) -> Result<Open<'a, 'b>> {
        self.enter()?;
        for code in begin {
            self.encoder.opcode(*code);
        }
        Ok(Open {
            writer: self,
            end,
            levels: 1,
        })
    }

    /// The same as the content of a variant: `{variant: `, of a dict with one key.
    fn open_variant<'b>(
        &'b mut self,
        variant: &str,
        begin: &[u8],
        end: &'static [u8],
    ) -> Result<Open<'a, 'b>> {
        self.variant(variant)?;
        let open = self.open(begin, end)?;
        Ok(Open { levels: 2, ..open })
    }

    fn variant(&mut self, variant: &str) -> Result<()> {
        self.enter()?;
        self.encoder.opcode(op::EMPTY_DICT);
        self.encoder.text(variant.as_bytes());
        Ok(())
    }

    fn enter(&mut self) -> Result<()> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::TooMuch("nested too deeply"));
        }
        self.depth += 1;
        Ok(())
    }

    fn big(&mut self, bytes: &[u8; 16], negative: bool) {
        let filler = if negative { 0xff } else { 0 };
        let mut len = bytes.len();
        while len > 1 && bytes[len - 1] == filler && (bytes[len - 2] & 0x80 != 0) == negative {
            len -= 1;
        }
        self.encoder.long(&bytes[..len]);
    }
}

impl Open<'_, '_> {
    fn add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        value.serialize(&mut *self.writer)
    }

    fn close(self) {
        for code in self.end {
            self.writer.encoder.opcode(*code);
        }
        self.writer.depth -= self.levels;
    }
}

const LIST: (&[u8], &[u8]) = (&[op::EMPTY_LIST, op::MARK], &[op::APPENDS]);
const DICT: (&[u8], &[u8]) = (&[op::EMPTY_DICT, op::MARK], &[op::SETITEMS]);

fn tuple_opcodes(len: usize) -> (&'static [u8], &'static [u8]) {
    match len {
        0 => (&[], &[op::EMPTY_TUPLE]),
        1 => (&[], &[op::TUPLE1]),
        2 => (&[], &[op::TUPLE2]),
        3 => (&[], &[op::TUPLE3]),
        _ => (&[op::MARK], &[op::TUPLE]),
    }
}

impl<'a, 'b> Serializer for &'b mut Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Open<'a, 'b>;
    type SerializeTuple = Open<'a, 'b>;
    type SerializeTupleStruct = Open<'a, 'b>;
    type SerializeTupleVariant = Open<'a, 'b>;
    type SerializeMap = Open<'a, 'b>;
    type SerializeStruct = Open<'a, 'b>;
    type SerializeStructVariant = Open<'a, 'b>;

    fn serialize_bool(self, v: bool) -> Result<()> {
        self.encoder.boolean(v);
        Ok(())
    }
    fn serialize_i8(self, v: i8) -> Result<()> {
        self.serialize_i64(v.into())
    }
    fn serialize_i16(self, v: i16) -> Result<()> {
        self.serialize_i64(v.into())
    }
    fn serialize_i32(self, v: i32) -> Result<()> {
        self.serialize_i64(v.into())
    }
    fn serialize_i64(self, v: i64) -> Result<()> {
        self.encoder.int(v);
        Ok(())
    }
    fn serialize_i128(self, v: i128) -> Result<()> {
        match i64::try_from(v) {
            Ok(small) => self.encoder.int(small),
            Err(_) => self.big(&v.to_le_bytes(), v < 0),
        }
        Ok(())
    }
    fn serialize_u8(self, v: u8) -> Result<()> {
        self.serialize_i64(v.into())
    }
    fn serialize_u16(self, v: u16) -> Result<()> {
        self.serialize_i64(v.into())
    }
    fn serialize_u32(self, v: u32) -> Result<()> {
        self.serialize_i64(v.into())
    }
    fn serialize_u64(self, v: u64) -> Result<()> {
        self.serialize_i128(v.into())
    }
    fn serialize_u128(self, v: u128) -> Result<()> {
        if let Ok(signed) = i128::try_from(v) {
            return self.serialize_i128(signed);
        }
        // The top bit is the number's, not the sign.
        let mut bytes = [0; 17];
        bytes[..16].copy_from_slice(&v.to_le_bytes());
        self.encoder.long(&bytes);
        Ok(())
    }
    fn serialize_f32(self, v: f32) -> Result<()> {
        self.serialize_f64(v.into())
    }
    fn serialize_f64(self, v: f64) -> Result<()> {
        self.encoder.float(v);
        Ok(())
    }
    fn serialize_char(self, v: char) -> Result<()> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, v: &str) -> Result<()> {
        self.encoder.text(v.as_bytes());
        Ok(())
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<()> {
        self.encoder.binary(v);
        Ok(())
    }
    fn serialize_none(self) -> Result<()> {
        self.encoder.none();
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<()> {
        self.serialize_none()
    }
    fn serialize_unit_struct(self, _name: &'static str) -> Result<()> {
        self.serialize_none()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<()> {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<()> {
        self.ends = match name {
            object::GLOBAL => Some(&[op::STACK_GLOBAL]),
            object::CALL => Some(&[op::REDUCE]),
            _ => None,
        };
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<()> {
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        self.encoder.opcode(op::SETITEM);
        Ok(())
    }
    fn serialize_seq(self, _len: Option<usize>) -> Result<Open<'a, 'b>> {
        self.open(LIST.0, LIST.1)
    }
    fn serialize_tuple(self, len: usize) -> Result<Open<'a, 'b>> {
        let (begin, end) = match self.ends.take() {
            Some(ends) => (&[][..], ends),
            None => tuple_opcodes(len),
        };
        self.open(begin, end)
    }
    fn serialize_tuple_struct(self, _name: &'static str, len: usize) -> Result<Open<'a, 'b>> {
        self.serialize_tuple(len)
    }
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Open<'a, 'b>> {
        self.open_variant(variant, &[op::MARK], &[op::TUPLE, op::SETITEM])
    }
    fn serialize_map(self, _len: Option<usize>) -> Result<Open<'a, 'b>> {
        self.open(DICT.0, DICT.1)
    }
    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Open<'a, 'b>> {
        self.open(DICT.0, DICT.1)
    }
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Open<'a, 'b>> {
        self.open_variant(variant, DICT.0, &[op::SETITEMS, op::SETITEM])
    }
}

macro_rules! items {
    ($($trait:ident :: $method:ident),*) => {$(
        impl $trait for Open<'_, '_> {
            type Ok = ();
            type Error = Error;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
                self.add(value)
            }
            fn end(self) -> Result<()> {
                self.close();
                Ok(())
            }
        }
    )*};
}

items!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

impl SerializeMap for Open<'_, '_> {
    type Ok = ();
    type Error = Error;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.add(key)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.add(value)
    }
    fn end(self) -> Result<()> {
        self.close();
        Ok(())
    }
}

macro_rules! fields {
    ($($trait:ident),*) => {$(
        impl $trait for Open<'_, '_> {
            type Ok = ();
            type Error = Error;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<()> {
                self.add(key)?;
                self.add(value)
            }
            fn end(self) -> Result<()> {
                self.close();
                Ok(())
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);
