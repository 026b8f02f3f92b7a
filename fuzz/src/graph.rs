//! A builder that takes every opcode and executes nothing: values are numbers of nodes.

use std::vec::Drain;

use bequeath_pickle::{Builder, Decoder, Error, Slice};

/// The number of a node.
pub type Id = usize;

/// What a pickle says at one place.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    None,
    Bool(bool),
    /// Little-endian in two's complement, as short as it can be.
    Int(Vec<u8>),
    /// By its bits: a NaN is itself.
    Float(u64),
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    ByteArray(Vec<u8>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    FrozenSet(Vec<Id>),
    Set(Vec<Id>),
    Dict(Vec<Id>),
    /// What only Python could make of it, or keeps in a form that another protocol lacks.
    Other(&'static str, Vec<Id>),
}

/// All that a pickle says.
#[derive(Default, Debug)]
pub struct Graph(pub Vec<Node>);

/// An integer without the bytes that only repeat the sign.
pub fn shortest(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    while let [.., before, last] = bytes[..] {
        let sign = if before & 0x80 == 0 { 0 } else { 0xff };
        if last != sign {
            break;
        }
        bytes.pop();
    }
    if bytes.is_empty() {
        bytes.push(0);
    }
    bytes
}

impl Graph {
    /// The nodes of the one pickle that stands at the front of `bytes`.
    pub fn read(bytes: &[u8]) -> Result<(Self, Id), Error> {
        let mut graph = Self::default();
        let root = Decoder::new().read(&mut Slice::new(bytes), &mut graph)?;
        Ok((graph, root))
    }

    pub fn add(&mut self, node: Node) -> Id {
        self.0.push(node);
        self.0.len() - 1
    }

    fn other(&mut self, what: &'static str, inside: Vec<Id>) -> Result<Id, Error> {
        Ok(self.add(Node::Other(what, inside)))
    }

    /// Puts items into what takes them, as an object of Python would that has taken a container's place.
    fn fill(&mut self, into: Id, items: impl Iterator<Item = Id>, is_own: fn(&Node) -> bool) {
        let node = &mut self.0[into];
        let is_own = is_own(node);
        match node {
            Node::List(inside) | Node::Set(inside) | Node::Dict(inside) if is_own => inside.extend(items),
            Node::Other(_, inside) => inside.extend(items),
            _ => {}
        }
    }

    /// Whether both say the same, sharing and cycles included.
    pub fn is_same(&self, root: Id, other: &Self, other_root: Id) -> bool {
        let mut seen = vec![None; self.0.len()];
        let mut pairs = vec![(root, other_root)];
        while let Some((one, two)) = pairs.pop() {
            match seen[one] {
                Some(known) if known == two => continue,
                // An immutable one without identity may have become two, or two may have become one.
                Some(_) if self.is_container(one) => return false,
                _ => seen[one] = Some(two),
            }
            let (Some(inside), Some(others)) = (self.inside(one), other.inside(two)) else {
                if self.0[one] != other.0[two] {
                    return false;
                }
                continue;
            };
            if std::mem::discriminant(&self.0[one]) != std::mem::discriminant(&other.0[two])
                || inside.len() != others.len()
            {
                return false;
            }
            pairs.extend(inside.iter().copied().zip(others.iter().copied()));
        }
        true
    }

    pub fn inside(&self, id: Id) -> Option<&[Id]> {
        match &self.0[id] {
            Node::List(inside)
            | Node::Tuple(inside)
            | Node::FrozenSet(inside)
            | Node::Set(inside)
            | Node::Dict(inside)
            | Node::Other(_, inside) => Some(inside),
            _ => None,
        }
    }

    fn is_container(&self, id: Id) -> bool {
        self.inside(id).is_some_and(|inside| !inside.is_empty())
    }
}

impl Builder for Graph {
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
    fn int(&mut self, value: i64) -> Result<Id, Error> {
        Ok(self.add(Node::Int(shortest(&value.to_le_bytes()))))
    }
    fn long(&mut self, bytes: &[u8]) -> Result<Id, Error> {
        Ok(self.add(Node::Int(shortest(bytes))))
    }
    fn long_text(&mut self, text: &[u8]) -> Result<Id, Error> {
        let text = std::str::from_utf8(text).map_err(|_| Error::NotUnicode)?;
        match text.trim().parse::<i128>() {
            Ok(value) => self.long(&value.to_le_bytes()),
            Err(_) => self.other("a long line", Vec::new()),
        }
    }
    fn float(&mut self, value: f64) -> Result<Id, Error> {
        Ok(self.add(Node::Float(value.to_bits())))
    }
    fn float_text(&mut self, text: &[u8]) -> Result<Id, Error> {
        let text = std::str::from_utf8(text).map_err(|_| Error::NotUnicode)?;
        self.float(text.trim().parse().map_err(|_| Error::NotANumber("FLOAT"))?)
    }
    fn text(&mut self, utf8: &[u8]) -> Result<Id, Error> {
        Ok(self.add(Node::Text(utf8.to_vec())))
    }
    fn text_escaped(&mut self, _escaped: &[u8]) -> Result<Id, Error> {
        self.other("an escaped text", Vec::new())
    }
    fn bytes(&mut self, bytes: &[u8]) -> Result<Id, Error> {
        Ok(self.add(Node::Bytes(bytes.to_vec())))
    }
    fn bytearray(&mut self, bytes: &[u8]) -> Result<Id, Error> {
        Ok(self.add(Node::ByteArray(bytes.to_vec())))
    }
    fn old_string(&mut self, bytes: &[u8]) -> Result<Id, Error> {
        self.bytes(bytes)
    }
    fn list(&mut self, items: Drain<'_, Id>) -> Result<Id, Error> {
        Ok(self.add(Node::List(items.collect())))
    }
    fn tuple(&mut self, items: Drain<'_, Id>) -> Result<Id, Error> {
        Ok(self.add(Node::Tuple(items.collect())))
    }
    fn frozenset(&mut self, items: Drain<'_, Id>) -> Result<Id, Error> {
        Ok(self.add(Node::FrozenSet(items.collect())))
    }
    fn set(&mut self) -> Result<Id, Error> {
        Ok(self.add(Node::Set(Vec::new())))
    }
    fn dict(&mut self) -> Result<Id, Error> {
        Ok(self.add(Node::Dict(Vec::new())))
    }
    fn append(&mut self, list: &Id, item: Id) -> Result<(), Error> {
        self.fill(*list, std::iter::once(item), |node| matches!(node, Node::List(_)));
        Ok(())
    }
    fn extend(&mut self, list: &Id, items: Drain<'_, Id>) -> Result<(), Error> {
        self.fill(*list, items, |node| matches!(node, Node::List(_)));
        Ok(())
    }
    fn set_items(&mut self, dict: &Id, items: Drain<'_, Id>) -> Result<(), Error> {
        assert!(items.len() % 2 == 0, "keys and values pair up");
        self.fill(*dict, items, |node| matches!(node, Node::Dict(_)));
        Ok(())
    }
    fn add_items(&mut self, set: &Id, items: Drain<'_, Id>) -> Result<(), Error> {
        self.fill(*set, items, |node| matches!(node, Node::Set(_)));
        Ok(())
    }
    fn global(&mut self, module: &[u8], name: &[u8]) -> Result<Id, Error> {
        assert!(!module.is_empty() && !name.is_empty(), "a name is not empty");
        self.other("a global", Vec::new())
    }
    fn stack_global(&mut self, module: Id, name: Id) -> Result<Id, Error> {
        self.other("a global", vec![module, name])
    }
    fn extension(&mut self, code: u32) -> Result<Id, Error> {
        assert!(code > 0, "codes are positive");
        self.other("an extension", Vec::new())
    }
    fn reduce(&mut self, callable: Id, arguments: Id) -> Result<Id, Error> {
        self.other("a call", vec![callable, arguments])
    }
    fn new_object(&mut self, class: Id, arguments: Id) -> Result<Id, Error> {
        self.other("an object", vec![class, arguments])
    }
    fn new_object_with_keywords(&mut self, class: Id, arguments: Id, keywords: Id) -> Result<Id, Error> {
        self.other("an object", vec![class, arguments, keywords])
    }
    fn instance(&mut self, class: Id, arguments: Id) -> Result<Id, Error> {
        self.other("an instance", vec![class, arguments])
    }
    fn build(&mut self, object: &Id, state: Id) -> Result<(), Error> {
        self.fill(*object, std::iter::once(state), |_| false);
        Ok(())
    }
    fn persistent(&mut self, id: Id) -> Result<Id, Error> {
        self.other("a persistent id", vec![id])
    }
    fn next_buffer(&mut self) -> Result<Id, Error> {
        self.other("a buffer", Vec::new())
    }
    fn readonly(&mut self, buffer: Id) -> Result<Id, Error> {
        self.other("a read-only buffer", vec![buffer])
    }
}
