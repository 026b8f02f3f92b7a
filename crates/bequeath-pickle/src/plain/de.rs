//! Pickles become Rust values.

use std::cell::Cell;

use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde::Deserialize;

use super::nodes::{Id, Node, Nodes, Object};
use super::object::CALL;
use super::MAX_DEPTH;
use crate::decode::Decoder;
use crate::error::{Error, Result};
use crate::source::Slice;

/// What reading may cost, per byte of the pickle and at the least: a value that is shared is made once for every place
/// that names it. Without a bound, twenty lists that hold the next one ten times each never end, and a long text named
/// by a million opcodes of two bytes fills the memory.
const COST_PER_BYTE: usize = 256;
const COST_ALWAYS: usize = 1 << 20;
/// What one value costs, and one place in a container; text and bytes cost their length besides.
const COST_OF_VALUE: usize = 16;

/// The value that a pickle of plain data says; nothing that it names is looked up or called.
///
/// # Errors
/// [`Error::NotPlain`] for what only Python could make, what is wrong with the pickle, and what
/// `T` says about a value that is not its own.
pub fn from_slice<T: for<'de> Deserialize<'de>>(pickle: &[u8]) -> Result<T> {
    let mut nodes = Nodes::default();
    let root = Decoder::new().read(&mut Slice::new(pickle), &mut nodes)?;
    let budget = pickle.len().saturating_mul(COST_PER_BYTE);
    let budget = Cell::new(budget.saturating_add(COST_ALWAYS));
    T::deserialize(Reader {
        nodes: &nodes,
        budget: &budget,
        id: root,
        depth: 0,
        in_object: false,
    })
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    nodes: &'a Nodes,
    /// What may still be spent.
    budget: &'a Cell<usize>,
    id: Id,
    depth: usize,
    /// Among an object's parts the name of a class is text.
    in_object: bool,
}

impl<'a> Reader<'a> {
    fn node(&self) -> &'a Node {
        self.nodes.get(self.id)
    }

    /// A value inside of this one.
    fn inside(&self, id: Id) -> Result<Self> {
        let Some(left) = self.budget.get().checked_sub(self.nodes.get(id).cost()) else {
            return Err(Error::TooMuch("shared too often to be copied"));
        };
        self.budget.set(left);
        if self.depth >= MAX_DEPTH {
            return Err(Error::TooMuch("nested too deeply, or in itself"));
        }
        Ok(Self {
            id,
            depth: self.depth + 1,
            ..*self
        })
    }

    fn items(self, ids: &'a [Id]) -> Items<'a> {
        Items {
            of: self,
            ids: ids.iter(),
        }
    }
}

impl Node {
    fn cost(&self) -> usize {
        COST_OF_VALUE
            + match self {
                Self::Text(text) => text.len(),
                Self::Bytes(bytes) | Self::Big(bytes) => bytes.len(),
                Self::Items(ids) | Self::Dict(ids) => ids.len().saturating_mul(COST_OF_VALUE),
                Self::Global(module, name) => module.len() + name.len(),
                _ => 0,
            }
    }
}

fn visit_big<'de, V: Visitor<'de>>(bytes: &[u8], visitor: V) -> Result<V::Value> {
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let filler = if negative { 0xff } else { 0 };
    let mut all = [filler; 17];
    if let Some((kept, beyond)) = bytes.split_at_checked(17) {
        if beyond.iter().any(|byte| *byte != filler) {
            return Err(Error::TooMuch("an integer of more than 128 bits"));
        }
        all.copy_from_slice(kept);
    } else {
        all[..bytes.len()].copy_from_slice(bytes);
    }
    let [low @ .., top] = all;
    let value = i128::from_le_bytes(low);
    match (i64::try_from(value), u64::try_from(value)) {
        _ if top != filler || (value < 0) != negative => match (top, negative) {
            (0, false) => visitor.visit_u128(u128::from_le_bytes(low)),
            _ => Err(Error::TooMuch("an integer of more than 128 bits")),
        },
        (Ok(small), _) => visitor.visit_i64(small),
        (_, Ok(unsigned)) => visitor.visit_u64(unsigned),
        _ => visitor.visit_i128(value),
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.node() {
            Node::None => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Int(value) => visitor.visit_i64(*value),
            Node::Big(bytes) => visit_big(bytes, visitor),
            Node::Float(value) => visitor.visit_f64(*value),
            Node::Text(text) => visitor.visit_borrowed_str(text),
            Node::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Node::Items(ids) => {
                let mut items = self.items(ids);
                let value = visitor.visit_seq(&mut items)?;
                match items.ids.len() {
                    0 => Ok(value),
                    more => Err(Error::Custom(format!("{more} items more than expected"))),
                }
            }
            Node::Dict(ids) => visitor.visit_map(self.items(ids)),
            Node::Global(module, name) if self.in_object => {
                visitor.visit_string(format!("{module}.{name}"))
            }
            Node::Global(..) => Err(Error::NotPlain("a global")),
            Node::Object(object) => visitor.visit_newtype_struct(Parts {
                of: Self {
                    in_object: true,
                    ..self
                },
                object,
                next: 0,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.node() {
            Node::None => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        if name == CALL {
            return self.deserialize_any(visitor);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.node() {
            Node::Text(_) => visitor.visit_enum(Variant {
                name: self,
                content: None,
            }),
            Node::Dict(ids) => match ids.as_slice() {
                [name, content] => visitor.visit_enum(Variant {
                    name: self.inside(*name)?,
                    content: Some(self.inside(*content)?),
                }),
                _ => Err(Error::Custom("a variant is a dict of one key".to_owned())),
            },
            Node::Global(..) => Err(Error::NotPlain("a global")),
            _ => Err(Error::Custom(
                "a variant is a str, or a dict of one key".to_owned(),
            )),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// What is said of an object: `((module, name), arguments, state)`.
struct Parts<'a> {
    of: Reader<'a>,
    object: &'a Object,
    next: u8,
}

impl<'de> Deserializer<'de> for Parts<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_seq(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit option
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> SeqAccess<'de> for Parts<'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        self.next += 1;
        let part = match self.next {
            1 => match self.of.inside(self.object.maker)?.node() {
                Node::Global(module, name) => {
                    let names = [&**module, &**name].into_iter();
                    return seed.deserialize(SeqDeserializer::new(names)).map(Some);
                }
                _ => return Err(Error::NotPlain("a call")),
            },
            2 => Some(self.object.arguments),
            3 => self.object.state,
            _ => None,
        };
        part.map(|id| seed.deserialize(self.of.inside(id)?))
            .transpose()
    }
}

struct Items<'a> {
    of: Reader<'a>,
    ids: std::slice::Iter<'a, Id>,
}

impl Items<'_> {
    fn next<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>>
    where
        Self: 'de,
    {
        let Some(id) = self.ids.next() else {
            return Ok(None);
        };
        seed.deserialize(self.of.inside(*id)?).map(Some)
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        self.next(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.ids.len())
    }
}

impl<'de> MapAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        self.next(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        self.next(seed)?.ok_or(Error::OddItems("a dict"))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.ids.len() / 2)
    }
}

struct Variant<'a> {
    name: Reader<'a>,
    content: Option<Reader<'a>>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = Content<'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Content<'de>)> {
        let Node::Text(name) = self.name.node() else {
            return Err(Error::Custom("a variant's name is a str".to_owned()));
        };
        let name = seed.deserialize(BorrowedStrDeserializer::<Error>::new(name))?;
        Ok((name, Content(self.content)))
    }
}

struct Content<'a>(Option<Reader<'a>>);

impl<'a> Content<'a> {
    fn some(self) -> Result<Reader<'a>> {
        self.0
            .ok_or_else(|| Error::Custom("this variant has a content".to_owned()))
    }
}

impl<'de> VariantAccess<'de> for Content<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<()> {
        match self.0 {
            None => Ok(()),
            Some(content) => <()>::deserialize(content),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value> {
        seed.deserialize(self.some()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value> {
        self.some()?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.some()?.deserialize_any(visitor)
    }
}
