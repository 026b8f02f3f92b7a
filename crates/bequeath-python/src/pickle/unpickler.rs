//! `Unpickler`, for whoever reads several objects, or wants to be asked.

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bequeath_pickle::Decoder;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::PyTraverseError;

use crate::intern;

use super::allow::Allow;
use super::failure::Failure;
use super::file::File;
use super::find::{current_name, find_class};
use super::objects::Objects;
use super::pickler::{check_idle, keeps_memo, memo_items, overridden};
use super::tables::unpickling_error;

/// Settings of a reader that asks nobody.
pub(super) fn objects<'py>(
    py: Python<'py>,
    fix_imports: bool,
    encoding: &str,
    errors: &str,
    buffers: Option<&Bound<'py, PyAny>>,
    allow: Option<&Bound<'py, PyAny>>,
) -> PyResult<Objects<'py>> {
    let text = |given: &str, default| match given {
        given if given == default => Cow::Borrowed(default),
        given => Cow::Owned(given.to_owned()),
    };
    let buffers = buffers.filter(|buffers| !buffers.is_none());
    Ok(Objects {
        py,
        find_class: None,
        persistent_load: None,
        buffers: buffers
            .map(|buffers| Ok::<_, PyErr>(buffers.try_iter()?.into_any()))
            .transpose()?,
        encoding: text(encoding, "ASCII"),
        errors: text(errors, "strict"),
        fix_imports,
        protocol: 0,
        steps: 0,
        allow: Allow::of(allow)?,
    })
}

#[derive(Default)]
struct State {
    file: Option<Py<PyAny>>,
    buffers: Option<Py<PyAny>>,
    encoding: Cow<'static, str>,
    errors: Cow<'static, str>,
    fix_imports: bool,
    protocol: u8,
    allow: Option<Box<Allow>>,
    memo: Vec<(u64, Py<PyAny>)>,
    /// It reads now: since 3.14 nobody uses it for anything else meanwhile.
    busy: bool,
}

/// Reads objects from a file that a pickler wrote.
#[pyclass(
    subclass,
    dict,
    weakref,
    frozen,
    immutable_type,
    module = "bequeath.pickle"
)]
#[derive(Default)]
pub struct Unpickler(Mutex<State>);

impl Unpickler {
    /// Never held while Python runs.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Unpickler {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (file, *, fix_imports=true, encoding="ASCII", errors="strict", buffers=None, allow=None))]
    fn __init__(
        &self,
        file: &Bound<'_, PyAny>,
        fix_imports: bool,
        encoding: &str,
        errors: &str,
        buffers: Option<&Bound<'_, PyAny>>,
        allow: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        check_idle(self.state().busy, "Unpickler")?;
        File::of(file)?;
        let objects = objects(file.py(), fix_imports, encoding, errors, buffers, allow)?;
        let mut state = State {
            file: Some(file.clone().unbind()),
            buffers: objects.buffers.map(Bound::unbind),
            encoding: objects.encoding,
            errors: objects.errors,
            fix_imports,
            allow: objects.allow,
            ..State::default()
        };
        std::mem::swap(&mut *self.state(), &mut state);
        Ok(())
    }

    /// The object that the next pickle in the file says.
    fn load<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, object) = (slf.py(), slf.as_any());
        let (mut source, mut objects, memo) = {
            let mut state = slf.get().state();
            let Some(file) = &state.file else {
                let name = slf.get_type().name()?;
                let text = format!("Unpickler.__init__() was not called by {name}.__init__()");
                return Err(unpickling_error(py, text));
            };
            check_idle(state.busy, "Unpickler")?;
            let file = file.bind(py).clone();
            let objects = Objects {
                py,
                find_class: None,
                persistent_load: None,
                buffers: state
                    .buffers
                    .as_ref()
                    .map(|buffers| buffers.bind(py).clone()),
                encoding: state.encoding.clone(),
                errors: state.errors.clone(),
                fix_imports: state.fix_imports,
                protocol: 0,
                steps: 0,
                // The list stays: a load inside of this one is restricted, too.
                allow: state.allow.as_ref().map(|allow| allow.again(py)),
            };
            let memo = std::mem::take(&mut state.memo);
            drop(state);
            (File::of(&file)?, objects, memo)
        };
        objects.find_class = overridden::<Self>(object, intern!(py, "find_class"))?;
        objects.persistent_load = overridden::<Self>(object, intern!(py, "persistent_load"))?;
        let mut decoder = Decoder::new();
        for (number, value) in memo {
            let remembered = decoder.remember(number, value.into_bound(py));
            remembered.map_err(|error| Failure::from(error).0)?;
        }
        slf.get().state().busy = true;
        // Overridden lookups that call this class's own need to know.
        let loaded = decoder.read(&mut source, &mut objects);
        let settled = source.settle();
        let memo = decoder
            .remembered()
            .map(|(number, value)| (number, value.clone().unbind()))
            .collect();
        let replaced = {
            let mut state = slf.get().state();
            (state.memo, state.busy) = (memo, false);
            state.protocol = decoder.protocol();
            std::mem::replace(&mut state.allow, objects.allow.take())
        };
        drop(replaced);
        let loaded = loaded.map_err(|Failure(error)| error)?;
        settled?;
        Ok(loaded)
    }

    /// The object that a module has under a name; subclasses may allow less, or look elsewhere.
    #[pyo3(signature = (module_name, global_name, /))]
    fn find_class<'py>(
        &self,
        module_name: &Bound<'py, PyString>,
        global_name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (fix_imports, protocol, allow) = {
            let state = self.state();
            let allow = state
                .allow
                .as_ref()
                .map(|allow| allow.again(module_name.py()));
            (state.fix_imports, state.protocol, allow)
        };
        let Some(mut allow) = allow else {
            return find_class(module_name, global_name, fix_imports, protocol);
        };
        let (module, name) = current_name(module_name, global_name, fix_imports, protocol)?;
        allow.find(module.py(), module.to_str()?, name.to_str()?)
    }

    /// Refuses; subclasses return what an id stands for.
    #[allow(clippy::unused_self)]
    fn persistent_load(&self, pid: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        Err(unpickling_error(
            pid.py(),
            "A load persistent id instruction was encountered, but no persistent_load function was specified.",
        ))
    }

    #[getter]
    fn get_memo(slf: Py<Self>) -> UnpicklerMemoProxy {
        UnpicklerMemoProxy(slf)
    }

    #[setter]
    fn set_memo(&self, memo: &Bound<'_, PyAny>) -> PyResult<()> {
        let items = memo_items(memo, "an UnpicklerMemoProxy", UnpicklerMemoProxy::copy)?;
        let mut new = Vec::new();
        for (key, value) in items {
            let key: i64 = key
                .extract()
                .map_err(|_| PyTypeError::new_err("memo key must be integers"))?;
            let Ok(key) = u64::try_from(key) else {
                return Err(PyValueError::new_err("memo key must be positive integers."));
            };
            new.push((key, value.unbind()));
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
        let state = self.state();
        size_of::<Self>()
            + state.memo.capacity() * size_of::<(u64, Py<PyAny>)>()
            + state.encoding.len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(state) = self.0.try_lock() else {
            return Ok(());
        };
        visit.call(&state.file)?;
        visit.call(&state.buffers)?;
        if let Some(allow) = &state.allow {
            allow.traverse(&visit)?;
        }
        state
            .memo
            .iter()
            .try_for_each(|(_, object)| visit.call(object))
    }

    fn __clear__(&self) {
        let old = self
            .0
            .try_lock()
            .map(|mut state| std::mem::take(&mut *state));
        drop(old);
    }
}

/// An unpickler's memo: `{number: object}`.
#[pyclass(frozen, immutable_type, module = "bequeath.pickle")]
pub struct UnpicklerMemoProxy(Py<Unpickler>);

#[pymethods]
impl UnpicklerMemoProxy {
    /// Forgets everything.
    fn clear(&self) {
        let old = std::mem::take(&mut self.0.get().state().memo);
        drop(old);
    }

    /// What is remembered, as a dict.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let items = PyDict::new(py);
        let memo: Vec<_> = {
            let state = self.0.get().state();
            state
                .memo
                .iter()
                .map(|(number, object)| (*number, object.clone_ref(py)))
                .collect()
        };
        for (number, object) in memo {
            items.set_item(number, object)?;
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
