//! A graph becomes a pickle again, in any protocol that can say it.

use bequeath_pickle::{opcode as op, Encoder};

use crate::graph::{Graph, Id, Node};

/// Deeper graphs are left alone: this walk is recursive, unlike the decoder.
const DEEPEST: usize = 500;

/// Writes values once each, and refers back to them.
pub struct Writer<'a> {
    graph: &'a Graph,
    encoder: Encoder,
    numbers: Vec<Option<u32>>,
    next: u32,
    open: Vec<bool>,
    depth: usize,
}

/// The pickle of a node; nothing where the protocol has no words for it.
pub fn write(graph: &Graph, root: Id, protocol: u8, framing: bool) -> Option<Vec<u8>> {
    let mut writer = Writer {
        graph,
        encoder: Encoder::new(protocol, framing, Vec::new()),
        numbers: vec![None; graph.0.len()],
        next: 0,
        open: vec![false; graph.0.len()],
        depth: 0,
    };
    writer.encoder.begin();
    writer.value(root)?;
    writer.encoder.end();
    Some(writer.encoder.into_bytes())
}

impl Writer<'_> {
    fn value(&mut self, id: Id) -> Option<()> {
        self.encoder.boundary();
        if let Some(number) = self.numbers[id] {
            self.encoder.get(number);
            return Some(());
        }
        // A tuple inside itself takes a detour that is the caller's business in real picklers.
        if std::mem::replace(&mut self.open[id], true) || self.depth > DEEPEST {
            return None;
        }
        self.depth += 1;
        self.write(id)?;
        self.depth -= 1;
        self.open[id] = false;
        Some(())
    }

    fn write(&mut self, id: Id) -> Option<()> {
        let protocol = self.encoder.protocol();
        match &self.graph.0[id] {
            Node::None => self.encoder.none(),
            Node::Bool(value) => self.encoder.boolean(*value),
            Node::Int(bytes) => self.int(bytes)?,
            Node::Float(bits) if protocol >= 1 => self.encoder.float(f64::from_bits(*bits)),
            Node::Text(utf8) if protocol >= 1 => {
                self.encoder.text(utf8);
                self.put(id);
            }
            Node::Bytes(bytes) if protocol >= 3 => {
                self.encoder.binary(bytes);
                self.put(id);
            }
            Node::ByteArray(bytes) if protocol >= 5 => {
                self.encoder.bytearray(bytes);
                self.put(id);
            }
            Node::List(inside) if protocol >= 1 => self.container(id, op::EMPTY_LIST, op::APPENDS, inside)?,
            Node::Dict(inside) if protocol >= 1 => self.container(id, op::EMPTY_DICT, op::SETITEMS, inside)?,
            Node::Set(inside) if protocol >= 4 => self.container(id, op::EMPTY_SET, op::ADDITEMS, inside)?,
            Node::FrozenSet(inside) if protocol >= 4 => self.whole(id, op::FROZENSET, inside)?,
            Node::Tuple(inside) => self.whole(id, op::TUPLE, inside)?,
            _ => return None,
        }
        Some(())
    }

    fn int(&mut self, bytes: &[u8]) -> Option<()> {
        if bytes.len() <= 8 {
            let filler = if bytes[bytes.len() - 1] & 0x80 == 0 { 0 } else { 0xff };
            let mut all = [filler; 8];
            all[..bytes.len()].copy_from_slice(bytes);
            self.encoder.int(i64::from_le_bytes(all));
        } else if self.encoder.protocol() >= 2 {
            self.encoder.long(bytes);
        } else {
            return None;
        }
        Some(())
    }

    fn container(&mut self, id: Id, empty: u8, fill: u8, inside: &[Id]) -> Option<()> {
        self.encoder.opcode(empty);
        self.put(id);
        if !inside.is_empty() {
            self.encoder.opcode(op::MARK);
            inside.iter().try_for_each(|item| self.value(*item))?;
            self.encoder.opcode(fill);
        }
        Some(())
    }

    fn whole(&mut self, id: Id, make: u8, inside: &[Id]) -> Option<()> {
        self.encoder.opcode(op::MARK);
        inside.iter().try_for_each(|item| self.value(*item))?;
        self.encoder.opcode(make);
        self.put(id);
        Some(())
    }

    fn put(&mut self, id: Id) {
        self.encoder.put(self.next);
        self.numbers[id] = Some(self.next);
        self.next += 1;
    }
}
