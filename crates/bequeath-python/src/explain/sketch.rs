//! Where in an object the reading of its pickle stopped: the pickle is read once more, and nothing is made of it but
//! a sketch of what would have been inside of what. No code of anybody runs.

use std::vec::Drain;

use bequeath_pickle::{Builder, Decoder, Error, Slice};

use super::path::{named, THE_OBJECT};

/// The part that could not be made.
pub(super) struct Stopped {
    /// The way to it from the root.
    pub(super) path: String,
    /// `module.Class` of what was to be made, or what was looked up.
    pub(super) what: String,
}

/// What would have stood at a place.
struct Thing {
    shape: Shape,
    /// What is inside, each with its step.
    parts: Vec<(Label, usize)>,
}

enum Shape {
    /// As Python would spell it; the text itself where it is one.
    Value(String, Option<String>),
    Tuple,
    List,
    Dict,
    Set,
    Global(String),
    Object(String),
}

/// A step of the way: as an item, and as an attribute if it is the state of an object.
#[derive(Clone)]
struct Label {
    item: String,
    attribute: Option<String>,
}

impl Label {
    fn words(item: impl Into<String>) -> Self {
        Self {
            item: item.into(),
            attribute: None,
        }
    }
}

struct Sketch {
    things: Vec<Thing>,
    steps: u64,
    stopped_at: u64,
    stopped: Option<usize>,
}

/// Larger pickles are not read a second time.
pub(crate) const MOST: usize = 64 << 20;
/// The longest spelling of a key.
const LONGEST: usize = 40;

/// Finds the part at which step number `steps` was being taken; see `Objects::steps`.
pub(super) fn part_at(pickle: &[u8], steps: u64) -> Option<Stopped> {
    if pickle.len() > MOST || steps == 0 {
        return None;
    }
    let mut sketch = Sketch {
        things: Vec::new(),
        steps: 0,
        stopped_at: steps,
        stopped: None,
    };
    let root = Decoder::new()
        .read(&mut Slice::new(pickle), &mut sketch)
        .ok()?;
    let stopped = sketch.stopped?;
    Some(Stopped {
        path: sketch.path(root, stopped)?,
        what: sketch.words(stopped),
    })
}

impl Sketch {
    fn add(&mut self, shape: Shape, parts: Vec<(Label, usize)>) -> usize {
        self.things.push(Thing { shape, parts });
        self.things.len() - 1
    }

    fn value(&mut self, spelled: impl Into<String>) -> usize {
        self.add(Shape::Value(spelled.into(), None), Vec::new())
    }

    /// The next step, which makes or changes a thing.
    fn step(&mut self, thing: usize) -> usize {
        self.steps += 1;
        if self.steps == self.stopped_at {
            self.stopped = Some(thing);
        }
        thing
    }

    fn items(&mut self, shape: Shape, items: Drain<'_, usize>) -> usize {
        let parts = items
            .enumerate()
            .map(|(index, item)| (Label::words(format!("[{index}]")), item))
            .collect();
        self.add(shape, parts)
    }

    fn words(&self, thing: usize) -> String {
        match &self.things[thing].shape {
            Shape::Value(spelled, _) => spelled.clone(),
            Shape::Tuple => "tuple".to_owned(),
            Shape::List => "list".to_owned(),
            Shape::Dict => "dict".to_owned(),
            Shape::Set => "set".to_owned(),
            Shape::Global(name) | Shape::Object(name) => name.clone(),
        }
    }

    /// The text of an attribute among the arguments' dicts.
    fn attribute(&self, arguments: usize, wanted: &str) -> Option<String> {
        let is_wanted = |(label, _): &&(Label, usize)| label.attribute.as_deref() == Some(wanted);
        let mut dicts = self.things[arguments].parts.iter();
        let (_, value) =
            dicts.find_map(|(_, part)| self.things[*part].parts.iter().find(is_wanted))?;
        match &self.things[*value].shape {
            Shape::Value(_, Some(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// What is made: a class that comes by value has a name of its own.
    fn name_of(&self, maker: usize, arguments: usize) -> String {
        let name = self.words(maker);
        if name != "bequeath._engine.rebuild_class" {
            return name;
        }
        let own = |wanted| self.attribute(arguments, wanted);
        match (own("__module__"), own("__qualname__")) {
            (Some(module), Some(class)) => format!("{module}.{class}"),
            _ => name,
        }
    }

    fn object(&mut self, class: usize, arguments: usize, keywords: Option<usize>) -> usize {
        let name = self.name_of(class, arguments);
        let mut parts = vec![(Label::words("'s class"), class)];
        let mut index = 0;
        for given in [Some(arguments), keywords].into_iter().flatten() {
            for at in 0..self.things[given].parts.len() {
                let (label, part) = self.things[given].parts[at].clone();
                let label = match &label.attribute {
                    Some(name) => format!("'s part {name}"),
                    None => format!("'s part {index}"),
                };
                parts.push((Label::words(label), part));
                index += 1;
            }
        }
        let made = self.add(Shape::Object(name), parts);
        self.step(made)
    }

    /// Names of an object's attributes instead of a dict's keys; a process's as its constructor has them.
    fn give_state(&mut self, object: usize, state: usize) {
        let halves = match self.things[state].shape {
            Shape::Tuple if self.things[state].parts.len() == 2 => self.things[state]
                .parts
                .iter()
                .map(|(_, half)| *half)
                .collect(),
            _ => vec![state],
        };
        for half in halves {
            if !matches!(self.things[half].shape, Shape::Dict) {
                let part = (Label::words("'s state"), half);
                self.things[object].parts.push(part);
                continue;
            }
            let parts = self.things[half].parts.clone();
            let has = |wanted: &str| {
                parts
                    .iter()
                    .any(|(label, _)| label.attribute.as_deref() == Some(wanted))
            };
            let is_process = has("_identity") && has("_config") && has("_args");
            for (label, part) in parts {
                let item = match label.attribute.as_deref() {
                    Some("_target") if is_process => ".target".to_owned(),
                    Some("_args") if is_process => ".args".to_owned(),
                    Some("_kwargs") if is_process => ".kwargs".to_owned(),
                    Some(name) => format!(".{name}"),
                    None => label.item,
                };
                self.things[object].parts.push((Label::words(item), part));
            }
        }
    }

    /// The shortest way from one thing to another.
    fn path(&self, root: usize, wanted: usize) -> Option<String> {
        let mut from: Vec<Option<(usize, &Label)>> = vec![None; self.things.len()];
        let mut seen = vec![false; self.things.len()];
        let mut open = std::collections::VecDeque::from([root]);
        *seen.get_mut(root)? = true;
        while let Some(at) = open.pop_front() {
            if at == wanted {
                break;
            }
            for (label, part) in &self.things[at].parts {
                if !seen[*part] {
                    seen[*part] = true;
                    from[*part] = Some((at, label));
                    open.push_back(*part);
                }
            }
        }
        if !seen[wanted] {
            return None;
        }
        let mut way = Vec::new();
        let mut at = wanted;
        while let Some((before, label)) = from[at] {
            way.push(label.item.as_str());
            at = before;
        }
        let path: String = way.into_iter().rev().collect();
        Some(named(path, || THE_OBJECT.to_owned()))
    }

    fn text_of(&mut self, text: String) -> usize {
        let spelled = short(&format!("'{}'", text.escape_default()));
        self.add(Shape::Value(spelled, Some(text)), Vec::new())
    }

    fn append_at(&mut self, list: usize, item: usize) {
        let index = self.things[list]
            .parts
            .iter()
            .filter(|(label, _)| label.item.starts_with('['))
            .count();
        let label = Label::words(format!("[{index}]"));
        self.things[list].parts.push((label, item));
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let cut: String = text.chars().take(LONGEST - 3).collect();
    format!("{cut}...")
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

type Made = Result<usize, Error>;

impl Builder for Sketch {
    type Value = usize;
    type Error = Error;

    const ADDS_NOTHING: bool = crate::pickle::ASKS_FOR_NOTHING;

    fn same(&mut self, value: &usize) -> usize {
        *value
    }
    fn none(&mut self) -> usize {
        self.value("None")
    }
    fn boolean(&mut self, value: bool) -> usize {
        self.value(if value { "True" } else { "False" })
    }
    fn int(&mut self, value: i64) -> Made {
        Ok(self.value(value.to_string()))
    }
    fn long(&mut self, _bytes: &[u8]) -> Made {
        Ok(self.value("<int>"))
    }
    fn long_text(&mut self, text: &[u8]) -> Made {
        Ok(self.value(short(&lossy(text))))
    }
    fn float(&mut self, value: f64) -> Made {
        Ok(self.value(format!("{value:?}")))
    }
    fn float_text(&mut self, text: &[u8]) -> Made {
        Ok(self.value(lossy(text)))
    }
    fn text(&mut self, utf8: &[u8]) -> Made {
        Ok(self.text_of(lossy(utf8)))
    }
    fn text_escaped(&mut self, escaped: &[u8]) -> Made {
        Ok(self.text_of(lossy(escaped)))
    }
    fn bytes(&mut self, bytes: &[u8]) -> Made {
        let spelled = short(&format!("b'{}'", bytes.escape_ascii()));
        Ok(self.value(spelled))
    }
    fn bytearray(&mut self, _bytes: &[u8]) -> Made {
        Ok(self.value("bytearray"))
    }
    fn old_string(&mut self, bytes: &[u8]) -> Made {
        Ok(self.text_of(lossy(bytes)))
    }
    fn list(&mut self, items: Drain<'_, usize>) -> Made {
        Ok(self.items(Shape::List, items))
    }
    fn tuple(&mut self, items: Drain<'_, usize>) -> Made {
        Ok(self.items(Shape::Tuple, items))
    }
    fn frozenset(&mut self, items: Drain<'_, usize>) -> Made {
        let made = self.add(Shape::Set, Vec::new());
        for item in items {
            let label = Label::words(format!("{{{}}}", self.words(item)));
            self.things[made].parts.push((label, item));
        }
        Ok(self.step(made))
    }
    fn set(&mut self) -> Made {
        Ok(self.add(Shape::Set, Vec::new()))
    }
    fn dict(&mut self) -> Made {
        Ok(self.add(Shape::Dict, Vec::new()))
    }
    fn append(&mut self, list: &usize, item: usize) -> Result<(), Error> {
        self.append_at(*list, item);
        self.step(*list);
        Ok(())
    }
    fn extend(&mut self, list: &usize, items: Drain<'_, usize>) -> Result<(), Error> {
        for item in items {
            self.append_at(*list, item);
        }
        self.step(*list);
        Ok(())
    }
    fn set_items(&mut self, dict: &usize, mut items: Drain<'_, usize>) -> Result<(), Error> {
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            let spelled = self.words(key);
            let attribute = match &self.things[key].shape {
                Shape::Value(_, text) => text.clone(),
                _ => None,
            };
            let label = Label {
                item: format!("[{spelled}]"),
                attribute,
            };
            let key_itself = Label::words(format!(" (its key {spelled})"));
            let thing = &mut self.things[*dict];
            if !matches!(thing.shape, Shape::Dict) || label.attribute.is_none() {
                thing.parts.push((key_itself, key));
            }
            self.things[*dict].parts.push((label, value));
        }
        self.step(*dict);
        Ok(())
    }
    fn add_items(&mut self, set: &usize, items: Drain<'_, usize>) -> Result<(), Error> {
        for item in items {
            let label = Label::words(format!("{{{}}}", self.words(item)));
            self.things[*set].parts.push((label, item));
        }
        self.step(*set);
        Ok(())
    }
    fn global(&mut self, module: &[u8], name: &[u8]) -> Made {
        let name = format!("{}.{}", lossy(module), lossy(name));
        let made = self.add(Shape::Global(name), Vec::new());
        Ok(self.step(made))
    }
    fn stack_global(&mut self, module: usize, name: usize) -> Made {
        let text = |thing: usize| match &self.things[thing].shape {
            Shape::Value(_, Some(text)) => text.clone(),
            _ => String::new(),
        };
        let name = format!("{}.{}", text(module), text(name));
        let made = self.add(Shape::Global(name), Vec::new());
        Ok(self.step(made))
    }
    fn extension(&mut self, code: u32) -> Made {
        let made = self.add(Shape::Global(format!("extension {code}")), Vec::new());
        Ok(self.step(made))
    }
    fn reduce(&mut self, callable: usize, arguments: usize) -> Made {
        Ok(self.object(callable, arguments, None))
    }
    fn new_object(&mut self, class: usize, arguments: usize) -> Made {
        Ok(self.object(class, arguments, None))
    }
    fn new_object_with_keywords(
        &mut self,
        class: usize,
        arguments: usize,
        keywords: usize,
    ) -> Made {
        Ok(self.object(class, arguments, Some(keywords)))
    }
    fn instance(&mut self, class: usize, arguments: usize) -> Made {
        Ok(self.object(class, arguments, None))
    }
    fn build(&mut self, object: &usize, state: usize) -> Result<(), Error> {
        self.give_state(*object, state);
        self.step(*object);
        Ok(())
    }
    fn persistent(&mut self, id: usize) -> Made {
        let made = self.add(
            Shape::Object("a persistent id".to_owned()),
            vec![(Label::words("'s id"), id)],
        );
        Ok(self.step(made))
    }
    fn next_buffer(&mut self) -> Made {
        let made = self.value("a buffer");
        Ok(self.step(made))
    }
    fn readonly(&mut self, buffer: usize) -> Made {
        Ok(self.step(buffer))
    }
}
