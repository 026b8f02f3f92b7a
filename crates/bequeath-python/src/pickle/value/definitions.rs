//! Definitions that crossed by value, so that one which comes again is the one that is here already.
//!
//! Each has an id from its first crossing on: eight random bytes of the process that sent it, and a count.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyWeakrefMethods, PyWeakrefReference};

use super::super::identities::ByAddress;

/// What a definition is known by in every process.
pub(super) type Id = [u8; 16];

/// What is known of objects, by identity, as long as they live.
pub(super) struct ByIdentity<V> {
    entries: ByAddress<(Py<PyWeakrefReference>, V)>,
    /// How many entries there are when dead ones are looked for.
    sweep_at: usize,
}

impl<V> Default for ByIdentity<V> {
    fn default() -> Self {
        Self {
            entries: ByAddress::default(),
            sweep_at: 256,
        }
    }
}

impl<V> ByIdentity<V> {
    pub(super) fn get(&mut self, object: &Bound<'_, PyAny>) -> Option<&mut V> {
        let (weak, value) = self.entries.get_mut(&(object.as_ptr() as usize))?;
        // The address may belong to another object by now; then this reference is dead.
        weak.bind(object.py()).upgrade().map(|_| value)
    }

    pub(super) fn set(&mut self, weak: Bound<'_, PyWeakrefReference>, address: usize, value: V) {
        let py = weak.py();
        if self.entries.len() >= self.sweep_at {
            self.entries
                .retain(|_, (weak, _)| weak.bind(py).upgrade().is_some());
            self.sweep_at = self.entries.len() * 2 + 256;
        }
        self.entries.insert(address, (weak.unbind(), value));
    }
}

/// How a definition stands in this process.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    pub(super) id: Id,
    /// It came in a message; else it was made here and left in one.
    pub(super) arrived: bool,
    /// It came in a message, and its attributes have not been set yet.
    pub(super) fresh: bool,
}

#[derive(Default)]
struct Known {
    standing: ByIdentity<Standing>,
    by_id: HashMap<Id, Py<PyWeakrefReference>>,
    sweep_at: usize,
    /// The process that `prefix` belongs to: a forked child goes on under one of its own.
    process: u32,
    prefix: u64,
    count: u64,
}

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// Never held while Python runs.
fn known() -> MutexGuard<'static, Option<Known>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The id under which a definition of this process leaves it.
pub(super) fn id_of<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = object.py();
    if let Some(standing) = standing(object) {
        return Ok(PyBytes::new(py, &standing.id));
    }
    let id = {
        let mut known = known();
        let known = known.get_or_insert_default();
        let process = std::process::id();
        if known.process != process {
            known.process = process;
            // The standard library's source of random numbers is good for this: equal ids need equal seeds.
            known.prefix = RandomState::new().hash_one((process, std::time::SystemTime::now()));
            known.count = 0;
        }
        known.count += 1;
        let mut id = Id::default();
        id[..8].copy_from_slice(&known.prefix.to_le_bytes());
        id[8..].copy_from_slice(&known.count.to_le_bytes());
        id
    };
    remember(object, id, false)?;
    Ok(PyBytes::new(py, &id))
}

/// Remembers a definition under its id.
pub(super) fn remember(object: &Bound<'_, PyAny>, id: Id, arrived: bool) -> PyResult<()> {
    let weak = PyWeakrefReference::new(object)?;
    let again = weak.clone().unbind();
    let standing = Standing {
        id,
        arrived,
        fresh: arrived,
    };
    let mut known = known();
    let known = known.get_or_insert_default();
    known.standing.set(weak, object.as_ptr() as usize, standing);
    if known.by_id.len() > known.sweep_at {
        let py = object.py();
        known
            .by_id
            .retain(|_, weak| weak.bind(py).upgrade().is_some());
        known.sweep_at = known.by_id.len() * 2 + 256;
    }
    known.by_id.insert(id, again);
    Ok(())
}

/// The definition that is known here by this id.
pub(super) fn find<'py>(py: Python<'py>, id: &Id) -> Option<Bound<'py, PyAny>> {
    let known = known();
    known.as_ref()?.by_id.get(id)?.bind(py).upgrade()
}

pub(super) fn standing(object: &Bound<'_, PyAny>) -> Option<Standing> {
    known().as_mut()?.standing.get(object).copied()
}

/// Whether nobody else has it, or has it from here: it neither came in a message nor with a fork.
pub(super) fn is_of_this_process(object: &Bound<'_, PyAny>) -> bool {
    let mut known = known();
    let Some(known) = known.as_mut() else {
        return true;
    };
    let own = (known.process == std::process::id()).then_some(known.prefix);
    known.standing.get(object).is_none_or(|standing| {
        !standing.arrived && own.is_some_and(|own| standing.id[..8] == own.to_le_bytes())
    })
}

/// From now on the definition is whole.
pub(super) fn complete(object: &Bound<'_, PyAny>) {
    if let Some(standing) = known()
        .as_mut()
        .and_then(|known| known.standing.get(object))
    {
        standing.fresh = false;
    }
}
