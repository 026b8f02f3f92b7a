//! Where a part is, as Python would write the way to it: `args[1].config['handlers'][2].stream`.

use pyo3::prelude::*;
use pyo3::types::PyString;

/// One step from an object to a part of it. Keys are spelled when somebody wants to read them.
pub(super) enum Step<'py> {
    /// `[3]`
    Index(usize),
    /// `['key']`
    Key(Bound<'py, PyAny>),
    /// The key itself is the part.
    KeyItself(Bound<'py, PyAny>),
    /// A member of a set, which is the part.
    Member,
    /// `.name`
    Attribute(Bound<'py, PyString>),
    /// What Python has no spelling for: a variable of a closure, a global that a function uses.
    Words(String),
}

impl<'py> Step<'py> {
    pub(super) fn attribute(py: Python<'py>, name: &str) -> Self {
        Self::Attribute(PyString::new(py, name))
    }

    pub(super) fn words(words: impl Into<String>) -> Self {
        Self::Words(words.into())
    }

    /// Appends this step to a path; `part` is where it leads.
    pub(super) fn write(&self, path: &mut String, part: &Bound<'py, PyAny>) {
        match self {
            Self::Index(index) => path.push_str(&format!("[{index}]")),
            Self::Key(key) => path.push_str(&format!("[{}]", short(key))),
            Self::KeyItself(key) => path.push_str(&format!(" (its key {})", short(key))),
            Self::Member => path.push_str(&format!("{{{}}}", short(part))),
            Self::Attribute(name) => path.push_str(&format!(".{}", name.to_string_lossy())),
            Self::Words(words) => path.push_str(words),
        }
    }
}

/// The path to a part of what `root` names. A root may be a display of a tuple, `(function, args, kwargs)`, whose
/// elements have these names, displays among them, or a slice that has a beginning, `iterable[8:]`, whose elements are
/// counted from there.
pub(super) fn below(root: &str, step: &Step<'_>, part: &Bound<'_, PyAny>) -> String {
    if let Step::Index(index) = *step {
        let names = root.strip_prefix('(').and_then(|all| all.strip_suffix(')'));
        if let Some(name) = names.and_then(|names| element(names, index)) {
            return name.to_owned();
        }
        let slice = root.strip_suffix(":]").and_then(|all| all.split_once('['));
        if let Some((whole, Ok(first))) =
            slice.map(|(whole, first)| (whole, first.parse::<usize>()))
        {
            return format!("{whole}[{}]", first + index);
        }
    }
    let mut path = root.to_owned();
    step.write(&mut path, part);
    path
}

/// What is looked at, where it has no other name.
pub(super) const THE_OBJECT: &str = "the object";

/// A path as it is read: without the dot of its first step, and with a subject before words that ask for one
/// (`'s variable lock`, ` (its key 'x')`).
pub(super) fn named(path: String, subject: impl FnOnce() -> String) -> String {
    if path.starts_with(['\'', ' ']) {
        return subject() + &path;
    }
    path.strip_prefix('.').map_or(path.clone(), str::to_owned)
}

/// An element of a display of a tuple, by its place.
fn element(names: &str, index: usize) -> Option<&str> {
    let mut depth = 0_usize;
    let mut elements = names.split(|letter: char| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    });
    elements.nth(index).map(str::trim_start)
}

/// The longest spelling of a key.
const LONGEST: usize = 40;

/// How an object shows itself, cut; its type where it cannot.
pub(super) fn short(object: &Bound<'_, PyAny>) -> String {
    let Ok(text) = object.repr() else {
        return format!("<{}>", type_name(object));
    };
    let text = text.to_string_lossy();
    if text.chars().count() <= LONGEST {
        return text.into_owned();
    }
    let cut: String = text.chars().take(LONGEST - 3).collect();
    format!("{cut}...")
}

/// The name of an object's class.
pub(super) fn type_name(object: &Bound<'_, PyAny>) -> String {
    object
        .get_type()
        .name()
        .map_or_else(|_| "object".to_owned(), |name| name.to_string())
}
