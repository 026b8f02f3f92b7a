//! What a thread uses again from one pickle to the next: small ones cost little more than the allocations that this saves.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use bequeath_pickle::{Decoder, Encoder, Error, Source, HIGHEST_PROTOCOL};
use pyo3::prelude::*;

use super::buffers::Large;
use super::classes;
use super::depth::StackMark;
use super::failure::Failure;
use super::identities::Identities;
use super::look::Object;
use super::objects::Objects;
use super::policy::Policy;
use super::save::{Hooks, Kinds, Saved, Saver, Stop, Why};
use super::value::Walk;

/// A buffer that has become larger is given back to the allocator.
const KEEP_BYTES: usize = 4 << 20;

/// What a pickle is written with.
#[derive(Default)]
struct Room {
    bytes: Vec<u8>,
    /// How many of them are written.
    len: usize,
    memo: Identities,
    kinds: Kinds,
}

thread_local! {
    static ROOM: Cell<Option<Box<Room>>> = const { Cell::new(None) };
    static DECODER: Cell<Option<Decoder<Bound<'static, PyAny>>>> = const { Cell::new(None) };
}

/// A pickle as it was written; the room that it lies in is the next one's.
pub(crate) struct Written(Option<Box<Room>>);

impl Written {
    /// Room to write to. A pickle inside of another one's walk finds none, and gets its own.
    fn nothing() -> Self {
        let kept = ROOM.try_with(Cell::take).ok().flatten();
        Self(Some(kept.unwrap_or_default()))
    }

    fn room(&mut self) -> &mut Room {
        self.0.get_or_insert_default()
    }

    /// The bytes by themselves, for [`give_back`].
    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        let room = self.room();
        let mut bytes = std::mem::take(&mut room.bytes);
        bytes.truncate(std::mem::take(&mut room.len));
        bytes
    }
}

/// An empty buffer that a pickle was written to before, for [`give_back`].
pub(crate) fn spare_bytes() -> Vec<u8> {
    Written::nothing().into_vec()
}

/// Keeps a buffer for the next pickle.
pub(crate) fn give_back(bytes: Vec<u8>) {
    Written::nothing().room().bytes = bytes;
}

impl Deref for Written {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |room| &room.bytes[..room.len])
    }
}

impl Drop for Written {
    #[inline]
    fn drop(&mut self) {
        let Some(mut room) = self.0.take() else {
            return;
        };
        if room.bytes.capacity() > KEEP_BYTES {
            room.bytes = Vec::new();
        }
        room.len = 0;
        // No room is kept when the thread ends.
        let _ = ROOM.try_with(|kept| kept.set(Some(room)));
    }
}

/// What a walk may meet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// A few values of builtin types.
    Small,
    /// What runs nobody's code.
    Pure,
    /// Everything.
    Full,
}

/// One walk. What it wrote is in `room` only if it succeeds; what it noted in `beside` belongs there.
#[inline(always)]
fn walk<'py>(
    object: Object<'_, 'py>,
    protocol: u8,
    framing: bool,
    hooks: &Hooks<'py>,
    mode: Mode,
    room: &mut Room,
    beside: Option<&mut Vec<Large>>,
) -> Saved {
    let py = object.py();
    let mut encoder = Encoder::over(protocol, framing, std::mem::take(&mut room.bytes));
    let result = Saver {
        py,
        encoder: &mut encoder,
        memo: &mut room.memo,
        hooks,
        pure: mode != Mode::Full,
        small: mode == Mode::Small,
        root: object.as_ptr() as usize,
        open_tuples: 0,
        depth: 0,
        entered: 0,
        collector: None,
        fast_depth: 0,
        fast_inside: Vec::new(),
        stack: StackMark::here(),
        kinds: &mut room.kinds,
        beside: beside.filter(|_| mode != Mode::Full),
    }
    .dump(object);
    (room.bytes, room.len) = encoder.into_room();
    room.kinds.clear();
    // This drops what was made on the way, which may run code that pickles.
    room.memo.clear();
    result
}

/// From this many classes that are new, or can not be remembered, on a pure walk is not worth its restarts.
const NEW_CLASSES: usize = 32;

/// Walks purely, if that is possible. Each new class that is met is looked at once, and the walk started again.
#[inline]
fn walk_purely<'py>(
    object: &Bound<'py, PyAny>,
    protocol: u8,
    framing: bool,
    hooks: &Hooks<'py>,
    room: &mut Room,
    mut beside: Option<&mut Vec<Large>>,
) -> PyResult<bool> {
    let py = object.py();
    for _ in 0..NEW_CLASSES {
        if let Some(beside) = &mut beside {
            beside.clear();
        }
        match walk(
            object.as_borrowed(),
            protocol,
            framing,
            hooks,
            Mode::Pure,
            room,
            beside.as_deref_mut(),
        ) {
            Ok(()) => return Ok(true),
            Err(stop) => match stop.why() {
                Why::Raised(error) => return Err(error),
                Why::Impure => break,
                Why::Unknown(instance) => {
                    let instance = instance.bind(py);
                    classes::of(&instance.get_type(), instance.as_borrowed())?;
                }
            },
        }
    }
    if let Some(beside) = &mut beside {
        beside.clear();
    }
    Ok(false)
}

/// Walks, whatever runs for it.
fn walk_fully<'py>(
    object: &Bound<'py, PyAny>,
    protocol: u8,
    framing: bool,
    hooks: &Hooks<'py>,
    room: &mut Room,
) -> PyResult<()> {
    let object = object.as_borrowed();
    walk(object, protocol, framing, hooks, Mode::Full, room, None).map_err(Stop::raised)
}

/// Writes a pickle of one object, purely if that is possible.
pub(super) fn write<'py>(
    object: &Bound<'py, PyAny>,
    protocol: u8,
    framing: bool,
    hooks: &Hooks<'py>,
    beside: Option<&mut Vec<Large>>,
) -> PyResult<Written> {
    let mut written = Written::nothing();
    let room = written.room();
    if !hooks.are_none() || !walk_purely(object, protocol, framing, hooks, room, beside)? {
        walk_fully(object, protocol, framing, hooks, room)?;
    }
    Ok(written)
}

/// Writes a pickle of a small value of builtin types; nothing if it is another one, or larger.
#[inline(always)]
pub(super) fn write_small(object: Object<'_, '_>, protocol: u8) -> Option<Written> {
    let mut written = Written::nothing();
    // There is nothing in it to drop.
    let hooks = ManuallyDrop::new(hooks_of(None));
    let walked = walk(
        object,
        protocol,
        true,
        &hooks,
        Mode::Small,
        written.room(),
        None,
    );
    walked.ok().map(|()| written)
}

fn hooks_of<'py>(policy: Option<&'static dyn Policy>) -> Hooks<'py> {
    Hooks {
        persistent_id: None,
        reducer_override: None,
        dispatch_table: None,
        buffer_callback: None,
        policy,
        write: None,
        fix_imports: true,
        fast: false,
        by_value: None,
    }
}

/// Writes a pickle for a transfer if that runs nobody's code; nothing otherwise.
pub(crate) fn write_pure(
    object: &Bound<'_, PyAny>,
    policy: &'static dyn Policy,
) -> PyResult<Option<Written>> {
    let mut written = Written::nothing();
    let pure = walk_purely(
        object,
        HIGHEST_PROTOCOL,
        false,
        &hooks_of(Some(policy)),
        written.room(),
        None,
    )?;
    Ok(pure.then_some(written))
}

/// Writes a pickle for a transfer, whatever runs for it.
pub(crate) fn write_full(
    object: &Bound<'_, PyAny>,
    policy: &'static dyn Policy,
) -> PyResult<Written> {
    let _walk = Walk::begin();
    let mut written = Written::nothing();
    walk_fully(
        object,
        HIGHEST_PROTOCOL,
        false,
        &hooks_of(Some(policy)),
        written.room(),
    )?;
    Ok(written)
}

/// Reads one pickle, with the stack and the memo of an earlier one.
pub(super) fn with_decoder<'py, S>(
    source: &mut S,
    objects: &mut Objects<'py>,
) -> Result<Bound<'py, PyAny>, Failure>
where
    S: Source,
    Failure: From<S::Error>,
{
    let kept = DECODER.try_with(Cell::take).ok().flatten();
    let mut decoder: Decoder<Bound<'py, PyAny>> = kept.unwrap_or_default();
    let read = decoder.read(source, objects);
    // Dropping what it remembers may run code that reads.
    let emptied = decoder.emptied();
    let _ = DECODER.try_with(|kept| kept.set(Some(emptied)));
    read
}

/// Reads a transfer's pickle; `buffers` came beside it. An error comes with the number of steps that were taken.
pub(crate) fn read_transfer<'py, S>(
    py: Python<'py>,
    source: &mut S,
    buffers: Option<Bound<'py, PyAny>>,
) -> Result<Bound<'py, PyAny>, (PyErr, u64)>
where
    S: Source<Error = Error>,
{
    let mut objects = Objects {
        py,
        find_class: None,
        persistent_load: None,
        buffers,
        encoding: "ASCII".into(),
        errors: "strict".into(),
        fix_imports: true,
        protocol: 0,
        steps: 0,
        allow: None,
    };
    let read = with_decoder(source, &mut objects);
    read.map_err(|Failure(error)| (error, objects.steps))
}
