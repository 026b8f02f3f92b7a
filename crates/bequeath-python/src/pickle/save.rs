//! An object graph becomes opcodes.
//!
//! The walk has two modes. In *pure* mode only exact builtin types and plain instances are met, so no code of
//! anybody runs: an object with a single reference cannot be met again, and is not remembered. (Inside a tuple that
//! has more references containers are remembered all the same: a tuple that holds itself is found through them.)
//! The first object that would run code ends the pure walk with [`Stop::Impure`]; the caller starts again in *full* mode, in which
//! everything is remembered as CPython's pickler does, since code that runs may hand out any object once more.

use std::rc::Rc;

use bequeath_pickle::{opcode as op, Encoder};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;

use crate::intern;

use super::classes::Kind;
use super::identities::Identities;
use super::look::{self, Deeper, Exact, Object, StackMark};
use super::policy::Policy;
use super::tables::pickling_error;
use super::value::{To, Walk};
use super::version;

/// Why a walk ended.
pub(super) enum Stop {
    /// Something was raised.
    Raised(PyErr),
    /// Code would have to run: not in pure mode.
    Impure,
    /// A class was met in pure mode of which nothing is known yet, in an instance of it.
    Unknown(Py<PyAny>),
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

pub(super) type Saved = Result<(), Stop>;

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
    /// Tuples with more than one reference around the current object.
    pub(super) open_tuples: usize,
    /// How deep a fast walk is, and what it is inside of once it is suspiciously deep.
    pub(super) fast_depth: usize,
    pub(super) fast_inside: Vec<usize>,
    /// Where the thread's stack was when the walk began.
    pub(super) stack: StackMark,
    /// What classes are: in pure mode nothing changes them.
    pub(super) kinds: Kinds,
    /// Where large buffers are noted instead of being copied, while no code runs that could change them.
    pub(super) beside: Option<&'s mut Vec<Large>>,
}

/// A `PickleBuffer` whose bytes belong at a place in what is written.
pub(super) struct Large {
    pub(super) at: usize,
    pub(super) buffer: Py<PyAny>,
}

/// The last classes that were met in a pure walk, by their addresses.
#[derive(Default)]
pub(super) struct Kinds([(usize, Option<Rc<Kind>>); 8]);

impl Kinds {
    #[inline]
    pub(super) fn get(&self, class: usize) -> Option<&Rc<Kind>> {
        let (address, kind) = &self.0[(class >> 6) % 8];
        (*address == class).then_some(kind.as_ref())?
    }

    pub(super) fn set(&mut self, class: usize, kind: Rc<Kind>) {
        self.0[(class >> 6) % 8] = (class, Some(kind));
    }
}

/// From this depth on a fast pickler, which remembers nothing, looks for cycles.
const FAST_DEPTH: usize = 50;

impl<'py> Saver<'_, 'py> {
    /// Writes a whole pickle.
    pub(super) fn dump(&mut self, object: Object<'_, 'py>) -> Saved {
        let _walk = self.hooks.by_value.map(|_| Walk::begin());
        self.encoder.begin();
        self.save(object)?;
        self.encoder.end();
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
        match exact {
            Exact::Str => {
                if let (true, Some(ascii)) = (self.encoder.protocol() >= 4, version::ascii(object))
                {
                    if ascii.len() <= usize::from(u8::MAX) {
                        self.encoder.text(ascii);
                        self.remember_unless(once, object);
                        return Ok(());
                    }
                }
                self.text(object, once)
            }
            Exact::Bytes => self.bytes(object, once),
            _ => self.save_inside(object, exact, once),
        }
    }

    /// Writes an object that may hold others.
    fn save_inside(&mut self, object: Object<'_, 'py>, exact: Exact, once: bool) -> Saved {
        self.stack.check()?;
        let _deeper = Deeper::enter(self.py, c" while pickling an object")?;
        match exact {
            Exact::Dict => self.dict(object, once),
            Exact::List => self.list(object, once),
            Exact::Tuple => self.tuple(object, once),
            Exact::Set => self.set(object, once),
            Exact::FrozenSet => self.frozenset(object, once),
            Exact::ByteArray => self.bytearray(object),
            Exact::PickleBuffer => self.buffer(object),
            _ => self.other(object, once),
        }
    }

    /// Remembers what was written last.
    #[inline]
    pub(super) fn remember(&mut self, object: Object<'_, 'py>) {
        if self.hooks.fast {
            return;
        }
        let number = self.memo.add(object, !self.pure);
        self.encoder.put(number);
    }

    #[inline]
    pub(super) fn remember_unless(&mut self, once: bool, object: Object<'_, 'py>) {
        if !once {
            self.remember(object);
        }
    }

    /// Hands complete frames over, where somebody takes them.
    pub(super) fn flush(&mut self) -> Saved {
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

    // --- numbers and strings --------------------------------------------------------------------

    fn int(&mut self, object: Object<'_, 'py>) -> Saved {
        if let Some(value) = look::small_int(object) {
            self.encoder.int(value);
            return Ok(());
        }
        if self.encoder.protocol() < 2 {
            let digits = object.repr()?;
            self.encoder.long_line(digits.to_str()?.as_bytes());
            return Ok(());
        }
        if let Ok(value) = object.extract::<i128>() {
            self.encoder.wide(value);
            return Ok(());
        }
        let py = self.py;
        let bits: usize = object.call_method0(intern!(py, "bit_length"))?.extract()?;
        // One bit more for the sign; a power of two that is negative does without.
        let negative = object.lt(0)?;
        let ones = negative
            && object
                .neg()?
                .call_method0(intern!(py, "bit_count"))?
                .eq(1)?;
        let len = if ones { bits.div_ceil(8) } else { bits / 8 + 1 };
        if i32::try_from(len).is_err() {
            return Err(
                pyo3::exceptions::PyOverflowError::new_err("int too large to pickle").into(),
            );
        }
        let keywords = pyo3::types::PyDict::new(py);
        keywords.set_item(intern!(py, "signed"), true)?;
        let bytes = object.call_method(
            intern!(py, "to_bytes"),
            (len, intern!(py, "little")),
            Some(&keywords),
        )?;
        self.encoder.long(look::bytes(bytes.as_borrowed()));
        Ok(())
    }

    fn float(&mut self, object: Object<'_, 'py>) -> Saved {
        if self.encoder.protocol() >= 1 {
            self.encoder.float(look::float(object));
        } else {
            let repr = object.repr()?;
            self.encoder.float_line(repr.to_str()?.as_bytes());
        }
        Ok(())
    }

    fn text(&mut self, object: Object<'_, 'py>, once: bool) -> Saved {
        if self.encoder.protocol() == 0 {
            return self.text_line(object);
        }
        if let Some(utf8) = look::utf8(object) {
            self.text_bytes(utf8)?;
        } else {
            let py = self.py;
            let encoded = object.call_method1(
                intern!(py, "encode"),
                (intern!(py, "utf-8"), intern!(py, "surrogatepass")),
            )?;
            self.text_bytes(look::bytes(encoded.as_borrowed()))?;
        }
        self.remember_unless(once, object);
        Ok(())
    }

    fn text_bytes(&mut self, utf8: &[u8]) -> Saved {
        if !self.encoder.is_outside(utf8.len()) || self.hooks.write.is_none() {
            self.encoder.text(utf8);
            return Ok(());
        }
        self.encoder.text_header_outside(utf8.len());
        self.flush()?;
        let payload = look::new_bytes(self.py, utf8)?.into_any();
        self.payload(&payload)
    }

    fn text_line(&mut self, object: Object<'_, 'py>) -> Saved {
        let py = self.py;
        let encoded = object.call_method1(
            intern!(py, "encode"),
            (intern!(py, "utf-32-le"), intern!(py, "surrogatepass")),
        )?;
        let points = look::bytes(encoded.as_borrowed())
            .chunks_exact(4)
            .map(|point| {
                point
                    .iter()
                    .rev()
                    .fold(0, |value, byte| value << 8 | u32::from(*byte))
            });
        self.encoder.text_line(points);
        self.remember(object);
        Ok(())
    }

    fn bytes(&mut self, object: Object<'_, 'py>, once: bool) -> Saved {
        if self.encoder.protocol() < 3 {
            return self.old_bytes(object);
        }
        let bytes = look::bytes(object);
        if self.encoder.is_outside(bytes.len()) && self.hooks.write.is_some() {
            self.encoder.binary_header_outside(bytes.len());
            self.flush()?;
            self.payload(&object.to_owned())?;
        } else {
            self.encoder.binary(bytes);
        }
        self.remember_unless(once, object);
        Ok(())
    }

    /// Writes a large string itself, without a copy.
    fn payload(&mut self, bytes: &Bound<'py, PyAny>) -> Saved {
        if let Some(write) = &self.hooks.write {
            write.call1((bytes,))?;
        }
        Ok(())
    }

    fn bytearray(&mut self, object: Object<'_, 'py>) -> Saved {
        if self.encoder.protocol() < 5 {
            return self.old_bytearray(object);
        }
        let bytes = look::bytearray(object);
        if self.encoder.is_outside(bytes.len()) && self.hooks.write.is_some() {
            self.encoder.bytearray_header_outside(bytes.len());
            self.flush()?;
            self.payload(&object.to_owned())?;
        } else {
            self.encoder.bytearray(bytes);
        }
        self.remember(object);
        Ok(())
    }

    fn buffer(&mut self, object: Object<'_, 'py>) -> Saved {
        let py = self.py;
        if self.encoder.protocol() < 5 {
            return Err(
                pickling_error(py, "PickleBuffer can only be pickled with protocol >= 5").into(),
            );
        }
        if let (true, Some(callback)) = (self.pure, &self.hooks.buffer_callback) {
            if !look::is_method_of_list(callback) {
                return Err(Stop::Impure);
            }
        }
        let before = look::pickle_buffer(object).map(|(readonly, inside)| (readonly, inside.len()));
        let Some((readonly, len)) = before else {
            // Released, or in pieces: it says so itself.
            object.call_method0(intern!(py, "raw")).map_err(|error| {
                if error.is_instance_of::<pyo3::exceptions::PyBufferError>(py) {
                    let text =
                        "PickleBuffer can not be pickled when pointing to a non-contiguous buffer";
                    pickling_error(py, text)
                } else {
                    error
                }
            })?;
            return Err(pickling_error(py, "PickleBuffer without contents").into());
        };
        let in_band = match (&self.hooks.buffer_callback, self.hooks.policy) {
            (None, None) => true,
            (Some(callback), _) => callback.call1((object,))?.is_truthy()?,
            (None, Some(_)) if self.pure => return Err(Stop::Impure),
            (None, Some(policy)) => !policy.takes(&object)?,
        };
        if !in_band {
            self.encoder.opcode(op::NEXT_BUFFER);
            if readonly {
                self.encoder.opcode(op::READONLY_BUFFER);
            }
            return Ok(());
        }
        // A callback could have released it.
        let Some((_, inside)) = look::pickle_buffer(object).filter(|(_, now)| now.len() == len)
        else {
            return Err(pickling_error(py, "PickleBuffer changed by its callback").into());
        };
        let header = |this: &mut Self| {
            if readonly {
                this.encoder.binary_header_outside(inside.len());
            } else {
                this.encoder.bytearray_header_outside(inside.len());
            }
        };
        if self.encoder.is_outside(inside.len()) && self.hooks.write.is_some() {
            header(self);
            self.flush()?;
            let bytes = pyo3::types::PyBytes::new(py, inside).into_any();
            self.payload(&bytes)?;
        } else if self.encoder.is_outside(inside.len()) && self.beside.is_some() {
            header(self);
            let at = self.encoder.bytes().len();
            if let Some(beside) = &mut self.beside {
                let buffer = object.to_owned().unbind();
                beside.push(Large { at, buffer });
            }
        } else if readonly {
            self.encoder.binary(inside);
        } else {
            self.encoder.bytearray(inside);
        }
        self.remember(object);
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
