//! Objects that stand in plain data: what Python makes by a function or class of the project's own, and Rust only looks at.
//!
//! A handle of shared memory is such an object. It is written as Python would write it, and read as what the pickle says of
//! it; whose it is and what its numbers mean, the type that asks for it knows. Names outside of the project's package are
//! refused before anybody asks.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// By this name a serde newtype is an [`Object`] or a [`Call`].
pub(super) const CALL: &str = "$bequeath_pickle::Call";
/// By this name a serde newtype is what is called.
pub(super) const GLOBAL: &str = "$bequeath_pickle::Global";

/// Whether objects that this module's functions and classes make are handed on.
pub(super) fn is_ours(module: &str) -> bool {
    module.starts_with("bequeath.")
}

/// An object to write: the reader in Python calls this function with these arguments, a tuple.
///
/// ```
/// use bequeath_pickle::{from_slice, to_vec, Call, Object, Part};
/// let call = Call { module: "bequeath._engine", name: "shared_object", arguments: (3,) };
/// let object: Object = from_slice(&to_vec(&call).unwrap()).unwrap();
/// assert_eq!(object.name, "shared_object");
/// assert_eq!(object.arguments, [Part::Number(3)]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Call<A> {
    /// A module of the package `bequeath`.
    pub module: &'static str,
    /// The function in it.
    pub name: &'static str,
    /// A tuple.
    pub arguments: A,
}

struct Global(&'static str, &'static str);

impl Serialize for Global {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(GLOBAL, &(self.0, self.1))
    }
}

impl<A: Serialize> Serialize for Call<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let global = Global(self.module, self.name);
        serializer.serialize_newtype_struct(CALL, &(global, &self.arguments))
    }
}

/// What a pickle says of an object: what makes it, of which arguments, and its state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// A module of the package `bequeath`.
    pub module: String,
    /// The function or class in it.
    pub name: String,
    /// What it is given.
    pub arguments: Vec<Part>,
    /// What the object is given then; nothing unless that is a tuple.
    pub state: Vec<Part>,
}

/// An argument of an [`Object`], or an item of its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// An integer of 64 bits.
    Number(i64),
    /// Text, or the name of a class.
    Text(String),
    /// A list or tuple.
    Items(Vec<Part>),
    /// An object inside.
    Object(Object),
    /// What nobody looks at.
    Other,
}

impl Part {
    fn items(self) -> Vec<Self> {
        match self {
            Self::Items(items) => items,
            _ => Vec::new(),
        }
    }

    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Object {
    /// `((module, name), arguments, state)`.
    fn of<E: serde::de::Error>(content: Part) -> Result<Self, E> {
        let mut parts = content.items().into_iter();
        let mut next = || parts.next().unwrap_or(Part::Other).items();
        let mut names = next().into_iter().filter_map(Part::text);
        let (Some(module), Some(name)) = (names.next(), names.next()) else {
            return Err(E::custom("an object that nothing makes"));
        };
        Ok(Self {
            module,
            name,
            arguments: next(),
            state: next(),
        })
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Expected;
        impl<'de> Visitor<'de> for Expected {
            type Value = Object;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a shared object or a descriptor")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                content: D,
            ) -> Result<Object, D::Error> {
                Object::of(Part::deserialize(content)?)
            }
        }
        deserializer.deserialize_newtype_struct(CALL, Expected)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyPart)
    }
}

struct AnyPart;

impl<'de> Visitor<'de> for AnyPart {
    type Value = Part;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a part of an object")
    }
    fn visit_i64<E>(self, value: i64) -> Result<Part, E> {
        Ok(Part::Number(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Part, E> {
        Ok(i64::try_from(value).map_or(Part::Other, Part::Number))
    }
    fn visit_str<E>(self, text: &str) -> Result<Part, E> {
        Ok(Part::Text(text.to_owned()))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Part, E> {
        Ok(Part::Other)
    }
    fn visit_i128<E>(self, _: i128) -> Result<Part, E> {
        Ok(Part::Other)
    }
    fn visit_u128<E>(self, _: u128) -> Result<Part, E> {
        Ok(Part::Other)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Part, E> {
        Ok(Part::Other)
    }
    fn visit_bytes<E>(self, _: &[u8]) -> Result<Part, E> {
        Ok(Part::Other)
    }
    fn visit_unit<E>(self) -> Result<Part, E> {
        Ok(Part::Other)
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, content: D) -> Result<Part, D::Error> {
        Object::of(Self::Value::deserialize(content)?).map(Part::Object)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Part, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Part::Items(all))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Part, A::Error> {
        while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Part::Other)
    }
}
