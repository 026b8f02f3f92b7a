//! Objects that are not of an exact builtin type: who is asked, and which are known well enough to be written unasked.

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyFunction, PyTuple, PyType};

use super::classes::{self, Kind};
use super::library;
use super::look::{self, Object};
use super::plain;
use super::reduction::{Reduced, Reduction};
use super::save::{Saved, Saver, Stop};
use super::tables::{pickling_error, Tables};
use super::value;
use crate::intern;

impl<'py> Saver<'_, 'py> {
    /// Writes an object that is not of an exact builtin type.
    pub(super) fn other(&mut self, object: Object<'_, 'py>, once: bool) -> Saved {
        self.without_collector();
        if let Some(ask) = &self.hooks.reducer_override {
            let reduced = ask.call1((object,))?;
            if !reduced.is(pyo3::types::PyNotImplemented::get(self.py)) {
                return self.reduced(object, &reduced);
            }
        }
        let class = object.get_type();
        if let Some(to) = self.hooks.by_value {
            // As without: dispatch tables are not asked for functions and for classes of `type`.
            let asked_first = !class.is(self.py.get_type::<PyType>())
                && !class.is(self.py.get_type::<PyFunction>());
            if !(asked_first && self.registered(&class)?.is_some()) {
                if let Some(reduced) = value::reduce(&object, to)? {
                    return self.in_place(object, &Reduced::Fresh(reduced));
                }
            }
        }
        if let Some(policy) = self.hooks.policy {
            if self.pure {
                if !policy.is_plain(&object, &class)? {
                    return Err(Stop::impure());
                }
            } else if let Some(reduced) = policy.reduce(&object)? {
                return self.in_place(object, &reduced);
            }
        }
        if self.pure {
            return self.other_purely(object, &class, once);
        }
        if class.is(self.py.get_type::<PyType>()) {
            return self.class(object);
        }
        if class.is(self.py.get_type::<PyFunction>()) {
            return self.global(object, None);
        }
        let kind = classes::of(&class, object)?;
        if let Some(reducer) = self.registered(&class)? {
            if self.writes_by_itself(&kind, &reducer)? {
                return self.complex(object, &class, once);
            }
            let reduced = reducer.call1((object,))?;
            return self.reduced(object, &reduced);
        }
        if object.is_instance_of::<PyType>() {
            return self.global(object, None);
        }
        if object.is_exact_instance_of::<PyCFunction>() {
            // Its own reduction would return this name.
            let function = object.to_owned();
            if let Some((module, name)) = plain::visible_name(&function)? {
                return self.named(&function, &module, &name, &name, false);
            }
        }
        if self.known(object, &class, &kind, once)? {
            return Ok(());
        }
        let reduced = self.ask(object, &class)?;
        self.reduced(object, &reduced)
    }

    /// The same in pure mode, where nothing changes what a class is.
    fn other_purely(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        let address = class.as_ptr() as usize;
        let kind = match self.kinds.get(address) {
            Some(kind) => kind.clone(),
            None => {
                let Some(kind) = classes::known(class) else {
                    return Err(Stop::unknown(object));
                };
                // Classes that hash by code of their own are none of a kind that gets further than this.
                if matches!(*kind, Kind::Ask) {
                    return Err(Stop::impure());
                }
                if let Some(reducer) = self.registered(class)? {
                    if library::is_own_of_numpy(object, &reducer)? {
                        return self.global(object, None);
                    }
                    if !self.writes_by_itself(&kind, &reducer)? {
                        return Err(Stop::impure());
                    }
                }
                self.kinds.set(address, kind.clone());
                kind
            }
        };
        match &*kind {
            Kind::Class if class.is(self.py.get_type::<PyType>()) => self.class(object),
            Kind::Class | Kind::Function | Kind::BuiltinFunction => self.global(object, None),
            _ if self.known(object, class, &kind, once)? => Ok(()),
            _ => Err(Stop::impure()),
        }
    }

    /// Whether a registered reducer is `copyreg`'s own of complex numbers.
    fn writes_by_itself(&self, kind: &Kind, reducer: &Bound<'py, PyAny>) -> PyResult<bool> {
        let own = &Tables::get(self.py)?.pickle_complex;
        let is_own = reducer.is(own.bind(self.py));
        Ok(is_own && matches!(kind, Kind::Complex) && self.writes_libraries())
    }

    /// Whether nobody wants to be asked about, or counts, the parts that a reduction would have had.
    pub(super) fn writes_libraries(&self) -> bool {
        self.encoder.protocol() >= 4 && self.hooks.persistent_id.is_none() && !self.hooks.fast
    }

    /// Writes an object of a class whose reduction is known; says no where this one's is not.
    fn known(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        kind: &Kind,
        once: bool,
    ) -> Result<bool, Stop> {
        if let Kind::Plain(plain) = kind {
            if self.encoder.protocol() < 2 {
                return Ok(false);
            }
            self.plain(object, class, plain, once)?;
            return Ok(true);
        }
        if !self.writes_libraries() {
            return Ok(false);
        }
        match kind {
            Kind::Moment(moment) => self.moment(object, class, *moment, once)?,
            Kind::Tuple => self.named_tuple(object, class, once)?,
            Kind::Decimal => self.decimal(object, class, once)?,
            Kind::DefaultDict => self.default_dict(object, class, once)?,
            Kind::Deque => self.deque(object, class, once)?,
            Kind::Range => self.range(object, class, once)?,
            Kind::Counter => self.counter(object, class, once)?,
            Kind::OrderedDict => return self.ordered_dict(object, class, once),
            Kind::Fraction(slots) => return self.fraction(object, class, *slots, once),
            Kind::Uuid(slots) => return self.uuid(object, class, *slots, once),
            Kind::Path(slot) => return self.path(object, class, *slot, once),
            Kind::Member => return self.member(object, class, once),
            Kind::AskQuietly => self.ask_quietly(object, class, once)?,
            Kind::Complex => self.complex(object, class, once)?,
            Kind::Ask | Kind::Class | Kind::Function | Kind::BuiltinFunction | Kind::Plain(_) => {
                return Ok(false)
            }
        }
        Ok(true)
    }

    /// What the object's own `__reduce_ex__` returns.
    pub(super) fn ask(
        &self,
        object: Object<'_, 'py>,
        kind: &Bound<'py, PyType>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let name = intern!(py, "__reduce_ex__");
        let error = match object.call_method1(name, (self.encoder.protocol(),)) {
            Ok(reduced) => return Ok(reduced),
            Err(error) if error.is_instance_of::<PyAttributeError>(py) => error,
            Err(error) => return Err(error),
        };
        // Either its own code raised that, or a strange object has no such method.
        let object = object.to_owned();
        if Self::attribute(&object, name)?.is_some() {
            return Err(error);
        }
        if let Some(reduce) = Self::attribute(&object, intern!(py, "__reduce__"))? {
            return reduce.call0();
        }
        let (name, repr) = (kind.name()?, object.repr()?);
        Err(pickling_error(
            py,
            format!("can't pickle '{name}' object: {repr}"),
        ))
    }

    /// The reducer that a dispatch table has for a type.
    fn registered(&self, kind: &Bound<'py, PyType>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(table) = &self.hooks.dispatch_table else {
            let table = Tables::get(self.py)?.dispatch_table.bind(self.py);
            return match table.cast::<PyDict>() {
                Ok(table) => {
                    look::dict_get(table.as_any().as_borrowed(), kind.as_any().as_borrowed())
                }
                Err(_) => Ok(None),
            };
        };
        match table.get_item(kind) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_instance_of::<pyo3::exceptions::PyLookupError>(self.py) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks an object whose answer runs no code, and keeps the answer if parts of it are remembered.
    pub(super) fn ask_quietly(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        let reduced = self.ask(object, class)?;
        if !self.pure {
            return self.reduced(object, &reduced);
        }
        let Ok(tuple) = reduced.cast_into_exact::<PyTuple>() else {
            return Err(Stop::impure());
        };
        let reduction = Reduction::of(&tuple)?;
        // From here on the parts are the reduction's alone, unless the object has them, too.
        drop(tuple);
        let remembered = self.memo.len() + usize::from(!once);
        self.fresh(&reduction, object, once)?;
        if self.memo.len() > remembered {
            for part in reduction.parts() {
                self.memo.keep(part).map_err(PyErr::from)?;
            }
        }
        Ok(())
    }
}
