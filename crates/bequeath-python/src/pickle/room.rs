//! What a thread uses again from one pickle to the next: small ones cost little more than the allocations that this saves.

use std::cell::Cell;

use bequeath_pickle::{Decoder, Encoder, Error, Source, HIGHEST_PROTOCOL};
use pyo3::prelude::*;

use super::buffers::Large;
use super::classes;
use super::depth::StackMark;
use super::failure::Failure;
use super::identities::Identities;
use super::objects::Objects;
use super::policy::Policy;
use super::save::{Hooks, Kinds, Saved, Saver, Stop};
use super::value::Walk;
use super::version::NoCollector;

/// A buffer that has become larger is given back to the allocator.
const KEEP_BYTES: usize = 4 << 20;

thread_local! {
    static BYTES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static MEMO: Cell<Identities> = Cell::default();
    static DECODER: Cell<Decoder<Bound<'static, PyAny>>> = Cell::default();
}

/// A buffer to write to. A pickle inside of another one's walk finds none, and gets its own.
pub(crate) fn spare_bytes() -> Vec<u8> {
    BYTES.try_with(Cell::take).unwrap_or_default()
}

/// Keeps a buffer for the next pickle.
pub(crate) fn give_back(mut bytes: Vec<u8>) {
    if bytes.capacity() > KEEP_BYTES {
        return;
    }
    bytes.clear();
    // No buffer is kept when the thread ends.
    let _ = BYTES.try_with(|kept| kept.set(bytes));
}

/// One walk. What it wrote is in `bytes` only if it succeeds; what it noted in `beside` belongs there.
fn walk<'py>(
    object: &Bound<'py, PyAny>,
    protocol: u8,
    framing: bool,
    hooks: &Hooks<'py>,
    pure: bool,
    bytes: &mut Vec<u8>,
    beside: Option<&mut Vec<Large>>,
) -> Saved {
    bytes.clear();
    let py = object.py();
    let mut memo = MEMO.try_with(Cell::take).unwrap_or_default();
    let mut encoder = Encoder::new(protocol, framing, std::mem::take(bytes));
    let mut saver = Saver {
        py,
        encoder: &mut encoder,
        memo: &mut memo,
        hooks,
        pure,
        open_tuples: 0,
        fast_depth: 0,
        fast_inside: Vec::new(),
        stack: StackMark::here(),
        kinds: Kinds::default(),
        beside: beside.filter(|_| pure),
    };
    let result = {
        let _no_collector = pure.then(|| NoCollector::begin(py));
        saver.dump(object.as_borrowed())
    };
    *bytes = encoder.into_bytes();
    // This drops what was made on the way, which may run code that pickles.
    memo.clear();
    let _ = MEMO.try_with(|kept| kept.set(memo));
    result
}

/// From this many classes that are new, or can not be remembered, on a pure walk is not worth its restarts.
const NEW_CLASSES: usize = 32;

/// Walks purely, if that is possible. Each new class that is met is looked at once, and the walk started again.
fn walk_purely<'py>(
    object: &Bound<'py, PyAny>,
    protocol: u8,
    framing: bool,
    hooks: &Hooks<'py>,
    bytes: &mut Vec<u8>,
    mut beside: Option<&mut Vec<Large>>,
) -> PyResult<bool> {
    let py = object.py();
    for _ in 0..NEW_CLASSES {
        if let Some(beside) = &mut beside {
            beside.clear();
        }
        match walk(
            object,
            protocol,
            framing,
            hooks,
            true,
            bytes,
            beside.as_deref_mut(),
        ) {
            Ok(()) => return Ok(true),
            Err(Stop::Raised(error)) => return Err(error),
            Err(Stop::Impure) => break,
            Err(Stop::Unknown(instance)) => {
                let instance = instance.bind(py);
                classes::of(&instance.get_type(), instance.as_borrowed())?;
            }
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
    bytes: &mut Vec<u8>,
) -> PyResult<()> {
    match walk(object, protocol, framing, hooks, false, bytes, None) {
        Ok(()) => Ok(()),
        Err(Stop::Raised(error)) => Err(error),
        Err(Stop::Impure | Stop::Unknown(_)) => unreachable!("a full walk is never impure"),
    }
}

/// Writes a pickle of one object, purely if that is possible. The bytes are for [`give_back`].
pub(super) fn write<'py>(
    object: &Bound<'py, PyAny>,
    protocol: u8,
    framing: bool,
    hooks: &Hooks<'py>,
    beside: Option<&mut Vec<Large>>,
) -> PyResult<Vec<u8>> {
    let mut bytes = spare_bytes();
    if !hooks.are_none() || !walk_purely(object, protocol, framing, hooks, &mut bytes, beside)? {
        walk_fully(object, protocol, framing, hooks, &mut bytes)?;
    }
    Ok(bytes)
}

fn hooks_of(policy: &'static dyn Policy) -> Hooks<'static> {
    Hooks {
        persistent_id: None,
        reducer_override: None,
        dispatch_table: None,
        buffer_callback: None,
        policy: Some(policy),
        write: None,
        fix_imports: true,
        fast: false,
        by_value: None,
    }
}

/// Writes a pickle for a transfer if that runs nobody's code; nothing otherwise. The bytes are for [`give_back`].
pub(crate) fn write_pure(
    object: &Bound<'_, PyAny>,
    policy: &'static dyn Policy,
) -> PyResult<Option<Vec<u8>>> {
    let mut bytes = spare_bytes();
    if walk_purely(
        object,
        HIGHEST_PROTOCOL,
        false,
        &hooks_of(policy),
        &mut bytes,
        None,
    )? {
        return Ok(Some(bytes));
    }
    give_back(bytes);
    Ok(None)
}

/// Writes a pickle for a transfer, whatever runs for it.
pub(crate) fn write_full(
    object: &Bound<'_, PyAny>,
    policy: &'static dyn Policy,
) -> PyResult<Vec<u8>> {
    let _walk = Walk::begin();
    let mut bytes = spare_bytes();
    walk_fully(
        object,
        HIGHEST_PROTOCOL,
        false,
        &hooks_of(policy),
        &mut bytes,
    )?;
    Ok(bytes)
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
    let mut decoder: Decoder<Bound<'py, PyAny>> = DECODER.try_with(Cell::take).unwrap_or_default();
    let read = decoder.read(source, objects);
    // Dropping what it remembers may run code that reads.
    let emptied = decoder.emptied();
    let _ = DECODER.try_with(|kept| kept.set(emptied));
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
