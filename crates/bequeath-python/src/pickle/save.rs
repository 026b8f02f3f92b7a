//! An object graph becomes opcodes.
//!
//! The walk has two modes. In *pure* mode only exact builtin types and plain instances are met, so no code of
//! anybody runs: an object with a single reference cannot be met again, and is not remembered. (Inside a tuple that
//! has more references containers are remembered all the same: a tuple that holds itself is found through them.)
//! The first object that would run code ends the pure walk with [`Why::Impure`]; the caller starts again in *full* mode, in which
//! everything is remembered as CPython's pickler does, since code that runs may hand out any object once more.

use std::rc::Rc;

use bequeath_pickle::{opcode as op, Encoder};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;

use super::buffers::Large;
use super::classes::Kind;
use super::depth::{Deeper, StackMark};
use super::identities::{Entry, Identities, NoMemory};
use super::look::{self, Exact, Object};
use super::policy::Policy;
use super::tables::pickling_error;
use super::value::{To, Walk};
use super::version::{self, NoCollector};

pub(super) use super::stop::{Saved, Stop, Why};

/// What a pickler was told to ask.
pub(super) struct Hooks<'py> {
    pub(super) persistent_id: Option<Bound<'py, PyAny>>,
    pub(super) reducer_override: Option<Bound<'py, PyAny>>,
    pub(super) dispatch_table: Option<Bound<'py, PyAny>>,
    pub(super) buffer_callback: Option<Bound<'py, PyAny>>,
    pub(super) policy: Option<&'py dyn Policy>,
    /// Where frames go as they are completed.
    pub(super) write: Option<Bound<'py, PyAny>>,
    pub(super) fix_imports: bool,
    /// Nothing is remembered.
    pub(super) fast: bool,
    /// Functions and classes that the reader cannot import cross as what they are.
    pub(super) by_value: Option<To>,
}

impl Hooks<'_> {
    /// Whether nobody is asked anything.
    pub(super) fn are_none(&self) -> bool {
        self.persistent_id.is_none()
            && self.reducer_override.is_none()
            && self.dispatch_table.is_none()
            && self.write.is_none()
            && !self.fast
            && self.by_value.is_none()
    }
}

/// One walk.
pub(super) struct Saver<'s, 'py> {
    pub(super) py: Python<'py>,
    pub(super) encoder: &'s mut Encoder,
    pub(super) memo: &'s mut Identities,
    pub(super) hooks: &'s Hooks<'py>,
    pub(super) pure: bool,
    /// Nothing but a few values of builtin types is written; whatever else is met ends the walk, as impure.
    pub(super) small: bool,
    /// The address of what is pickled, by which nothing is looked up.
    pub(super) root: usize,
    /// Tuples with more than one reference around the current object.
    pub(super) open_tuples: usize,
    /// How many containers the walk is inside of.
    pub(super) depth: usize,
    /// How many it has been in.
    pub(super) entered: usize,
    /// While it is there nothing that is looked at can go.
    pub(super) collector: Option<NoCollector>,
    /// How deep a fast walk is, and what it is inside of once it is suspiciously deep.
    pub(super) fast_depth: usize,
    pub(super) fast_inside: Vec<usize>,
    /// Where the thread's stack was when the walk began.
    pub(super) stack: StackMark,
    /// What classes are: in pure mode nothing changes them.
    pub(super) kinds: &'s mut Kinds,
    /// Where large buffers are noted instead of being copied, while no code runs that could change them.
    pub(super) beside: Option<&'s mut Vec<Large>>,
}

/// The last classes that were met in a pure walk, by their addresses.
#[derive(Default)]
pub(super) struct Kinds {
    places: [(usize, Option<Rc<Kind>>); 8],
    filled: bool,
}

impl Kinds {
    #[inline]
    pub(super) fn get(&self, class: usize) -> Option<&Rc<Kind>> {
        let (address, kind) = &self.places[(class >> 6) % 8];
        (*address == class).then_some(kind.as_ref())?
    }

    pub(super) fn set(&mut self, class: usize, kind: Rc<Kind>) {
        self.places[(class >> 6) % 8] = (class, Some(kind));
        self.filled = true;
    }

    /// At the end of a walk.
    #[inline]
    pub(super) fn clear(&mut self) {
        if self.filled {
            *self = Self::default();
        }
    }
}

/// So deep a walk may be without counting: two calls for each container are much of what a small pickle costs.
const UNCOUNTED: usize = 8;

/// A walk for small values gives up when it has written so many bytes: what that takes is lost then.
const SMALL: usize = 96;

/// From this depth on a fast pickler, which remembers nothing, looks for cycles.
const FAST_DEPTH: usize = 50;

impl<'py> Saver<'_, 'py> {
    /// Writes a whole pickle.
    pub(super) fn dump(&mut self, object: Object<'_, 'py>) -> Saved {
        let _walk = self.hooks.by_value.map(|_| Walk::begin());
        self.encoder.begin();
        if self.encoder.protocol() < 4 {
            // Builtin types, too, are taken apart by calls then.
            self.without_collector();
        }
        if self.small {
            self.encoder.close_at(SMALL);
        }
        self.save(object)?;
        self.encoder.end();
        if self.small && self.encoder.lost().is_none() {
            return Ok(());
        }
        self.flush()
    }

    /// Writes an object.
    #[inline(always)]
    pub(super) fn save(&mut self, object: Object<'_, 'py>) -> Saved {
        if self.encoder.boundary() {
            self.flush()?;
        }
        if self.hooks.persistent_id.is_some() && self.persistent(object)? {
            return Ok(());
        }
        self.save_unasked(object)
    }

    /// Writes an object; nobody is asked whether it has a persistent id. What is written often, and at once, is
    /// here; the rest is elsewhere, so that this needs little room on the stack.
    fn save_unasked(&mut self, object: Object<'_, 'py>) -> Saved {
        let exact = look::exact(object);
        match exact {
            Exact::None => {
                self.encoder.none();
                return Ok(());
            }
            Exact::Bool => {
                self.encoder.boolean(look::is_true(object));
                return Ok(());
            }
            Exact::Int => {
                if let Some(value) = version::short_int(object) {
                    self.encoder.int(value);
                    return Ok(());
                }
                return self.int(object);
            }
            Exact::Float if self.encoder.protocol() >= 1 => {
                self.encoder.float(look::float(object));
                return Ok(());
            }
            Exact::Float => return self.float(object),
            Exact::Str if self.encoder.protocol() >= 4 => match version::ascii(object) {
                Some(ascii) if ascii.len() <= usize::from(u8::MAX) => {
                    self.short_text(object, ascii);
                    return Ok(());
                }
                _ => {}
            },
            _ => {}
        }
        let once = self.pure && look::is_single(object) && {
            // A string holds nothing, so no tuple can be found through it.
            self.open_tuples == 0
                || matches!(
                    exact,
                    Exact::Str | Exact::Bytes | Exact::Tuple | Exact::FrozenSet
                )
        };
        if !once {
            if let Some(number) = self.memo.get(object) {
                self.encoder.get(number);
                return Ok(());
            }
        }
        if self.small && !matches!(exact, Exact::Tuple | Exact::Dict | Exact::List) {
            return Err(Stop::impure());
        }
        match exact {
            Exact::Str => self.text(object, once),
            Exact::Bytes => self.bytes(object, once),
            _ => self.save_inside(object, exact, once),
        }
    }

    /// Writes a short text of ASCII, or what it is remembered as. In pure mode one with a single reference is not met again.
    #[inline(always)]
    fn short_text(&mut self, object: Object<'_, 'py>, ascii: &[u8]) {
        if self.pure && look::is_single(object) {
            return self.encoder.short_text(ascii);
        }
        if self.hooks.fast {
            return match self.memo.get(object) {
                Some(number) => self.encoder.get(number),
                None => self.encoder.short_text(ascii),
            };
        }
        match self.memo.enter(object, !self.pure) {
            Ok(Entry::Known(number)) => self.encoder.get(number),
            Ok(Entry::New(number)) => {
                self.encoder.short_text(ascii);
                self.encoder.put(number);
            }
            Err(NoMemory(more)) => self.encoder.give_up(more),
        }
    }

    /// Writes an object that may hold others.
    fn save_inside(&mut self, object: Object<'_, 'py>, exact: Exact, once: bool) -> Saved {
        self.stack.check()?;
        self.depth += 1;
        self.entered += 1;
        let counted = self.depth > UNCOUNTED;
        if counted && self.small {
            return Err(Stop::impure());
        }
        let _deeper = counted
            .then(|| Deeper::enter(self.py, c" while pickling an object"))
            .transpose()?;
        let saved = match exact {
            Exact::Dict => self.dict(object, once),
            Exact::List => self.list(object, once),
            Exact::Tuple => self.tuple(object, once),
            Exact::Set => self.set(object, once),
            Exact::FrozenSet => self.frozenset(object, once),
            Exact::ByteArray => self.bytearray(object),
            Exact::PickleBuffer => self.buffer(object, once),
            _ => {
                let saved = self.other(object, once);
                self.told_of_handles(saved, object)
            }
        };
        // After an error the walk is over.
        self.depth -= 1;
        saved
    }

    /// From here on in a pure walk the collector does not come: something is to be made that it might come for.
    pub(super) fn without_collector(&mut self) {
        if self.pure && self.collector.is_none() {
            self.collector = Some(NoCollector::begin(self.py));
        }
    }

    /// Remembers what was written last.
    #[inline]
    pub(super) fn remember(&mut self, object: Object<'_, 'py>) {
        if self.hooks.fast {
            return;
        }
        match self.memo.add(object, !self.pure) {
            Ok(number) => self.encoder.put(number),
            Err(NoMemory(more)) => self.encoder.give_up(more),
        }
    }

    #[inline]
    pub(super) fn remember_unless(&mut self, once: bool, object: Object<'_, 'py>) {
        if !once {
            self.remember(object);
        }
    }

    /// Hands complete frames over, where somebody takes them.
    pub(super) fn flush(&mut self) -> Saved {
        if self.small {
            return Err(Stop::impure());
        }
        if let Some(needed) = self.encoder.lost() {
            let text = format!("no memory for a pickle of {needed} bytes");
            return Err(PyMemoryError::new_err(text).into());
        }
        let Some(write) = &self.hooks.write else {
            return Ok(());
        };
        if !self.encoder.bytes().is_empty() {
            let bytes = self.encoder.take();
            write.call1((look::new_bytes(self.py, &bytes)?,))?;
        }
        Ok(())
    }

    // --- a fast pickler's cycles ----------------------------------------------------------------

    /// A pickler that remembers nothing would follow a cycle for ever.
    pub(super) fn enter_fast(&mut self, object: Object<'_, 'py>) -> Result<bool, Stop> {
        if !self.hooks.fast {
            return Ok(false);
        }
        self.fast_depth += 1;
        if self.fast_depth >= FAST_DEPTH {
            let address = object.as_ptr() as usize;
            if self.fast_inside.contains(&address) {
                let name = object.get_type().name()?.to_string();
                return Err(PyValueError::new_err(format!(
                    "fast mode: can't pickle cyclic objects including object type {name} at {address:#x}"
                ))
                .into());
            }
            self.fast_inside.push(address);
        }
        Ok(true)
    }

    pub(super) fn leave_fast(&mut self, entered: bool) {
        if entered {
            if self.fast_depth >= FAST_DEPTH {
                self.fast_inside.pop();
            }
            self.fast_depth -= 1;
        }
    }

    // --- persistent ids -------------------------------------------------------------------------

    /// Writes the id instead of the object, where it has one.
    fn persistent(&mut self, object: Object<'_, 'py>) -> Result<bool, Stop> {
        let Some(ask) = &self.hooks.persistent_id else {
            return Ok(false);
        };
        let id = ask.call1((object,))?;
        if id.is_none() {
            return Ok(false);
        }
        if self.encoder.protocol() >= 1 {
            self.save_unasked(id.as_borrowed())?;
            self.encoder.opcode(op::BINPERSID);
            return Ok(true);
        }
        let text = id.str()?;
        match text.to_str() {
            Ok(text) if text.is_ascii() => self.encoder.persistent_line(text.as_bytes()),
            _ => {
                let message = "persistent IDs in protocol 0 must be ASCII strings";
                return Err(pickling_error(self.py, message).into());
            }
        }
        Ok(true)
    }

    /// Whether the object has an attribute; only AttributeError means that it has not.
    pub(super) fn attribute(
        object: &Bound<'py, PyAny>,
        name: &Bound<'py, pyo3::types::PyString>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        object.getattr_opt(name)
    }
}
