//! What was found, as data and as text.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyList, PyModule, PyType};

use super::definitions::module_of;
use super::missing::{self, Missing};
use super::parts::is_definition;
use super::path::type_name;
use super::reason::{definition, is_standard, kind, reason};
use super::remedy::remedy;
use super::walk::{Walk, Way};

/// A part that matters, in words.
pub(super) struct Part {
    pub(super) path: String,
    pub(super) kind: String,
    pub(super) way: Way,
    pub(super) size: u64,
    pub(super) definition: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) remedy: Option<String>,
    /// The part that this is inside of, by its place in the list.
    inside: Option<usize>,
    /// How many parts are around it.
    depth: usize,
    step: String,
}

/// All of it, in words.
pub(super) struct Report {
    to: String,
    root: String,
    size: u64,
    pub(super) parts: Vec<Part>,
    largest: Vec<(String, String, u64)>,
    shared: Vec<(String, String)>,
    cycles: Vec<(String, String)>,
    missing: Vec<Missing>,
}

/// How many paths the sizes are told of.
const LARGEST: usize = 10;
/// What is deeper stands beside what it is inside of.
const DEEPEST: usize = 50;
/// How many repetitions are told.
const REPETITIONS: usize = 50;
/// What a path that leads nowhere is called.
const ITSELF: &str = "the object";

impl Report {
    pub(super) fn of(walk: &Walk<'_>, to: &str, root: &str) -> PyResult<Self> {
        let mut report = Self {
            to: to.to_owned(),
            root: root.to_owned(),
            size: walk.nodes.first().map_or(0, |node| node.size),
            parts: Vec::new(),
            largest: largest(walk, root),
            shared: Vec::new(),
            cycles: Vec::new(),
            missing: if walk.rules.start && walk.rules.transfer {
                missing::look(walk)?
            } else {
                Vec::new()
            },
        };
        report.add_parts(walk, root);
        for again in &walk.again {
            let node = &walk.nodes[again.node];
            if node.way == Way::Reference
                || report.shared.len() + report.cycles.len() >= REPETITIONS
            {
                continue;
            }
            let (second, first) = (walk.path_again(again, root), walk.path(again.node, root));
            let list = if again.cycle {
                &mut report.cycles
            } else {
                &mut report.shared
            };
            list.push((second, first));
        }
        Ok(report)
    }

    /// The parts that matter and the order in which they are inside of each other.
    fn add_parts(&mut self, walk: &Walk<'_>, root: &str) {
        let mut classes = Vec::new();
        let mut place: Vec<Option<usize>> = vec![None; walk.nodes.len()];
        for number in 0..walk.nodes.len() {
            let node = &walk.nodes[number];
            let mut inside = (node.parent != number)
                .then(|| place[node.parent])
                .flatten();
            place[number] = inside;
            if let Some(deep) = inside.filter(|at| self.parts[*at].depth >= DEEPEST) {
                inside = self.parts[deep].inside;
            }
            if node.hidden || (number != 0 && !matters(walk, number, &mut classes)) {
                continue;
            }
            let path = walk.path(number, root);
            let outer = inside.map_or("", |at| self.parts[at].path.as_str());
            let step = path.strip_prefix(outer).unwrap_or(&path).to_owned();
            let depth = inside.map_or(0, |at| self.parts[at].depth + 1);
            self.parts
                .push(part(walk, number, path, (inside, depth), step));
            place[number] = Some(self.parts.len() - 1);
        }
    }

    fn crosses(&self) -> bool {
        self.parts.iter().all(|part| part.way != Way::Refused)
    }

    /// For `to_dict()`.
    pub(super) fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("to", &self.to)?;
        dict.set_item("crosses", self.crosses())?;
        dict.set_item("size", self.size)?;
        let (parts, culprits) = (PyList::empty(py), PyList::empty(py));
        for part in &self.parts {
            let entry = PyDict::new(py);
            entry.set_item("path", &part.path)?;
            entry.set_item("type", &part.kind)?;
            entry.set_item("way", part.way.words())?;
            entry.set_item("size", part.size)?;
            entry.set_item("definition", &part.definition)?;
            entry.set_item("reason", &part.reason)?;
            entry.set_item("remedy", &part.remedy)?;
            entry.set_item("inside", part.inside)?;
            parts.append(&entry)?;
            if part.way == Way::Refused {
                culprits.append(&entry)?;
            }
        }
        dict.set_item("parts", parts)?;
        dict.set_item("culprits", culprits)?;
        let pairs = |list: &[(String, String)], second: &str| -> PyResult<Bound<'py, PyList>> {
            let found = PyList::empty(py);
            for (path, other) in list {
                let entry = PyDict::new(py);
                entry.set_item("path", path)?;
                entry.set_item(second, other)?;
                found.append(entry)?;
            }
            Ok(found)
        };
        dict.set_item("shared", pairs(&self.shared, "same_as")?)?;
        dict.set_item("cycles", pairs(&self.cycles, "back_to")?)?;
        let largest = PyList::empty(py);
        for (path, kind, size) in &self.largest {
            let entry = PyDict::new(py);
            entry.set_item("path", path)?;
            entry.set_item("type", kind)?;
            entry.set_item("size", size)?;
            largest.append(entry)?;
        }
        dict.set_item("largest", largest)?;
        let missing = PyList::empty(py);
        for one in &self.missing {
            let entry = PyDict::new(py);
            entry.set_item("function", &one.function)?;
            entry.set_item("name", &one.name)?;
            entry.set_item("reason", &one.reason)?;
            entry.set_item("remedy", &one.remedy)?;
            missing.append(entry)?;
        }
        dict.set_item("missing", missing)?;
        Ok(dict)
    }

    /// For a terminal without colours.
    pub(super) fn text(&self) -> String {
        let culprits = self
            .parts
            .iter()
            .filter(|part| part.way == Way::Refused)
            .count();
        let name = if self.root.is_empty() {
            ITSELF
        } else {
            &self.root
        };
        let verdict = match culprits {
            0 => "crosses".to_owned(),
            1 => "cannot cross: one part is refused".to_owned(),
            count => format!("cannot cross: {count} parts are refused"),
        };
        let mut text = format!("{name} to {}: {verdict}\n", self.to);
        let mut inside: Vec<Vec<usize>> = vec![Vec::new(); self.parts.len() + 1];
        for (number, part) in self.parts.iter().enumerate() {
            inside[part.inside.map_or(0, |at| at + 1)].push(number);
        }
        self.tree(&inside, None, "", &mut text);
        let mut section = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                text.push_str(&format!("{title}:\n  {}\n", lines.join("\n  ")));
            }
        };
        section(
            "largest",
            self.largest
                .iter()
                .map(|(path, kind, size)| format!("{:>9}  {} ({kind})", bytes(*size), shown(path)))
                .collect(),
        );
        let pairs = |list: &[(String, String)], verb: &str| {
            list.iter()
                .map(|(path, other)| format!("{} {verb} {}", shown(path), shown(other)))
                .collect()
        };
        section("shared", pairs(&self.shared, "is the same object as"));
        section("cycles", pairs(&self.cycles, "leads back to"));
        section(
            "not the same there",
            self.missing
                .iter()
                .map(|one| format!("{}: {}. {}", one.function, one.reason, one.remedy))
                .collect(),
        );
        text
    }

    fn tree(&self, parts: &[Vec<usize>], inside: Option<usize>, indent: &str, text: &mut String) {
        let numbers = &parts[inside.map_or(0, |at| at + 1)];
        for (at, number) in numbers.iter().enumerate() {
            let part = &self.parts[*number];
            let last = at + 1 == numbers.len();
            let (branch, deeper) = match (inside, last) {
                (None, _) => ("", ""),
                (_, true) => ("└─ ", "   "),
                (_, false) => ("├─ ", "│  "),
            };
            let place = part
                .definition
                .as_ref()
                .map_or_else(String::new, |place| format!(" ({place})"));
            text.push_str(&format!(
                "{indent}{branch}{}: {}{place}, {}, {}\n",
                shown(&part.step),
                part.kind,
                part.way.words(),
                bytes(part.size)
            ));
            let indent = format!("{indent}{deeper}");
            for (word, what) in [("why", &part.reason), ("remedy", &part.remedy)] {
                if let Some(what) = what {
                    text.push_str(&format!("{indent}     {word}: {what}\n"));
                }
            }
            self.tree(parts, Some(*number), &indent, text);
        }
    }
}

fn shown(path: &str) -> &str {
    if path.is_empty() {
        ITSELF
    } else {
        path
    }
}

fn part(
    walk: &Walk<'_>,
    number: usize,
    path: String,
    (inside, depth): (Option<usize>, usize),
    step: String,
) -> Part {
    let node = &walk.nodes[number];
    let py = node.object.py();
    let refused = node.error.as_ref();
    Part {
        path,
        kind: kind(&node.object),
        way: node.way,
        size: node.size,
        definition: definition(&node.object).filter(|_| {
            is_definition(&node.object) || !is_everybodys(&node.object.get_type().into_any())
        }),
        reason: refused.map(|error| reason(error, py)),
        remedy: refused.map(|error| remedy_at(walk, number, error)),
        inside,
        depth,
        step,
    }
}

/// The remedy, in words that name the attribute and the class where that is what holds the culprit.
pub(super) fn remedy_at(walk: &Walk<'_>, number: usize, error: &PyErr) -> String {
    let node = &walk.nodes[number];
    let owner = &walk.nodes[node.parent].object;
    let held = match &node.step {
        super::path::Step::Attribute(name)
            if node.parent != number && !is_everybodys(&owner.get_type().into_any()) =>
        {
            Some((type_name(owner), name.to_string_lossy().into_owned()))
        }
        _ => None,
    };
    let held = held
        .as_ref()
        .map(|(class, attribute)| (class.as_str(), attribute.as_str()));
    remedy(&node.object, error, held, walk.rules)
}

/// What is told: what is refused or a handle, functions and classes of the program, and one of each of its kinds.
fn matters(walk: &Walk<'_>, number: usize, classes: &mut Vec<usize>) -> bool {
    let node = &walk.nodes[number];
    match node.way {
        Way::Refused | Way::Handle | Way::Either => return true,
        Way::Reference => {
            // A member of an enumeration, for one, goes by the name that its class has for it.
            let home = if is_definition(&node.object) {
                node.object.clone()
            } else {
                node.object.get_type().into_any()
            };
            return !is_everybodys(&home) && !node.object.is_instance_of::<PyModule>();
        }
        Way::Value => {}
    }
    if is_definition(&node.object) {
        return true;
    }
    let class = node.object.get_type();
    if is_everybodys(class.as_any()) {
        return false;
    }
    let address = class.as_ptr() as usize;
    let new = !classes.contains(&address);
    if new {
        classes.push(address);
    }
    new
}

/// Of the standard library or of ours: that it crosses by name is no news.
fn is_everybodys(definition: &Bound<'_, PyAny>) -> bool {
    let is = definition.is_instance_of::<PyType>()
        || definition.is_exact_instance_of::<PyFunction>()
        || definition.hasattr("__qualname__").unwrap_or(false);
    let module = module_of(definition);
    is && (module.is_empty()
        || module.split('.').next() == Some("bequeath")
        || is_standard(definition.py(), &module))
}

/// The largest parts; what is nearly all of something larger stands for it.
fn largest(walk: &Walk<'_>, root: &str) -> Vec<(String, String, u64)> {
    let mut numbers: Vec<usize> = (0..walk.nodes.len())
        .filter(|number| {
            let node = &walk.nodes[*number];
            !node.hidden && node.size > 0 && node.largest_part < node.size - node.size / 10
        })
        .collect();
    numbers.sort_by_key(|number| std::cmp::Reverse(walk.nodes[*number].size));
    numbers.truncate(LARGEST);
    numbers
        .into_iter()
        .map(|number| {
            let node = &walk.nodes[number];
            (walk.path(number, root), kind(&node.object), node.size)
        })
        .collect()
}

#[allow(clippy::cast_precision_loss)]
fn bytes(size: u64) -> String {
    match size {
        0..=9_999 => format!("{size} B"),
        10_000..=9_999_999 => format!("{:.1} kB", size as f64 / 1e3),
        _ => format!("{:.1} MB", size as f64 / 1e6),
    }
}
