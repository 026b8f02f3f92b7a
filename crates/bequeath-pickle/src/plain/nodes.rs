//! What a pickle of plain data says, before serde asks for it.

use std::vec::Drain;

use super::object::is_ours;
use crate::builder::Builder;
use crate::error::{Error, Result};

/// The place of a value among the [`Nodes`]; a pickle can name one more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(usize);

#[derive(Debug)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// Little-endian in two's complement.
    Big(Box<[u8]>),
    Float(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    /// A list, tuple, set or frozenset.
    Items(Vec<Id>),
    /// Keys and values by turns.
    Dict(Vec<Id>),
    /// A name, of which nothing is ever looked up.
    Global(Box<str>, Box<str>),
    /// What one of the package's own functions and classes would make.
    Object(Object),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    pub(super) maker: Id,
    pub(super) arguments: Id,
    pub(super) state: Option<Id>,
}

/// Makes nodes of a pickle; what would have to be executed is refused, or only noted.
#[derive(Debug, Default)]
pub(super) struct Nodes(Vec<Node>);

impl Nodes {
    pub(super) fn get(&self, id: Id) -> &Node {
        &self.0[id.0]
    }

    fn add(&mut self, node: Node) -> Id {
        self.0.push(node);
        Id(self.0.len() - 1)
    }

    fn fill(
        &mut self,
        into: Id,
        items: impl Iterator<Item = Id>,
        what: &'static str,
    ) -> Result<()> {
        match &mut self.0[into.0] {
            Node::Items(list) | Node::Dict(list) => {
                list.extend(items);
                Ok(())
            }
            _ => Err(Error::NotPlain(what)),
        }
    }
}

impl Nodes {
    fn object(&mut self, maker: Id, arguments: Id) -> Result<Id> {
        match (self.get(maker), self.get(arguments)) {
            (Node::Global(module, _), Node::Items(_)) if is_ours(module) => {
                Ok(self.add(Node::Object(Object {
                    maker,
                    arguments,
                    state: None,
                })))
            }
            (Node::Global(..), _) => refused("a global"),
            _ => refused("a call"),
        }
    }
}

fn refused<T>(what: &'static str) -> Result<T> {
    Err(Error::NotPlain(what))
}

fn number(text: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(text).map_err(|_| Error::NotUnicode)?;
    Ok(text.trim())
}

impl Builder for Nodes {
    type Value = Id;
    type Error = Error;

    fn same(&mut self, value: &Id) -> Id {
        *value
    }
    fn none(&mut self) -> Id {
        self.add(Node::None)
    }
    fn boolean(&mut self, value: bool) -> Id {
        self.add(Node::Bool(value))
    }
    fn int(&mut self, value: i64) -> Result<Id> {
        Ok(self.add(Node::Int(value)))
    }
    fn long(&mut self, bytes: &[u8]) -> Result<Id> {
        Ok(self.add(Node::Big(bytes.into())))
    }
    fn long_text(&mut self, text: &[u8]) -> Result<Id> {
        let value: i128 = number(text)?
            .parse()
            .map_err(|_| Error::NotANumber("LONG"))?;
        self.long(&value.to_le_bytes())
    }
    fn float(&mut self, value: f64) -> Result<Id> {
        Ok(self.add(Node::Float(value)))
    }
    fn float_text(&mut self, text: &[u8]) -> Result<Id> {
        let value = number(text)?
            .parse()
            .map_err(|_| Error::NotANumber("FLOAT"))?;
        self.float(value)
    }
    fn text(&mut self, utf8: &[u8]) -> Result<Id> {
        let text = std::str::from_utf8(utf8).map_err(|_| Error::NotUnicode)?;
        Ok(self.add(Node::Text(text.into())))
    }
    fn text_escaped(&mut self, escaped: &[u8]) -> Result<Id> {
        let text = crate::escape::unescape(escaped)?;
        Ok(self.add(Node::Text(text.into())))
    }
    fn bytes(&mut self, bytes: &[u8]) -> Result<Id> {
        Ok(self.add(Node::Bytes(bytes.into())))
    }
    fn bytearray(&mut self, bytes: &[u8]) -> Result<Id> {
        self.bytes(bytes)
    }
    fn old_string(&mut self, bytes: &[u8]) -> Result<Id> {
        // As `pickle.loads` does unless it is told an encoding: ASCII is text.
        if bytes.is_ascii() {
            self.text(bytes)
        } else {
            Err(Error::NotUnicode)
        }
    }
    fn list(&mut self, items: Drain<'_, Id>) -> Result<Id> {
        Ok(self.add(Node::Items(items.collect())))
    }
    fn tuple(&mut self, items: Drain<'_, Id>) -> Result<Id> {
        self.list(items)
    }
    fn frozenset(&mut self, items: Drain<'_, Id>) -> Result<Id> {
        self.list(items)
    }
    fn set(&mut self) -> Result<Id> {
        Ok(self.add(Node::Items(Vec::new())))
    }
    fn dict(&mut self) -> Result<Id> {
        Ok(self.add(Node::Dict(Vec::new())))
    }
    fn append(&mut self, list: &Id, item: Id) -> Result<()> {
        match &mut self.0[list.0] {
            Node::Items(items) => items.push(item),
            _ => return refused("an append to what is no list"),
        }
        Ok(())
    }
    fn extend(&mut self, list: &Id, items: Drain<'_, Id>) -> Result<()> {
        match self.get(*list) {
            Node::Items(_) => self.fill(*list, items, ""),
            _ => refused("an append to what is no list"),
        }
    }
    fn set_items(&mut self, dict: &Id, items: Drain<'_, Id>) -> Result<()> {
        match self.get(*dict) {
            Node::Dict(_) => self.fill(*dict, items, ""),
            _ => refused("an item for what is no dict"),
        }
    }
    fn add_items(&mut self, set: &Id, items: Drain<'_, Id>) -> Result<()> {
        self.extend(set, items)
    }
    fn global(&mut self, module: &[u8], name: &[u8]) -> Result<Id> {
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Error::NotUnicode);
        let (module, name) = (text(module)?.into(), text(name)?.into());
        Ok(self.add(Node::Global(module, name)))
    }
    fn stack_global(&mut self, module: Id, name: Id) -> Result<Id> {
        let (Node::Text(module), Node::Text(name)) = (self.get(module), self.get(name)) else {
            return refused("a global");
        };
        let global = Node::Global(module.clone(), name.clone());
        Ok(self.add(global))
    }
    fn extension(&mut self, _code: u32) -> Result<Id> {
        refused("a registered global")
    }
    fn reduce(&mut self, callable: Id, arguments: Id) -> Result<Id> {
        self.object(callable, arguments)
    }
    fn new_object(&mut self, class: Id, arguments: Id) -> Result<Id> {
        self.object(class, arguments)
    }
    fn new_object_with_keywords(&mut self, _: Id, _: Id, _: Id) -> Result<Id> {
        refused("an object")
    }
    fn instance(&mut self, _class: Id, _arguments: Id) -> Result<Id> {
        refused("an object")
    }
    fn build(&mut self, object: &Id, state: Id) -> Result<()> {
        match &mut self.0[object.0] {
            Node::Object(object) if object.state.is_none() => object.state = Some(state),
            _ => return refused("an object"),
        }
        Ok(())
    }
    fn persistent(&mut self, _id: Id) -> Result<Id> {
        refused("a persistent id")
    }
    fn next_buffer(&mut self) -> Result<Id> {
        refused("an out-of-band buffer")
    }
    fn readonly(&mut self, _buffer: Id) -> Result<Id> {
        refused("an out-of-band buffer")
    }
}
