//! `Pickler`, for whoever writes several objects, or wants to be asked.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bequeath_pickle::Encoder;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyTypeError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyClass, PyTraverseError, PyTypeInfo};

use crate::intern;

use super::depth::StackMark;
use super::identities::Identities;
use super::protocol_of;
use super::save::{Hooks, Kinds, Saver, Stop};
use super::tables::pickling_error;
use super::value::To;
use super::version::IS_USED_ONCE_AT_A_TIME;

/// Hooks of a pickler that asks nobody.
pub(super) fn hooks(
    protocol: u8,
    fix_imports: bool,
    buffer_callback: Option<Bound<'_, PyAny>>,
    by_value: bool,
) -> PyResult<Hooks<'_>> {
    if buffer_callback.is_some() && protocol < 5 {
        return Err(pyo3::exceptions::PyValueError::new_err(
            "buffer_callback needs protocol >= 5",
        ));
    }
    Ok(Hooks {
        persistent_id: None,
        reducer_override: None,
        dispatch_table: None,
        buffer_callback,
        policy: None,
        write: None,
        fix_imports,
        fast: false,
        by_value: by_value.then_some(To::Anyone),
    })
}

pub(super) fn write_method<'py>(file: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    file.getattr_opt(intern!(file.py(), "write"))?
        .ok_or_else(|| PyTypeError::new_err("file must have a 'write' attribute"))
}

#[derive(Default)]
struct State {
    write: Option<Py<PyAny>>,
    buffer_callback: Option<Py<PyAny>>,
    dispatch_table: Option<Py<PyAny>>,
    protocol: u8,
    fix_imports: bool,
    /// What `bin` was set to.
    bin: Option<i32>,
    fast: i32,
    by_value: bool,
    memo: Identities,
    /// It writes now: since 3.14 nobody uses it for anything else meanwhile.
    busy: bool,
}

/// Refuses a second use of what is at work.
pub(super) fn check_idle(busy: bool, name: &str) -> PyResult<()> {
    if busy && IS_USED_ONCE_AT_A_TIME {
        let text = format!("{name} object is already being used");
        return Err(PyRuntimeError::new_err(text));
    }
    Ok(())
}

/// Writes objects to a file; what was written once is referred to later.
///
/// After fork each process has a pickler of its own, with what was remembered until then.
#[pyclass(
    subclass,
    dict,
    weakref,
    frozen,
    immutable_type,
    module = "bequeath.pickle"
)]
#[derive(Default)]
pub struct Pickler(Mutex<State>);

impl Pickler {
    /// Never held while Python runs.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A method that a subclass or an instance has put in the place of this class's own.
pub(super) fn overridden<'py, T: PyTypeInfo>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, pyo3::types::PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = object.py();
    let base = py.get_type::<T>();
    if object.get_type().is(&base) {
        let own = object.getattr(intern!(py, "__dict__"))?;
        if !own.contains(name)? {
            return Ok(None);
        }
    }
    let Some(found) = object.getattr_opt(name)? else {
        return Ok(None);
    };
    // A bound method of the base class is the default.
    let default = base.getattr_opt(name)?;
    let own = object.get_type().getattr_opt(name)?;
    let in_instance = object.getattr(intern!(py, "__dict__"))?.contains(name)?;
    match (default, own) {
        (Some(default), Some(own)) if !in_instance && own.is(&default) => Ok(None),
        _ => Ok(Some(found)),
    }
}

/// What a memo that is set holds: that of a proxy of this class, or a dict.
pub(super) fn memo_items<'py, T: PyClass<Frozen = True> + Sync>(
    memo: &Bound<'py, PyAny>,
    class: &str,
    copy: impl FnOnce(&T, Python<'py>) -> PyResult<Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyDict>> {
    if let Ok(proxy) = memo.cast::<T>() {
        return copy(proxy.get(), memo.py());
    }
    if let Ok(items) = memo.cast::<PyDict>() {
        return Ok(items.clone());
    }
    let name = memo.get_type().name()?;
    Err(PyTypeError::new_err(format!(
        "'memo' attribute must be {class} object or dict, not {name}"
    )))
}

/// What deleting an attribute raises that is a number.
fn keeps_number() -> PyErr {
    PyTypeError::new_err("can't delete numeric/char attribute")
}

/// What deleting a memo raises.
pub(super) fn keeps_memo() -> PyErr {
    PyTypeError::new_err("attribute deletion is not supported")
}

#[pymethods]
impl Pickler {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    #[pyo3(signature = (file, protocol=None, fix_imports=true, buffer_callback=None, *, by_value=false))]
    fn __init__(
        &self,
        file: &Bound<'_, PyAny>,
        protocol: Option<&Bound<'_, PyAny>>,
        fix_imports: bool,
        buffer_callback: Option<Bound<'_, PyAny>>,
        by_value: bool,
    ) -> PyResult<()> {
        let protocol = protocol_of(protocol)?;
        let write = write_method(file)?.unbind();
        hooks(protocol, fix_imports, buffer_callback.clone(), by_value)?;
        let mut state = State {
            write: Some(write),
            buffer_callback: buffer_callback.map(Bound::unbind),
            protocol,
            fix_imports,
            by_value,
            ..State::default()
        };
        let mut current = self.state();
        check_idle(current.busy, "Pickler")?;
        // A subclass may have set it before this was called.
        state.dispatch_table = current.dispatch_table.take();
        std::mem::swap(&mut *current, &mut state);
        drop(current);
        Ok(())
    }

    /// Writes the pickle of an object to the file.
    fn dump(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, object) = (slf.py(), slf.as_any());
        let (mut memo, protocol, mut hooks) = {
            let mut state = slf.get().state();
            let Some(write) = &state.write else {
                let name = slf.get_type().name()?;
                let text = format!("Pickler.__init__() was not called by {name}.__init__()");
                return Err(pickling_error(py, text));
            };
            check_idle(state.busy, "Pickler")?;
            let bound =
                |object: &Option<Py<PyAny>>| object.as_ref().map(|object| object.bind(py).clone());
            let hooks = Hooks {
                persistent_id: None,
                reducer_override: None,
                dispatch_table: bound(&state.dispatch_table),
                buffer_callback: bound(&state.buffer_callback),
                policy: None,
                write: Some(write.bind(py).clone()),
                fix_imports: state.fix_imports,
                fast: state.fast != 0,
                by_value: state.by_value.then_some(To::Anyone),
            };
            (std::mem::take(&mut state.memo), state.protocol, hooks)
        };
        hooks.persistent_id = overridden::<Self>(object, intern!(py, "persistent_id"))?;
        hooks.reducer_override = object.getattr_opt(intern!(py, "reducer_override"))?;
        if hooks.dispatch_table.is_none() {
            // A class attribute of a subclass.
            hooks.dispatch_table = overridden::<Self>(object, intern!(py, "dispatch_table"))?;
        }
        let mut encoder = Encoder::new(protocol, true, Vec::new());
        slf.get().state().busy = true;
        let result = Saver {
            py,
            encoder: &mut encoder,
            memo: &mut memo,
            hooks: &hooks,
            pure: false,
            small: false,
            root: obj.as_ptr() as usize,
            open_tuples: 0,
            depth: 0,
            entered: 0,
            collector: None,
            fast_depth: 0,
            fast_inside: Vec::new(),
            stack: StackMark::here(),
            kinds: &mut Kinds::default(),
            beside: None,
        }
        .dump(obj.as_borrowed());
        {
            let mut state = slf.get().state();
            (state.memo, state.busy) = (memo, false);
        }
        result.map_err(Stop::raised)
    }

    /// Forgets what was written, so that the next pickle can be read by itself.
    fn clear_memo(&self) {
        let old = std::mem::take(&mut self.state().memo);
        drop(old);
    }

    /// None for an object that is to be pickled; subclasses return an id for what the reader gets elsewhere.
    #[allow(clippy::unused_self, unused_variables)]
    fn persistent_id(&self, obj: &Bound<'_, PyAny>) -> Option<Py<PyAny>> {
        None
    }

    /// 1 unless the protocol is 0. It can be set, as `_pickle`'s can, but the protocol decides what is written.
    #[getter]
    fn get_bin(&self) -> i32 {
        let state = self.state();
        state.bin.unwrap_or_else(|| (state.protocol > 0).into())
    }

    #[setter]
    fn set_bin(&self, bin: i32) {
        self.state().bin = Some(bin);
    }

    #[deleter]
    #[allow(clippy::unused_self)]
    fn delete_bin(&self) -> PyResult<()> {
        Err(keeps_number())
    }

    #[getter]
    fn get_fast(&self) -> i32 {
        self.state().fast
    }

    #[setter]
    fn set_fast(&self, fast: i32) {
        self.state().fast = fast;
    }

    #[deleter]
    #[allow(clippy::unused_self)]
    fn delete_fast(&self) -> PyResult<()> {
        Err(keeps_number())
    }

    #[getter]
    fn get_dispatch_table(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let table = self
            .state()
            .dispatch_table
            .as_ref()
            .map(|table| table.clone_ref(py));
        table.ok_or_else(|| PyAttributeError::new_err("dispatch_table"))
    }

    #[setter]
    fn set_dispatch_table(&self, table: Option<Bound<'_, PyAny>>) {
        let old = std::mem::replace(&mut self.state().dispatch_table, table.map(Bound::unbind));
        drop(old);
    }

    #[deleter]
    fn delete_dispatch_table(&self) {
        let old = self.state().dispatch_table.take();
        drop(old);
    }

    #[getter]
    fn get_memo(slf: Py<Self>) -> PicklerMemoProxy {
        PicklerMemoProxy(slf)
    }

    #[setter]
    fn set_memo(&self, memo: &Bound<'_, PyAny>) -> PyResult<()> {
        let items = memo_items(memo, "a PicklerMemoProxy", PicklerMemoProxy::copy)?;
        let mut new = Identities::default();
        for value in items.values() {
            let Ok((number, object)) = value.extract::<(u32, Bound<'_, PyAny>)>() else {
                return Err(PyTypeError::new_err("'memo' values must be 2-item tuples"));
            };
            new.set(object.as_borrowed(), number, true)?;
        }
        let old = std::mem::replace(&mut self.state().memo, new);
        drop(old);
        Ok(())
    }

    #[deleter]
    #[allow(clippy::unused_self)]
    fn delete_memo(&self) -> PyResult<()> {
        Err(keeps_memo())
    }

    fn __sizeof__(&self) -> usize {
        size_of::<Self>() + self.state().memo.size()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector may come while this thread holds the state: then everything is reachable anyway.
        let Ok(state) = self.0.try_lock() else {
            return Ok(());
        };
        for object in [&state.write, &state.buffer_callback, &state.dispatch_table] {
            visit.call(object)?;
        }
        state.memo.visit(|object| visit.call(object))
    }

    fn __clear__(&self) {
        let old = self
            .0
            .try_lock()
            .map(|mut state| std::mem::take(&mut *state));
        drop(old);
    }
}

/// A pickler's memo: `{id(object): (number, object)}`.
#[pyclass(frozen, immutable_type, module = "bequeath.pickle")]
pub struct PicklerMemoProxy(Py<Pickler>);

#[pymethods]
impl PicklerMemoProxy {
    /// Forgets everything.
    fn clear(&self) {
        self.0.get().clear_memo();
    }

    /// What is remembered, as a dict.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let kept = self.0.get().state().memo.kept(py);
        let items = PyDict::new(py);
        for (number, object) in kept {
            items.set_item(object.as_ptr() as usize, (number, object))?;
        }
        Ok(items)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let arguments = PyTuple::new(py, [self.copy(py)?])?;
        PyTuple::new(
            py,
            [py.get_type::<PyDict>().into_any(), arguments.into_any()],
        )
    }
}
