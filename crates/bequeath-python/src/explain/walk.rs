//! Goes over an object graph as the pickler would, and asks of each part how it crosses.
//!
//! Nothing is written, and nothing stops the walk: what is refused is noted, and the rest is looked at. The stack
//! is a list, so that no depth of nesting ends it. Every object that was met is held until the end: what reducers
//! make on the way would otherwise be gone, and its address another's.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::HashSet;
use std::vec::IntoIter;

use pyo3::prelude::*;

use super::definitions;
use super::parts::{self, Expanded, Part};
use super::path::{below, named, Step, THE_OBJECT};

/// By whose rules, and where to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// A transfer of ours carries it; otherwise plain bytes, which have no destination.
    pub(super) transfer: bool,
    /// The receiver is a fresh child that runs the main module again.
    pub(super) start: bool,
    /// multiprocessing's rules.
    pub(super) strict: bool,
    /// Bytes for any receiver, with the reducers that were registered for `ForkingPickler`.
    pub(super) portable: bool,
}

/// How a part crosses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// The receiver imports it.
    Reference,
    /// The receiver's own if it has one, otherwise what was sent.
    Either,
    /// As a copy.
    Value,
    /// As a handle: the receiver holds the same thing.
    Handle,
    /// Not at all.
    Refused,
}

impl Way {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Reference => "by reference",
            Self::Either => "by reference, else by value",
            Self::Value => "by value",
            Self::Handle => "as a handle",
            Self::Refused => "not at all",
        }
    }
}

/// A part that is more than a number or a text.
pub(super) struct Node<'py> {
    /// What it is a part of; itself for the root.
    pub(super) parent: usize,
    pub(super) step: Step<'py>,
    pub(super) object: Bound<'py, PyAny>,
    pub(super) way: Way,
    /// Bytes of the pickle, with all parts that were met here first; an estimate.
    pub(super) size: u64,
    /// The largest part's.
    pub(super) largest_part: u64,
    /// Why it is refused.
    pub(super) error: Option<PyErr>,
    /// Something inside is refused.
    pub(super) bad: bool,
    /// Part of a handle, which stands for it.
    pub(super) hidden: bool,
    /// The walk is inside of it.
    open: bool,
}

/// The same object in a second place.
pub(super) struct Again<'py> {
    pub(super) node: usize,
    pub(super) parent: usize,
    pub(super) step: Step<'py>,
    /// It is inside itself.
    pub(super) cycle: bool,
}

struct Frame<'py> {
    node: usize,
    parts: IntoIter<Part<'py>>,
    /// Raised by the part itself; it is to blame unless something inside of it is.
    pending: Option<PyErr>,
}

/// What a reference to something written before takes.
const AGAIN: u64 = 2;

/// How many repetitions are kept.
const MOST_AGAIN: usize = 1000;

/// What was found.
pub(super) struct Walk<'py> {
    pub(super) rules: Rules,
    pub(super) nodes: Vec<Node<'py>>,
    pub(super) again: Vec<Again<'py>>,
    seen: HashMap<usize, usize>,
    texts: HashSet<usize>,
    open: Vec<Frame<'py>>,
}

impl<'py> Walk<'py> {
    /// Walks all of it.
    pub(super) fn over(root: &Bound<'py, PyAny>, rules: Rules) -> Self {
        let mut walk = Self {
            rules,
            nodes: Vec::new(),
            again: Vec::new(),
            seen: HashMap::new(),
            texts: HashSet::new(),
            open: Vec::new(),
        };
        walk.enter(0, Step::words(""), root.clone());
        while let Some(frame) = walk.open.last_mut() {
            let node = frame.node;
            match frame.parts.next() {
                Some((step, part)) => walk.visit(node, step, part),
                None => walk.leave(),
            }
        }
        walk
    }

    fn visit(&mut self, parent: usize, step: Step<'py>, part: Bound<'py, PyAny>) {
        if let Some(size) = parts::atom(&part) {
            let known = size > AGAIN + 1 && !self.texts.insert(part.as_ptr() as usize);
            self.nodes[parent].size += if known { AGAIN } else { size };
            return;
        }
        let Some(&node) = self.seen.get(&(part.as_ptr() as usize)) else {
            self.enter(parent, step, part);
            return;
        };
        self.nodes[parent].size += AGAIN;
        if self.nodes[node].bad {
            self.nodes[parent].bad = true;
        }
        if self.again.len() < MOST_AGAIN {
            self.again.push(Again {
                node,
                parent,
                step,
                cycle: self.nodes[node].open,
            });
        }
    }

    fn enter(&mut self, parent: usize, step: Step<'py>, object: Bound<'py, PyAny>) {
        let number = self.nodes.len();
        if let Entry::Vacant(place) = self.seen.entry(object.as_ptr() as usize) {
            place.insert(number);
        }
        let expanded = parts::expand(&object, self.rules);
        let (expanded, error) = match expanded {
            Ok(expanded) => (expanded, None),
            Err(error) => (Expanded::refused(), Some(error)),
        };
        let bad = error.is_some();
        self.nodes.push(Node {
            parent,
            step,
            object,
            way: expanded.way,
            size: expanded.size,
            largest_part: 0,
            error,
            bad,
            hidden: false,
            open: true,
        });
        self.open.push(Frame {
            node: number,
            parts: expanded.parts.into_iter(),
            pending: expanded.pending,
        });
    }

    fn leave(&mut self) {
        let Some(frame) = self.open.pop() else {
            return;
        };
        let number = frame.node;
        let node = &mut self.nodes[number];
        node.open = false;
        if let Some(error) = frame.pending.filter(|_| !node.bad) {
            node.bad = true;
            node.way = Way::Refused;
            node.error = Some(error);
        }
        let (parent, size, bad) = (node.parent, node.size, node.bad);
        let node = &self.nodes[number];
        let absorbed = node.way == Way::Handle
            && parts::stands_for_its_owner(&node.object, &self.nodes[parent].object);
        if parent == number {
            return;
        }
        self.nodes[number].hidden = absorbed;
        let owner = &mut self.nodes[parent];
        owner.size += size;
        owner.largest_part = owner.largest_part.max(size);
        owner.bad |= bad;
        if absorbed && owner.way == Way::Value {
            owner.way = Way::Handle;
        }
    }

    /// The way to a node from what `root` names.
    pub(super) fn path(&self, number: usize, root: &str) -> String {
        let mut way = Vec::new();
        let mut at = number;
        while self.nodes[at].parent != at {
            way.push(at);
            at = self.nodes[at].parent;
        }
        let way = way.into_iter().rev().map(|number| &self.nodes[number]);
        let path = way.fold(root.to_owned(), |path, node| {
            below(&path, &node.step, &node.object)
        });
        self.named(path)
    }

    /// The way to where an object was met again.
    pub(super) fn path_again(&self, again: &Again<'py>, root: &str) -> String {
        let mut path = self.path(again.parent, root);
        again.step.write(&mut path, &self.nodes[again.node].object);
        self.named(path)
    }

    fn named(&self, path: String) -> String {
        named(path, || subject(&self.nodes[0].object))
    }

    /// All that is refused, in the pickler's order.
    pub(super) fn culprits(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|number| self.nodes[*number].error.is_some())
    }

    /// What the standard library's pickler would have met first on its way to a node: the outermost function or
    /// class that it knows no name for.
    pub(super) fn outermost_by_value(&self, number: usize) -> usize {
        let mut found = number;
        let mut at = number;
        loop {
            let node = &self.nodes[at];
            if parts::is_definition(&node.object) && node.way != Way::Reference {
                found = at;
            }
            if node.parent == at {
                return found;
            }
            at = node.parent;
        }
    }
}

/// What a path without a root begins with where Python has no spelling for its first step.
fn subject(root: &Bound<'_, PyAny>) -> String {
    if !parts::is_definition(root) {
        return THE_OBJECT.to_owned();
    }
    let name = definitions::name_of(root);
    name.rsplit('.').next().unwrap_or(&name).to_owned()
}
