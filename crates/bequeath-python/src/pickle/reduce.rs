//! Objects that are not of an exact builtin type: the calls that `__reduce_ex__` and its relatives ask for,
//! and plain instances, whose default reduction is written without making it.

use bequeath_pickle::opcode as op;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyFunction, PyString, PyTuple, PyType};

use crate::intern;

use super::classes::{self, Kind};
use super::library;
use super::look::{self, Object};
use super::plain::{self, Plain};
use super::save::{Saved, Saver, Stop};
use super::tables::{pickling_error, Tables};
use super::value;

/// What `__reduce_ex__` returned, checked.
pub(super) struct Reduction<'py> {
    callable: Bound<'py, PyAny>,
    arguments: Bound<'py, PyTuple>,
    state: Option<Bound<'py, PyAny>>,
    list_items: Option<Bound<'py, PyAny>>,
    dict_items: Option<Bound<'py, PyAny>>,
    state_setter: Option<Bound<'py, PyAny>>,
}

impl<'py> Reduction<'py> {
    /// A call without anything else.
    pub(super) fn call(callable: Bound<'py, PyAny>, arguments: Bound<'py, PyTuple>) -> Self {
        Self {
            callable,
            arguments,
            state: None,
            list_items: None,
            dict_items: None,
            state_setter: None,
        }
    }

    fn of(tuple: &Bound<'py, PyTuple>) -> PyResult<Self> {
        let py = tuple.py();
        if !(2..=6).contains(&tuple.len()) {
            let text = "tuple returned by __reduce__ must contain 2 through 6 elements";
            return Err(pickling_error(py, text));
        }
        let optional = |at: usize| tuple.get_item(at).ok().filter(|item| !item.is_none());
        let callable = tuple.get_item(0)?;
        if !callable.is_callable() {
            let text = "first item of the tuple returned by __reduce__ must be callable";
            return Err(pickling_error(py, text));
        }
        let Ok(arguments) = tuple.get_item(1)?.cast_into::<PyTuple>() else {
            let text = "second item of the tuple returned by __reduce__ must be a tuple";
            return Err(pickling_error(py, text));
        };
        let iterator = |at: usize, which: &str| -> PyResult<Option<Bound<'py, PyAny>>> {
            let Some(item) = optional(at) else {
                return Ok(None);
            };
            if item.cast::<pyo3::types::PyIterator>().is_err() {
                let name = item.get_type().name()?;
                return Err(pickling_error(
                    py,
                    format!("{which} element of the tuple returned by __reduce__ must be an iterator, not {name}"),
                ));
            }
            Ok(Some(item))
        };
        let state_setter = optional(5);
        if let Some(setter) = state_setter.as_ref().filter(|setter| !setter.is_callable()) {
            let name = setter.get_type().name()?;
            return Err(pickling_error(
                py,
                format!("sixth element of the tuple returned by __reduce__ must be a function, not {name}"),
            ));
        }
        Ok(Self {
            callable,
            arguments,
            state: optional(2),
            list_items: iterator(3, "fourth")?,
            dict_items: iterator(4, "fifth")?,
            state_setter,
        })
    }
}

impl<'py> Saver<'_, 'py> {
    /// Writes an object that is not of an exact builtin type.
    pub(super) fn other(&mut self, object: Object<'_, 'py>, once: bool) -> Saved {
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
                    return self.reduced(object, &reduced);
                }
            }
        }
        if let Some(policy) = self.hooks.policy {
            if self.pure {
                if !policy.is_plain(&object, &class)? {
                    return Err(Stop::Impure);
                }
            } else if let Some(reduced) = policy.reduce(&object)? {
                return self.reduced(object, &reduced);
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
                    return Err(Stop::Unknown(object.to_owned().unbind()));
                };
                // Classes that hash by code of their own are none of a kind that gets further than this.
                if matches!(*kind, Kind::Ask) {
                    return Err(Stop::Impure);
                }
                if let Some(reducer) = self.registered(class)? {
                    if library::is_own_of_numpy(object, &reducer)? {
                        return self.global(object, None);
                    }
                    if !self.writes_by_itself(&kind, &reducer)? {
                        return Err(Stop::Impure);
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
            _ => Err(Stop::Impure),
        }
    }

    /// Whether a registered reducer is `copyreg`'s own of complex numbers.
    fn writes_by_itself(&self, kind: &Kind, reducer: &Bound<'py, PyAny>) -> PyResult<bool> {
        let own = &Tables::get(self.py)?.pickle_complex;
        let is_own = own
            .as_ref()
            .is_some_and(|own| reducer.is(own.bind(self.py)));
        Ok(is_own && matches!(kind, Kind::Complex) && self.writes_libraries())
    }

    /// Whether nobody wants to be asked about, or counts, the parts that a reduction would have had.
    fn writes_libraries(&self) -> bool {
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
            Kind::AskQuietly => self.ask_quietly(object, class)?,
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

    pub(super) fn reduced(
        &mut self,
        object: Object<'_, 'py>,
        reduced: &Bound<'py, PyAny>,
    ) -> Saved {
        if let Ok(name) = reduced.cast::<PyString>() {
            return self.global(object, Some(name.clone()));
        }
        let Ok(tuple) = reduced.cast::<PyTuple>() else {
            let text = "__reduce__ must return a string or tuple";
            return Err(pickling_error(self.py, text).into());
        };
        let reduction = Reduction::of(tuple)?;
        self.reduce(&reduction, Some(object))
    }

    /// A call that stands for a builtin container which this protocol has no opcode for.
    pub(super) fn reduced_to_list(&mut self, object: Object<'_, 'py>) -> Saved {
        let items = pyo3::types::PyList::empty(self.py);
        for item in object.try_iter()? {
            items.append(item?)?;
        }
        let arguments = PyTuple::new(self.py, [items])?;
        let call = Reduction::call(object.get_type().into_any(), arguments);
        self.full(|this| this.reduce(&call, Some(object)))
    }

    /// Bytes before protocol 3.
    pub(super) fn old_bytes(&mut self, object: Object<'_, 'py>) -> Saved {
        let py = self.py;
        let bytes = look::bytes(object);
        let call = if bytes.is_empty() {
            Reduction::call(object.get_type().into_any(), PyTuple::empty(py))
        } else {
            let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
            let encode = Tables::get(py)?.codecs_encode.bind(py).clone();
            let arguments = PyTuple::new(
                py,
                [PyString::new(py, &text), intern!(py, "latin1").clone()],
            )?;
            Reduction::call(encode, arguments)
        };
        self.full(|this| this.reduce(&call, Some(object)))
    }

    /// A bytearray before protocol 5.
    pub(super) fn old_bytearray(&mut self, object: Object<'_, 'py>) -> Saved {
        let py = self.py;
        let class = object.get_type().into_any();
        let bytes = look::bytearray(object);
        let arguments = if bytes.is_empty() {
            PyTuple::empty(py)
        } else {
            PyTuple::new(py, [look::new_bytes(py, bytes)?])?
        };
        let call = Reduction::call(class, arguments);
        self.full(|this| this.reduce(&call, Some(object)))
    }

    /// What is made on the way must be kept as long as it is remembered: only a full walk does that.
    pub(super) fn full(&mut self, write: impl FnOnce(&mut Self) -> Saved) -> Saved {
        if self.pure {
            return Err(Stop::Impure);
        }
        write(self)
    }

    /// Writes a reduction; `object` is what it stands for, if it is to be remembered.
    pub(super) fn reduce(
        &mut self,
        reduction: &Reduction<'py>,
        object: Option<Object<'_, 'py>>,
    ) -> Saved {
        let py = self.py;
        let protocol = self.encoder.protocol();
        let is_default =
            protocol >= 2 && reduction.callable.is(Tables::get(py)?.new_object.bind(py));
        let name = match protocol {
            2.. if !is_default => Self::attribute(&reduction.callable, intern!(py, "__name__"))?,
            _ => None,
        };
        let name = name.as_ref().and_then(|name| name.cast::<PyString>().ok());
        let name = name.and_then(|name| name.to_str().ok()).unwrap_or_default();
        if name == "__newobj_ex__" {
            self.new_object_with_keywords(reduction)?;
        } else if is_default || name == "__newobj__" {
            self.new_object(reduction, object)?;
        } else {
            self.save(reduction.callable.as_borrowed())?;
            self.save(reduction.arguments.as_any().as_borrowed())?;
            self.encoder.opcode(op::REDUCE);
        }
        if let Some(object) = object {
            if let Some(number) = self.memo.get(object) {
                // It was written on the way, through its own arguments.
                self.encoder.opcode(op::POP);
                self.encoder.get(number);
                return Ok(());
            }
            self.remember(object);
        }
        if let Some(items) = &reduction.list_items {
            self.list_items(items)?;
        }
        if let Some(items) = &reduction.dict_items {
            self.dict_items(items)?;
        }
        let Some(state) = &reduction.state else {
            return Ok(());
        };
        match (&reduction.state_setter, object) {
            (Some(setter), Some(object)) => {
                self.save(setter.as_borrowed())?;
                self.save(object)?;
                self.save(state.as_borrowed())?;
                self.encoder.opcode(op::TUPLE2);
                self.encoder.opcode(op::REDUCE);
                self.encoder.opcode(op::POP);
            }
            _ => {
                self.save(state.as_borrowed())?;
                self.encoder.opcode(op::BUILD);
            }
        }
        Ok(())
    }

    fn new_object(&mut self, reduction: &Reduction<'py>, object: Option<Object<'_, 'py>>) -> Saved {
        let py = self.py;
        let Ok(class) = reduction.arguments.get_item(0) else {
            return Err(pickling_error(py, "__newobj__ arglist is empty").into());
        };
        let own_class = object.is_some_and(|object| object.get_type().is(&class));
        if !own_class {
            Self::check_class(&class, object)?;
        }
        self.save(class.as_borrowed())?;
        if reduction.arguments.len() == 1 {
            self.encoder.opcode(op::EMPTY_TUPLE);
        } else {
            let rest = reduction.arguments.get_slice(1, reduction.arguments.len());
            self.save(rest.as_any().as_borrowed())?;
        }
        self.encoder.opcode(op::NEWOBJ);
        Ok(())
    }

    /// What `__newobj__` is given must be the object's class.
    fn check_class(class: &Bound<'py, PyAny>, object: Option<Object<'_, 'py>>) -> PyResult<()> {
        let py = class.py();
        if Self::attribute(class, intern!(py, "__new__"))?.is_none() {
            return Err(pickling_error(
                py,
                "args[0] from __newobj__ args has no __new__",
            ));
        }
        if let Some(object) = object {
            if !object.getattr(intern!(py, "__class__"))?.is(class) {
                let text = "args[0] from __newobj__ args has the wrong class";
                return Err(pickling_error(py, text));
            }
        }
        Ok(())
    }

    fn new_object_with_keywords(&mut self, reduction: &Reduction<'py>) -> Saved {
        let py = self.py;
        let arguments = &reduction.arguments;
        if arguments.len() != 3 {
            let text = format!(
                "length of the NEWOBJ_EX argument tuple must be exactly 3, not {}",
                arguments.len()
            );
            return Err(pickling_error(py, text).into());
        }
        let (class, positional, keywords) = (
            arguments.get_item(0)?,
            arguments.get_item(1)?,
            arguments.get_item(2)?,
        );
        if Self::attribute(&class, intern!(py, "__new__"))?.is_none() {
            return Err(
                pickling_error(py, "args[0] from __newobj_ex__ args has no __new__").into(),
            );
        }
        let wrong = |what: &str, must: &str, found: &Bound<'py, PyAny>| -> PyResult<PyErr> {
            let name = found.get_type().name()?;
            Ok(pickling_error(
                py,
                format!("{what} item from NEWOBJ_EX argument tuple must be a {must}, not {name}"),
            ))
        };
        let Ok(positional) = positional.cast::<PyTuple>() else {
            return Err(wrong("second", "tuple", &positional)?.into());
        };
        let Ok(keywords) = keywords.cast::<PyDict>() else {
            return Err(wrong("third", "dict", &keywords)?.into());
        };
        if self.encoder.protocol() >= 4 {
            self.save(class.as_borrowed())?;
            self.save(positional.as_any().as_borrowed())?;
            self.save(keywords.as_any().as_borrowed())?;
            self.encoder.opcode(op::NEWOBJ_EX);
            return Ok(());
        }
        // partial(cls.__new__, cls, *args, **kwargs)()
        let partial = Tables::get(py)?.partial.bind(py);
        let new = class.getattr(intern!(py, "__new__"))?;
        let all: Vec<_> = [new, class.clone()]
            .into_iter()
            .chain(positional.iter())
            .collect();
        let all = PyTuple::new(py, all)?;
        let bound = partial.call(all, Some(keywords))?;
        self.save(bound.as_borrowed())?;
        self.save(PyTuple::empty(py).as_any().as_borrowed())?;
        self.encoder.opcode(op::REDUCE);
        Ok(())
    }

    /// Writes an instance as its default reduction would be, without anybody's code.
    fn plain(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        plain: &Plain,
        once: bool,
    ) -> Saved {
        let state = look::instance_dict(object);
        if let Some(state) = state.as_ref().filter(|_| !self.pure) {
            if plain::is_overridden(state.as_borrowed()) {
                // An attribute of the instance stands in for a method of pickling.
                let py = self.py;
                let reduce = object.getattr(intern!(py, "__reduce_ex__"))?;
                let reduced = reduce.call1((self.encoder.protocol(),))?;
                return self.reduced(object, &reduced);
            }
        }
        self.class_of(class)?;
        self.encoder.opcode(op::EMPTY_TUPLE);
        self.encoder.opcode(op::NEWOBJ);
        if !self.made(object, once)? {
            return Ok(());
        }
        let state = state.filter(|state| look::dict_len(state.as_borrowed()) > 0);
        let slots = plain.has_slots() && plain.slots(object).next().is_some();
        if state.is_none() && !slots {
            return Ok(());
        }
        match &state {
            Some(state) => self.instance_state(state)?,
            None => self.encoder.none(),
        }
        if slots {
            self.slots_state(object, plain)?;
            self.encoder.opcode(op::TUPLE2);
        }
        self.encoder.opcode(op::BUILD);
        Ok(())
    }

    /// The second half of the state of an instance with slots.
    fn slots_state(&mut self, object: Object<'_, 'py>, plain: &Plain) -> Saved {
        if !self.pure {
            let state = PyDict::new(self.py);
            for (name, value) in plain.slots(object) {
                state.set_item(name, value)?;
            }
            return self.save(state.as_any().as_borrowed());
        }
        self.encoder.opcode(op::EMPTY_DICT);
        self.encoder.opcode(op::MARK);
        for (name, value) in plain.slots(object) {
            self.save(name.as_any().as_borrowed())?;
            self.save(value)?;
        }
        self.encoder.opcode(op::SETITEMS);
        Ok(())
    }

    /// An instance's dict, which normally only the instance and this function hold.
    fn instance_state(&mut self, state: &Bound<'py, PyAny>) -> Saved {
        if !self.pure {
            return self.save(state.as_borrowed());
        }
        if !look::is_dict(state.as_borrowed()) {
            return Err(Stop::Impure);
        }
        if self.open_tuples > 0 || !look::is_held_twice(state.as_borrowed()) {
            if plain::is_overridden(state.as_borrowed()) {
                return Err(Stop::Impure);
            }
            return self.save(state.as_borrowed());
        }
        self.encoder.opcode(op::EMPTY_DICT);
        let _deeper = look::Deeper::enter(self.py, c" while pickling an object")?;
        self.items_of_dict::<true>(state.as_borrowed())
    }

    /// Writes an attribute's name, unless it is one that pickling asks an instance for.
    #[inline]
    pub(super) fn attribute_name(&mut self, name: Object<'_, 'py>) -> Saved {
        if let Some((number, true)) = self.memo.find(name) {
            self.encoder.get(number);
            return Ok(());
        }
        if !look::is_str(name) || look::utf8(name).is_none_or(plain::is_asked_for) {
            return Err(Stop::Impure);
        }
        self.save(name)?;
        self.memo.check(name);
        Ok(())
    }
}
