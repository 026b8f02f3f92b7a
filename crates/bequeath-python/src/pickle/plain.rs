//! Which instances are plain: their default reduction says nothing but class and state, and making it would run no
//! code of anybody. What a class is found to be is remembered as long as the class is not changed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString, PyType};

use crate::intern;

use super::look::Object;
use super::tables::Tables;
use super::version;

/// How instances of a class are plain.
pub(super) struct Plain {
    /// The names of slots that belong to the state.
    slots: Vec<Py<PyString>>,
    /// Instances are given their state by putting it into their dict.
    pub(super) takes_state_as_it_is: bool,
}

impl Plain {
    /// The slots that are filled: the second half of the state, where there are any.
    pub(super) fn slots<'py>(
        &self,
        object: Object<'_, 'py>,
    ) -> PyResult<Vec<(Bound<'py, PyString>, Bound<'py, PyAny>)>> {
        let mut state = Vec::new();
        for name in &self.slots {
            let name = name.bind(object.py());
            if let Some(value) = object.getattr_opt(name)? {
                state.push((name.clone(), value));
            }
        }
        Ok(state)
    }
}

struct Known {
    /// Keeps the class's address from being used again.
    _class: Py<PyType>,
    version: u32,
    plain: Option<Rc<Plain>>,
}

/// Addresses are spread well enough by one multiplication.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type Classes = HashMap<usize, Known, BuildHasherDefault<AddressHasher>>;

thread_local! {
    static KNOWN: RefCell<Classes> = RefCell::default();
}

/// More classes than a program pickles; then all is looked up again.
const MOST: usize = 1024;

/// How this object's class is plain, if it is.
pub(super) fn of(class: &Bound<'_, PyType>, protocol: u8) -> PyResult<Option<Rc<Plain>>> {
    if protocol < 2 {
        return Ok(None);
    }
    let address = class.as_ptr() as usize;
    let version = version::type_version(class);
    if version != 0 {
        let known = KNOWN.with_borrow(|known| {
            let known = known.get(&address).filter(|known| known.version == version);
            known.map(|known| known.plain.clone())
        });
        if let Some(plain) = known {
            return Ok(plain);
        }
    }
    let plain = examine(class)?.map(Rc::new);
    let version = version::type_version(class);
    if version != 0 {
        let known = Known {
            _class: class.clone().unbind(),
            version,
            plain: plain.clone(),
        };
        // What falls out is dropped when the table is free again: that may run code.
        let old = KNOWN.with_borrow_mut(|all| {
            let old = (all.len() >= MOST).then(|| std::mem::take(all));
            (old, all.insert(address, known))
        });
        drop(old);
    }
    Ok(plain)
}

fn examine(class: &Bound<'_, PyType>) -> PyResult<Option<Plain>> {
    let py = class.py();
    if !class.get_type().is(py.get_type::<PyType>()) {
        return Ok(None);
    }
    let base = py.get_type::<PyAny>();
    // Looked up in earnest once, which is what gives the class its version.
    class.getattr(intern!(py, "__reduce_ex__"))?;
    for name in [
        intern!(py, "__reduce_ex__"),
        intern!(py, "__reduce__"),
        intern!(py, "__getstate__"),
        intern!(py, "__getattribute__"),
        intern!(py, "__getattr__"),
        intern!(py, "__getnewargs__"),
        intern!(py, "__getnewargs_ex__"),
        intern!(py, "__class__"),
        intern!(py, "__dict__"),
    ] {
        let (own, default) = (in_classes(class, name)?, in_classes(&base, name)?);
        let same = match (&own, &default) {
            (None, None) => true,
            (Some(own), Some(default)) => own.is(default),
            // Each class that gives its instances a dict has a descriptor for it.
            (Some(own), None) => {
                name.is(intern!(py, "__dict__")) && is_descriptor(own, "getset_descriptor")?
            }
            (None, Some(_)) => false,
        };
        if !same {
            return Ok(None);
        }
    }
    let names = py
        .import(intern!(py, "copyreg"))?
        .call_method1(intern!(py, "_slotnames"), (class,))?;
    let mut slots = Vec::new();
    for name in names.try_iter()? {
        let name = name?.cast_into::<PyString>().map_err(PyErr::from)?;
        match in_classes(class, &name)? {
            Some(member) if is_descriptor(&member, "member_descriptor")? => {}
            _ => return Ok(None),
        }
        slots.push(name.unbind());
    }
    let takes_state_as_it_is = in_classes(class, intern!(py, "__setstate__"))?.is_none();
    Ok(version::holds_only(class, slots.len()).then_some(Plain {
        slots,
        takes_state_as_it_is,
    }))
}

fn is_descriptor(object: &Bound<'_, PyAny>, kind: &str) -> PyResult<bool> {
    Ok(object.get_type().name()? == kind)
}

/// An attribute where a class or one of its bases defines it, without the code of descriptors.
fn in_classes<'py>(
    class: &Bound<'py, PyType>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    for base in class.mro() {
        let own = base.getattr(intern!(class.py(), "__dict__"))?;
        if own.contains(name)? {
            return own.get_item(name).map(Some);
        }
    }
    Ok(None)
}

/// Whether an attribute of the instance itself takes the place of something that pickling asks for.
pub(super) fn is_overridden(state: Object<'_, '_>) -> bool {
    let py = state.py();
    let Ok(state) = state.cast::<PyDict>() else {
        return true;
    };
    [
        intern!(py, "__reduce_ex__"),
        intern!(py, "__reduce__"),
        intern!(py, "__getstate__"),
        intern!(py, "__getnewargs__"),
        intern!(py, "__getnewargs_ex__"),
    ]
    .iter()
    .any(|name| state.contains(*name).unwrap_or(true))
}

/// Module and name of a function or class that its module has under its name, seen without running code.
#[allow(clippy::type_complexity)]
pub(super) fn visible_name<'py>(
    object: &Bound<'py, PyAny>,
) -> PyResult<Option<(Bound<'py, PyString>, Bound<'py, PyString>)>> {
    let py = object.py();
    let text = |name: &Bound<'py, PyString>| -> PyResult<Option<Bound<'py, PyString>>> {
        let found = object.getattr_opt(name)?;
        Ok(found.and_then(|found| found.cast_into_exact::<PyString>().ok()))
    };
    let Some(module) = text(intern!(py, "__module__"))? else {
        return Ok(None);
    };
    let Some(name) = text(intern!(py, "__qualname__"))? else {
        return Ok(None);
    };
    let Ok(modules) = Tables::get(py)?.modules.bind(py).cast::<PyDict>() else {
        return Ok(None);
    };
    let Some(found) = modules.get_item(&module)? else {
        return Ok(None);
    };
    let Ok(found) = found.cast_into_exact::<PyModule>() else {
        return Ok(None);
    };
    match found.dict().get_item(&name)? {
        Some(there) if there.is(object) => Ok(Some((module, name))),
        _ => Ok(None),
    }
}
