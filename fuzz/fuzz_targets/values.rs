//! Values of all shapes are written, by serde and by the encoder, and come back as they were.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use bequeath_fuzz::graph::{shortest, Graph, Id, Node};
use bequeath_fuzz::write::write;
use bequeath_pickle::{from_slice, to_vec};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

#[derive(Arbitrary, Debug, PartialEq, Serialize, Deserialize)]
enum Value {
    Nothing,
    Unit(()),
    Signed(i64),
    Wide(i128),
    Unsigned(u128),
    Float(u64),
    Text(String),
    Letter(char),
    Maybe(Option<u16>),
    List(Vec<Value>),
    Pair(Box<(Value, Value)>),
    Names(BTreeMap<String, Value>),
    Numbers(BTreeMap<u32, Value>),
    Fields { one: bool, two: Vec<i8> },
}

impl Value {
    fn depth(&self) -> usize {
        1 + match self {
            Self::List(inside) => inside.iter().map(Self::depth).max().unwrap_or(0),
            Self::Pair(pair) => pair.0.depth().max(pair.1.depth()),
            Self::Names(inside) => inside.values().map(Self::depth).max().unwrap_or(0),
            Self::Numbers(inside) => inside.values().map(Self::depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// The same as a graph, which the other writer takes.
    fn into_graph(self, graph: &mut Graph) -> Id {
        let int = |value: i128| Node::Int(shortest(&value.to_le_bytes()));
        let node = match self {
            Self::Nothing | Self::Unit(()) | Self::Maybe(None) => Node::None,
            Self::Signed(value) => int(value.into()),
            Self::Wide(value) => int(value),
            Self::Unsigned(value) => {
                let mut bytes = value.to_le_bytes().to_vec();
                bytes.push(0);
                Node::Int(shortest(&bytes))
            }
            Self::Float(bits) => Node::Float(bits),
            Self::Text(text) => Node::Text(text.into_bytes()),
            Self::Letter(letter) => Node::Bytes(letter.to_string().into_bytes()),
            Self::Maybe(Some(value)) => int(value.into()),
            Self::List(inside) => Node::List(inside.into_iter().map(|one| one.into_graph(graph)).collect()),
            Self::Pair(pair) => Node::Tuple(vec![pair.0.into_graph(graph), pair.1.into_graph(graph)]),
            Self::Names(inside) => {
                let mut all = Vec::new();
                for (key, value) in inside {
                    all.push(graph.add(Node::Text(key.into_bytes())));
                    all.push(value.into_graph(graph));
                }
                Node::Dict(all)
            }
            Self::Numbers(inside) => Node::FrozenSet(inside.into_values().map(|one| one.into_graph(graph)).collect()),
            Self::Fields { one, two } => {
                let mut all = vec![graph.add(Node::Bool(one))];
                all.extend(two.into_iter().map(|value| graph.add(int(value.into()))));
                Node::Set(all)
            }
        };
        graph.add(node)
    }
}

fuzz_target!(|value: Value| {
    // A reader of plain data follows two levels of a pickle per level here, and not for ever.
    if value.depth() < 60 {
        let pickle = to_vec(&value).expect("plain data");
        let again: Value = from_slice(&pickle).expect("what was written");
        assert_eq!(again, value);
        Graph::read(&pickle).expect("a pickle for any builder");
    }
    let mut graph = Graph::default();
    let root = value.into_graph(&mut graph);
    for protocol in 0..=bequeath_pickle::HIGHEST_PROTOCOL {
        for framing in [false, true] {
            if let Some(written) = write(&graph, root, protocol, framing) {
                let (again, other) = Graph::read(&written).expect("what was written is a pickle");
                assert!(graph.is_same(root, &again, other), "{:?} became {:?}", graph.0, again.0);
            }
        }
    }
});
