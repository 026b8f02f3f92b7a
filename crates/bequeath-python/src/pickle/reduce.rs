//! Writing the calls that `__reduce_ex__` and its relatives ask for.

use bequeath_pickle::opcode as op;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::intern;

use super::look::{self, Exact, Object};
use super::reduction::{but_not, Reduced, Reduction};
use super::save::{Saved, Saver, Stop};
use super::tables::{pickling_error, Tables};
use super::value::Callables;
use super::version;

impl<'py> Saver<'_, 'py> {
    pub(super) fn reduced(
        &mut self,
        object: Object<'_, 'py>,
        reduced: &Bound<'py, PyAny>,
    ) -> Saved {
        if let Ok(name) = reduced.cast::<PyString>() {
            return self.global(object, Some(name.clone()));
        }
        let saved = self.reduced_to_call(object, reduced);
        self.noted_part(saved, Some(object), "object")
    }

    fn reduced_to_call(&mut self, object: Object<'_, 'py>, reduced: &Bound<'py, PyAny>) -> Saved {
        let Ok(tuple) = reduced.cast::<PyTuple>() else {
            let text = but_not("__reduce__ must return a string or tuple", reduced);
            return Err(pickling_error(self.py, text).into());
        };
        let reduction = Reduction::of(tuple)?;
        self.reduce(&reduction, Some(object))
    }

    /// Writes what is to stand in an object's place.
    pub(super) fn in_place(&mut self, object: Object<'_, 'py>, reduced: &Reduced<'py>) -> Saved {
        match reduced {
            Reduced::Said(value) => self.reduced(object, value),
            Reduced::Fresh(reduction) => self.fresh(reduction, object, false),
        }
    }

    /// Writes a reduction whose tuples nobody else has: they are not remembered.
    pub(super) fn fresh(
        &mut self,
        reduction: &Reduction<'py>,
        object: Object<'_, 'py>,
        once: bool,
    ) -> Saved {
        let has_items = reduction.list_items.is_some() || reduction.dict_items.is_some();
        if !self.writes_libraries() || has_items {
            return self.reduce(reduction, Some(object));
        }
        self.callable(&reduction.callable)?;
        self.unshared(reduction.arguments.as_any().as_borrowed())?;
        self.encoder.opcode(op::REDUCE);
        if !self.made(object, once)? {
            return Ok(());
        }
        let Some(state) = &reduction.state else {
            return Ok(());
        };
        let Some(setter) = &reduction.state_setter else {
            self.unshared(state.as_borrowed())?;
            self.encoder.opcode(op::BUILD);
            return Ok(());
        };
        self.callable(setter)?;
        self.save(object)?;
        self.unshared(state.as_borrowed())?;
        self.encoder.opcode(op::TUPLE2);
        self.encoder.opcode(op::REDUCE);
        self.encoder.opcode(op::POP);
        Ok(())
    }

    /// Writes what is called: the engine's own functions by their names, which nobody is asked for.
    fn callable(&mut self, callable: &Bound<'py, PyAny>) -> Saved {
        let object = callable.as_borrowed();
        if let Some(number) = self.memo.get(object) {
            self.encoder.get(number);
            return Ok(());
        }
        if self.hooks.reducer_override.is_some() || self.hooks.dispatch_table.is_some() {
            return self.save(object);
        }
        let Some(name) = Callables::get(self.py)?.name_of(callable) else {
            return self.save(object);
        };
        let engine = intern!(self.py, "bequeath._engine");
        self.save(engine.as_any().as_borrowed())?;
        self.encoder.text(name.as_bytes());
        self.encoder.opcode(op::STACK_GLOBAL);
        self.remember(object);
        Ok(())
    }

    /// Writes what lies in a container that was made for this pickle: if that has the only reference to it, no path of
    /// the program's leads there.
    fn unshared(&mut self, object: Object<'_, 'py>) -> Saved {
        if !look::is_single(object) {
            return self.save(object);
        }
        match look::exact(object) {
            Exact::Tuple => self.tuple_of(object, Self::unshared),
            Exact::Dict => self.dict(object, true),
            Exact::List => self.list(object, true),
            _ => self.save(object),
        }
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
            return Err(Stop::impure());
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
            2.. if !is_default && version::may_be_new_object(&reduction.callable) => {
                Self::attribute(&reduction.callable, intern!(py, "__name__"))?
            }
            _ => None,
        };
        let name = name.as_ref().and_then(|name| name.cast::<PyString>().ok());
        let name = name.and_then(|name| name.to_str().ok()).unwrap_or_default();
        if name == "__newobj_ex__" {
            self.new_object_with_keywords(reduction, object)?;
        } else if is_default || name == "__newobj__" {
            self.new_object(reduction, object)?;
        } else {
            let saved = self.save(reduction.callable.as_borrowed());
            self.noted_part(saved, object, "reconstructor")?;
            let saved = self.save(reduction.arguments.as_any().as_borrowed());
            self.noted_part(saved, object, "reconstructor arguments")?;
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
            self.list_items(items, object)?;
        }
        if let Some(items) = &reduction.dict_items {
            self.dict_items(items, object)?;
        }
        let Some(state) = &reduction.state else {
            return Ok(());
        };
        match (&reduction.state_setter, object) {
            (Some(setter), Some(object)) => {
                let saved = self.save(setter.as_borrowed());
                self.noted_part(saved, Some(object), "state setter")?;
                self.save(object)?;
                let saved = self.save(state.as_borrowed());
                self.noted_part(saved, Some(object), "state")?;
                self.encoder.opcode(op::TUPLE2);
                self.encoder.opcode(op::REDUCE);
                self.encoder.opcode(op::POP);
            }
            _ => {
                let saved = self.save(state.as_borrowed());
                self.noted_part(saved, object, "state")?;
                self.encoder.opcode(op::BUILD);
            }
        }
        Ok(())
    }

    fn new_object(&mut self, reduction: &Reduction<'py>, object: Option<Object<'_, 'py>>) -> Saved {
        let py = self.py;
        let Ok(class) = reduction.arguments.get_item(0) else {
            let text = if version::HAS_NOTES {
                "__newobj__ expected at least 1 argument, got 0"
            } else {
                "__newobj__ arglist is empty"
            };
            return Err(pickling_error(py, text).into());
        };
        let own_class = object.is_some_and(|object| object.get_type().is(&class));
        if !own_class {
            Self::check_class(&class, object)?;
        }
        let saved = self.save(class.as_borrowed());
        self.noted_part(saved, object, "class")?;
        if reduction.arguments.len() == 1 {
            self.encoder.opcode(op::EMPTY_TUPLE);
        } else {
            let rest = reduction.arguments.get_slice(1, reduction.arguments.len());
            let saved = self.save(rest.as_any().as_borrowed());
            self.noted_part(saved, object, "__new__ arguments")?;
        }
        self.encoder.opcode(op::NEWOBJ);
        Ok(())
    }

    /// What `__newobj__` is given must be the object's class.
    fn check_class(class: &Bound<'py, PyAny>, object: Option<Object<'_, 'py>>) -> PyResult<()> {
        let py = class.py();
        if Self::attribute(class, intern!(py, "__new__"))?.is_none() {
            let text = if version::HAS_NOTES {
                "first argument to __newobj__() has no __new__"
            } else {
                "args[0] from __newobj__ args has no __new__"
            };
            return Err(pickling_error(py, text));
        }
        if let Some(object) = object {
            let own = object.getattr(intern!(py, "__class__"))?;
            if !own.is(class) {
                let text = if version::HAS_NOTES {
                    let (own, given) = (own.repr()?, class.repr()?);
                    format!("first argument to __newobj__() must be {own}, not {given}")
                } else {
                    "args[0] from __newobj__ args has the wrong class".to_owned()
                };
                return Err(pickling_error(py, text));
            }
        }
        Ok(())
    }

    fn new_object_with_keywords(
        &mut self,
        reduction: &Reduction<'py>,
        object: Option<Object<'_, 'py>>,
    ) -> Saved {
        let py = self.py;
        let arguments = &reduction.arguments;
        if arguments.len() != 3 {
            let len = arguments.len();
            let text = if version::HAS_NOTES {
                format!("__newobj_ex__ expected 3 arguments, got {len}")
            } else {
                format!("length of the NEWOBJ_EX argument tuple must be exactly 3, not {len}")
            };
            return Err(pickling_error(py, text).into());
        }
        let (class, positional, keywords) = (
            arguments.get_item(0)?,
            arguments.get_item(1)?,
            arguments.get_item(2)?,
        );
        if Self::attribute(&class, intern!(py, "__new__"))?.is_none() {
            let text = if version::HAS_NOTES {
                "first argument to __newobj_ex__() has no __new__"
            } else {
                "args[0] from __newobj_ex__ args has no __new__"
            };
            return Err(pickling_error(py, text).into());
        }
        let wrong = |what: &str, must: &str, found: &Bound<'py, PyAny>| -> PyResult<PyErr> {
            let name = found.get_type().name()?;
            let text = if version::HAS_NOTES {
                format!("{what} argument to __newobj_ex__() must be a {must}, not {name}")
            } else {
                format!("{what} item from NEWOBJ_EX argument tuple must be a {must}, not {name}")
            };
            Ok(pickling_error(py, text))
        };
        let Ok(positional) = positional.cast::<PyTuple>() else {
            return Err(wrong("second", "tuple", &positional)?.into());
        };
        let Ok(keywords) = keywords.cast::<PyDict>() else {
            return Err(wrong("third", "dict", &keywords)?.into());
        };
        if self.encoder.protocol() >= 4 {
            let saved = self.save(class.as_borrowed());
            self.noted_part(saved, object, "class")?;
            let saved = self.save(positional.as_any().as_borrowed());
            self.noted_part(saved, object, "__new__ arguments")?;
            let saved = self.save(keywords.as_any().as_borrowed());
            self.noted_part(saved, object, "__new__ arguments")?;
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
        let saved = self.save(bound.as_borrowed());
        self.noted_part(saved, object, "reconstructor")?;
        self.save(PyTuple::empty(py).as_any().as_borrowed())?;
        self.encoder.opcode(op::REDUCE);
        Ok(())
    }
}
