//! Definitions that travel once, apart from the messages that use them.
//!
//! A pool sends one function a hundred thousand times. With [`super::dumps_once`] a function or class that goes by value
//! becomes an object of the session, made once as long as the definition does not change, and each message names it. A
//! receiver reads it at the first message, and has what it made of it for the others. Nobody keeps books of receivers:
//! whoever gets a message, be it a worker that was replaced a moment ago, can read the object, whatever became of earlier
//! messages. What must be kept is the object, until the message has arrived: either the message carries counted references
//! to it (`Pickled::outgoing`), or who sends holds it, which costs the message nothing (`Pickled::take_definitions`).
//!
//! A definition holds what it refers to: an object that a function's closure shares with the message's other parts is another
//! one in the receiver. Functions of one message whose globals are made anew there are one definition, and go on sharing them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bequeath_pickle::Slice;
use bequeath_shm::{AnyHandle, Handle, Memory, Reference};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use crate::intern;
use crate::once::Once;
use crate::pickle;
use crate::pickle::value::{self, Snapshot};

use super::open::{Opened, Transfer};
use super::policy::WITHIN;
use super::{current_session, shm_error, Purpose};

const WORD: usize = size_of::<u64>();

/// Definitions whose forms a sender remembers, and that a receiver does.
const REMEMBERED: usize = 256;

/// One definition (or several that share their globals) in shared memory.
struct Form {
    /// The number of shared objects that it refers to, their names, and its pickle.
    memory: Handle<Memory>,
    references: Vec<AnyHandle>,
}

impl Form {
    /// By which messages name it.
    fn name(&self) -> u64 {
        self.memory.reference().to_bits()
    }
}

/// A definition that messages name: it can be read as long as somebody holds this.
#[derive(Clone)]
pub struct Definition(Arc<Form>);

impl Definition {
    /// What a message has to carry that shall keep it by itself.
    pub(super) fn references(&self) -> impl Iterator<Item = AnyHandle> + '_ {
        let form = &self.0;
        std::iter::once(form.memory.erase()).chain(form.references.iter().cloned())
    }
}

/// Definitions of the message that is being written which are one form.
struct Part {
    /// Whose globals they share, where these are made anew in the receiver.
    globals: Option<usize>,
    members: Vec<Py<PyAny>>,
    form: Arc<Form>,
}

#[derive(Default)]
struct Parts {
    parts: Vec<Part>,
    /// Forms that were named in this walk and have got more members since.
    outdated: Vec<Arc<Form>>,
}

thread_local! {
    /// For each message that is being written on this thread.
    static MESSAGES: RefCell<Vec<Parts>> = const { RefCell::new(Vec::new()) };
}

/// Held while a message is written whose definitions travel apart.
pub(super) struct Apart(());

impl Apart {
    pub(super) fn begin() -> Self {
        MESSAGES.with_borrow_mut(|messages| messages.push(Parts::default()));
        Self(())
    }

    /// Whether the message names a form that has been replaced since, by one of more definitions that share their globals:
    /// then it is written once more, with what is known now.
    pub(super) fn is_outdated(&self) -> bool {
        let old = MESSAGES.with_borrow_mut(|messages| {
            let message = messages.last_mut()?;
            Some(std::mem::take(&mut message.outdated))
        });
        old.is_some_and(|old| !old.is_empty())
    }

    /// The definitions that the message names.
    pub(super) fn end(self) -> Vec<Definition> {
        let message = MESSAGES.with_borrow_mut(|messages| messages.last_mut().map(std::mem::take));
        let message = message.unwrap_or_default();
        let forms = message.parts.into_iter().map(|part| part.form);
        forms.chain(message.outdated).map(Definition).collect()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // Dropped when the table is free again: that may run code.
        let ended = MESSAGES.with_borrow_mut(Vec::pop);
        drop(ended);
    }
}

/// Where an object stands among a message's definitions.
enum Place {
    /// In a form that is made already: its name, and the object's index.
    Known(u64, usize),
    /// It becomes a member of this part, beside these.
    New(usize, Vec<Py<PyAny>>),
}

fn place_of(object: &Bound<'_, PyAny>, globals: Option<usize>) -> Option<Place> {
    let py = object.py();
    MESSAGES.with_borrow(|messages| {
        let parts = &messages.last()?.parts;
        let is_theirs = |part: &Part| match globals {
            Some(_) => part.globals == globals,
            None => part.members.iter().any(|member| member.is(object)),
        };
        let Some(at) = parts.iter().position(is_theirs) else {
            return Some(Place::New(parts.len(), Vec::new()));
        };
        let part = &parts[at];
        Some(
            match part.members.iter().position(|member| member.is(object)) {
                Some(index) => Place::Known(part.form.name(), index),
                None => {
                    let members = part.members.iter().map(|member| member.clone_ref(py));
                    Place::New(at, members.collect())
                }
            },
        )
    })
}

/// What stands in the message for a definition; nothing for one that has to be in it.
pub(super) fn place<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = object.py();
    let globals = value::globals_made_anew(object)?;
    let (at, mut members) = match place_of(object, globals) {
        None => return Ok(None),
        Some(Place::Known(name, index)) => {
            return value::named_definition(py, name, index).map(Some)
        }
        Some(Place::New(at, members)) => (at, members),
    };
    members.push(object.clone().unbind());
    let index = members.len() - 1;
    let Some(form) = form(py, &members)? else {
        return Ok(None);
    };
    let name = form.name();
    let part = Part {
        globals,
        members,
        form,
    };
    let old = MESSAGES.with_borrow_mut(|messages| {
        let message = messages.last_mut()?;
        let Some(place) = message.parts.get_mut(at) else {
            message.parts.push(part);
            return None;
        };
        let old = std::mem::replace(place, part);
        message.outdated.push(Arc::clone(&old.form));
        Some(old)
    });
    drop(old);
    value::named_definition(py, name, index).map(Some)
}

// --- the sender's books ---

struct Made {
    members: Vec<Py<PyWeakrefReference>>,
    /// What the definitions were then; nothing where that may change unseen.
    snapshot: Option<Arc<Snapshot>>,
    form: Arc<Form>,
}

/// By the addresses of the definitions.
static MADE: Mutex<Option<HashMap<Vec<usize>, Made>>> = Mutex::new(None);

/// The form of these definitions: the one that there is, if it is still right. Nothing if no memory can hold it.
fn form(py: Python<'_>, members: &[Py<PyAny>]) -> PyResult<Option<Arc<Form>>> {
    let session = current_session(py)?;
    let key: Vec<usize> = members
        .iter()
        .map(|member| member.as_ptr() as usize)
        .collect();
    let known = {
        let made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.as_ref()
            .and_then(|made| made.get(&key))
            .filter(|made| {
                made.members
                    .iter()
                    .all(|weak| weak.bind(py).upgrade().is_some())
            })
            .filter(|made| made.form.memory.session().id() == session.id())
            .map(|made| (made.snapshot.clone(), Arc::clone(&made.form)))
    };
    let objects: Vec<_> = members
        .iter()
        .map(|member| member.bind(py).clone())
        .collect();
    if let Some((Some(snapshot), form)) = &known {
        if snapshot.is_of(&objects)? {
            return Ok(Some(Arc::clone(form)));
        }
    }
    // Before the pickle: what changes in between is found out the next time.
    let snapshot = Snapshot::of(&objects)?.map(Arc::new);
    let Some((bytes, references)) = pickled(py, &objects)? else {
        return Ok(None);
    };
    let form = match known {
        Some((_, form)) if form.memory.read() == bytes => form,
        _ => {
            let memory = Memory::create(&session, bytes.len()).map_err(shm_error)?;
            memory.write(&bytes);
            Arc::new(Form { memory, references })
        }
    };
    let weak = objects
        .iter()
        .map(|object| Ok(PyWeakrefReference::new(object)?.unbind()));
    let now = Made {
        members: weak.collect::<PyResult<_>>()?,
        snapshot,
        form: Arc::clone(&form),
    };
    remember(py, key, now);
    Ok(Some(form))
}

/// The pickle of these definitions behind its header, and the shared objects that they refer to. Nothing if they have
/// descriptors: each message would need its own.
fn pickled(
    py: Python<'_>,
    members: &[Bound<'_, PyAny>],
) -> PyResult<Option<(Vec<u8>, Vec<AnyHandle>)>> {
    let opened = Opened::open(Transfer::export(Purpose::Message));
    let pickle = pickle::write_full(PyTuple::new(py, members)?.as_any(), &WITHIN)?;
    let Some(Transfer::Export {
        references,
        descriptors,
        ..
    }) = opened.close()
    else {
        return Err(PyRuntimeError::new_err(
            "a transfer was closed while an object was being pickled",
        ));
    };
    let names = references.iter().map(|handle| handle.reference().to_bits());
    let mut bytes = Vec::with_capacity((1 + references.len()) * WORD + pickle.len());
    for word in std::iter::once(references.len() as u64).chain(names) {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(&pickle);
    Ok(descriptors.is_empty().then_some((bytes, references)))
}

fn remember(py: Python<'_>, key: Vec<usize>, now: Made) {
    let mut gone = Vec::new();
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let made = made.get_or_insert_default();
    let is_dead = |made: &Made| {
        made.members
            .iter()
            .any(|weak| weak.bind(py).upgrade().is_none())
    };
    let dead: Vec<_> = made
        .iter()
        .filter(|(_, made)| is_dead(made))
        .map(|(key, _)| key.clone())
        .collect();
    gone.extend(dead.into_iter().filter_map(|key| made.remove(&key)));
    if made.len() >= REMEMBERED {
        gone.extend(made.drain().map(|(_, made)| made));
    }
    gone.extend(made.insert(key, now));
}

// --- the receiver's ---

/// The definition of this name.
///
/// # Errors
/// ValueError for one that nobody holds any more, and what making it raises: the next message that has it tries again.
#[pyfunction]
pub fn rebuild_definition(py: Python<'_>, name: u64, index: usize) -> PyResult<Bound<'_, PyAny>> {
    let session = current_session(py)?;
    let known = known(py)?;
    let key = session.id() ^ u128::from(name);
    if let Some(definitions) = known.get_item(key)? {
        return definitions.get_item(index);
    }
    let gone = |_| {
        PyValueError::new_err("the definition that the message names is gone: its sender has ended")
    };
    let open = |name| {
        session
            .open_any(Reference::from_bits(name).ok_or(())?)
            .map_err(|_| ())
    };
    let memory: Handle<Memory> = open(name)
        .and_then(|handle| handle.downcast().map_err(|_| ()))
        .map_err(gone)?;
    let bytes = memory.read();
    let (names, pickle) = taken_apart(&bytes).ok_or(()).map_err(gone)?;
    let references = names.map(open).collect::<Result<_, _>>().map_err(gone)?;
    let definitions = {
        let _opened = Opened::open(Transfer::Import {
            references,
            descriptors: Vec::new(),
        });
        pickle::read_transfer(py, &mut Slice::new(pickle), None).map_err(|(error, _)| error)?
    };
    while known.len() >= REMEMBERED {
        let Some((oldest, _)) = known.iter().next() else {
            break;
        };
        known.del_item(oldest)?;
    }
    // Another thread may have been at it: there is one definition here.
    let definitions = match known.get_item(key)? {
        Some(earlier) => earlier,
        None => {
            known.set_item(key, &definitions)?;
            definitions
        }
    };
    definitions.get_item(index)
}

/// What was rebuilt here, by the names of its objects. In the module: what is in a module is gone when the interpreter ends.
fn known(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    static ENGINE: Once<Py<PyAny>> = Once::new();
    let engine = ENGINE.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("bequeath._engine")?.into_any().unbind())
    })?;
    let engine = engine.bind(py);
    let name = intern!(py, "_definitions");
    if let Some(known) = engine.getattr_opt(name)? {
        return Ok(known.cast_into()?);
    }
    let known = PyDict::new(py);
    engine.setattr(name, &known)?;
    Ok(known)
}

/// The names of the shared objects that a form refers to, and its pickle.
fn taken_apart(bytes: &[u8]) -> Option<(impl Iterator<Item = u64> + '_, &[u8])> {
    let word = |word: &[u8]| word.try_into().ok().map(u64::from_ne_bytes);
    let (count, rest) = bytes.split_at_checked(WORD)?;
    let count = usize::try_from(word(count)?).ok()?;
    let (names, pickle) = rest.split_at_checked(count.checked_mul(WORD)?)?;
    Some((names.chunks_exact(WORD).filter_map(word), pickle))
}
