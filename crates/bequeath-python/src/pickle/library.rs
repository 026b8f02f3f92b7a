//! Types of the standard library and of numpy that programs send often. What their `__reduce__` would say is
//! written without asking them where that is known, or they are asked where only C code answers.

use bequeath_pickle::opcode as op;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyList, PyModule, PyString, PyTuple, PyType};

use super::classes::{are_default, in_classes, is_method_of, Kind};
use super::containers::changed;
use super::look::{self, Calendar, Moment, Object};
use super::save::{Saved, Saver, Stop};
use super::tables::Tables;
use super::version;
use crate::intern;

/// Their C code says what they reduce to, and runs no other.
const QUIET: [(&str, &str); 3] = [
    ("builtins", "slice"),
    ("datetime", "timezone"),
    ("numpy", "ndarray"),
];

/// Which of these types a class is, if it is one, untouched.
pub(super) fn kind(
    class: &Bound<'_, PyType>,
    instance: &Bound<'_, PyAny>,
) -> PyResult<Option<Kind>> {
    let py = class.py();
    let module = class.getattr(intern!(py, "__module__"))?;
    let (Ok(module), name) = (module.cast_into::<PyString>(), class.qualname()?) else {
        return Ok(None);
    };
    let (module, name) = (module.to_string(), name.to_string());
    let address = class.as_ptr() as usize;
    let found = match (module.as_str(), name.as_str()) {
        ("datetime", "date" | "time" | "datetime" | "timedelta") => {
            let moment = Calendar::look_up(py).and_then(|calendar| calendar.which(address));
            moment.map(Kind::Moment)
        }
        ("builtins", "complex") => Some(Kind::Complex),
        ("decimal", "Decimal") => {
            let from = py
                .import("_decimal")
                .and_then(|module| module.getattr("Decimal"));
            from.is_ok_and(|found| found.is(class))
                .then_some(Kind::Decimal)
        }
        ("builtins", "range") => Some(Kind::Range),
        ("collections", "deque") => Some(Kind::Deque),
        ("collections", "defaultdict") => Some(Kind::DefaultDict),
        ("collections", "OrderedDict") => {
            let from = py.import("_collections")?.getattr("OrderedDict");
            from.is_ok_and(|found| found.is(class))
                .then_some(Kind::OrderedDict)
        }
        ("collections", "Counter") => {
            is_method_of(class, intern!(py, "__reduce__"), "collections")?.then_some(Kind::Counter)
        }
        ("fractions", "Fraction") => fraction(class)?,
        ("uuid", "UUID") => uuid(class)?,
        ("pathlib" | "pathlib._local", _) => path(class, instance, &module)?,
        pair if QUIET.contains(&pair) => Some(Kind::AskQuietly),
        ("numpy" | "numpy.dtypes", _) if is_of_numpy(class)? => Some(Kind::AskQuietly),
        _ => None,
    };
    if found.is_none() {
        return Ok(None);
    }
    // Asked once, it has imported whatever it needs.
    if matches!(found, Some(Kind::AskQuietly)) {
        instance.call_method1(intern!(py, "__reduce_ex__"), (5,))?;
    }
    // A class of somebody else's can bear the same name.
    let modules = Tables::get(py)?.modules.bind(py);
    let real = modules
        .get_item(&module)
        .and_then(|module| module.getattr(name.as_str()));
    Ok(found.filter(|_| real.is_ok_and(|real| real.is(class))))
}

/// Data types and scalars that hold no objects.
fn is_of_numpy(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    let numpy = py.import("numpy")?;
    let from = |name: &str| -> PyResult<Bound<'_, PyAny>> { numpy.getattr(name) };
    Ok(class.is_subclass(&from("dtype")?)?
        || class.is_subclass(&from("number")?)?
        || class.is(&from("bool_")?))
}

/// Whether an object is numpy's class of data types, and the reducer registered for it numpy's own, which says its name.
pub(super) fn is_own_of_numpy(
    object: Object<'_, '_>,
    reducer: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let py = object.py();
    let text = |name: &Bound<'_, PyString>| -> PyResult<Option<String>> {
        let found = reducer.getattr_opt(name)?;
        Ok(found.and_then(|found| found.extract().ok()))
    };
    if !reducer.is_exact_instance_of::<PyFunction>()
        || text(intern!(py, "__name__"))?.as_deref() != Some("_DType_reduce")
        || text(intern!(py, "__module__"))?.is_none_or(|module| !module.starts_with("numpy."))
    {
        return Ok(false);
    }
    let Ok(modules) = Tables::get(py)?.modules.bind(py).cast::<PyDict>() else {
        return Ok(false);
    };
    let Some(numpy) = modules.get_item(intern!(py, "numpy"))? else {
        return Ok(false);
    };
    let Ok(numpy) = numpy.cast_into_exact::<PyModule>() else {
        return Ok(false);
    };
    let class = numpy.dict().get_item(intern!(py, "dtype"))?;
    Ok(class.is_some_and(|class| object.is(&class)))
}

fn default_reduction(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    are_default(
        class,
        &[
            intern!(py, "__reduce_ex__"),
            intern!(py, "__getattribute__"),
            intern!(py, "__getattr__"),
            intern!(py, "__class__"),
        ],
    )
}

fn slot_of(class: &Bound<'_, PyType>, name: &str) -> PyResult<Option<usize>> {
    let member = in_classes(class, &PyString::new(class.py(), name))?;
    Ok(member.and_then(|member| version::slot_offset(&member)))
}

fn fraction(class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    let py = class.py();
    if !default_reduction(class)? || !is_method_of(class, intern!(py, "__reduce__"), "fractions")? {
        return Ok(None);
    }
    let (upper, lower) = (
        slot_of(class, "_numerator")?,
        slot_of(class, "_denominator")?,
    );
    Ok(upper
        .zip(lower)
        .map(|(upper, lower)| Kind::Fraction([upper, lower])))
}

fn uuid(class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    let py = class.py();
    let own = default_reduction(class)?
        && are_default(class, &[intern!(py, "__reduce__")])?
        && in_classes(class, intern!(py, "__getnewargs__"))?.is_none()
        && is_method_of(class, intern!(py, "__getstate__"), "uuid")?;
    if !own {
        return Ok(None);
    }
    let (number, safe) = (slot_of(class, "int")?, slot_of(class, "is_safe")?);
    Ok(number
        .zip(safe)
        .map(|(number, safe)| Kind::Uuid([number, safe])))
}

/// A path whose reduction is its class and a list of parts that it has; checked with one of them.
fn path(
    class: &Bound<'_, PyType>,
    path: &Bound<'_, PyAny>,
    module: &str,
) -> PyResult<Option<Kind>> {
    let py = class.py();
    if !default_reduction(class)? || !is_method_of(class, intern!(py, "__reduce__"), module)? {
        return Ok(None);
    }
    for name in ["_parts", "_raw_paths"] {
        let Some(offset) = slot_of(class, name)? else {
            continue;
        };
        let Some(parts) = version::slot(path.as_borrowed(), offset) else {
            continue;
        };
        let Ok(parts) = parts.cast_exact::<PyList>() else {
            continue;
        };
        let expected = PyTuple::new(py, [class.as_any(), parts.to_tuple().as_any()])?;
        if path.call_method0(intern!(py, "__reduce__"))?.eq(expected)? {
            return Ok(Some(Kind::Path(offset)));
        }
    }
    Ok(None)
}

impl<'py> Saver<'_, 'py> {
    /// Writes a call whose callable and arguments are written.
    fn called(&mut self, object: Object<'_, 'py>, once: bool) -> Saved {
        self.encoder.opcode(op::REDUCE);
        self.made(object, once).map(|_| ())
    }

    /// Remembers an object that was just made; says no where it was written on the way, through its own parts.
    pub(super) fn made(&mut self, object: Object<'_, 'py>, once: bool) -> Result<bool, Stop> {
        if !once {
            if let Some(number) = self.memo.get(object) {
                self.encoder.opcode(op::POP);
                self.encoder.get(number);
                return Ok(false);
            }
            self.remember(object);
        }
        Ok(true)
    }

    /// Writes an object's class.
    #[inline]
    pub(super) fn class_of(&mut self, class: &Bound<'py, PyType>) -> Saved {
        let class = class.as_any().as_borrowed();
        match self.memo.get(class) {
            Some(number) => {
                self.encoder.get(number);
                Ok(())
            }
            None => self.save(class),
        }
    }

    pub(super) fn moment(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        moment: Moment,
        once: bool,
    ) -> Saved {
        self.class_of(class)?;
        let zone = match moment {
            Moment::Date => {
                self.encoder.binary(&look::date_bytes(object));
                None
            }
            Moment::Time => {
                let (bytes, zone) = look::time_parts(object);
                self.encoder.binary(&bytes);
                zone
            }
            Moment::DateTime => {
                let (bytes, zone) = look::datetime_parts(object);
                self.encoder.binary(&bytes);
                zone
            }
            Moment::Delta => {
                for part in look::delta_parts(object) {
                    self.encoder.int(part);
                }
                self.encoder.opcode(op::TUPLE3);
                return self.called(object, once);
            }
        };
        match zone {
            Some(zone) => {
                self.open_tuples += usize::from(!once);
                self.save(zone)?;
                self.open_tuples -= usize::from(!once);
                self.encoder.opcode(op::TUPLE2);
            }
            None => self.encoder.opcode(op::TUPLE1),
        }
        self.called(object, once)
    }

    pub(super) fn decimal(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        self.class_of(class)?;
        let text = object.str()?;
        self.encoder.text(text.to_str()?.as_bytes());
        self.encoder.opcode(op::TUPLE1);
        self.called(object, once)
    }

    pub(super) fn complex(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        self.class_of(class)?;
        let number = object
            .cast::<pyo3::types::PyComplex>()
            .map_err(PyErr::from)?;
        let (real, imaginary) = {
            use pyo3::types::PyComplexMethods;
            (number.real(), number.imag())
        };
        self.encoder.float(real);
        self.encoder.float(imaginary);
        self.encoder.opcode(op::TUPLE2);
        self.called(object, once)
    }

    /// Class and two slots; nothing is written where one of them is no int.
    pub(super) fn fraction(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        slots: [usize; 2],
        once: bool,
    ) -> Result<bool, Stop> {
        let parts = slots.map(|offset| version::slot(object, offset));
        let [Some(upper), Some(lower)] = parts else {
            return Ok(false);
        };
        if !look::is_int(upper) || !look::is_int(lower) {
            return Ok(false);
        }
        self.class_of(class)?;
        self.save(upper)?;
        self.save(lower)?;
        self.encoder.opcode(op::TUPLE2);
        self.called(object, once)?;
        Ok(true)
    }

    /// Class and number; nothing is written where more is known of it.
    pub(super) fn uuid(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        slots: [usize; 2],
        once: bool,
    ) -> Result<bool, Stop> {
        let py = self.py;
        let parts = slots.map(|offset| version::slot(object, offset));
        let [Some(number), Some(safe)] = parts else {
            return Ok(false);
        };
        let own = look::instance_dict(safe);
        let name = own.map(|own| own.get_item(intern!(py, "_name_")));
        let unknown = match name {
            Some(Ok(name)) => name
                .cast_exact::<PyString>()
                .is_ok_and(|name| name == "unknown"),
            _ => false,
        };
        if !unknown || !look::is_int(number) {
            return Ok(false);
        }
        self.class_of(class)?;
        self.encoder.opcode(op::EMPTY_TUPLE);
        self.encoder.opcode(op::NEWOBJ);
        self.made(object, once)?;
        self.encoder.opcode(op::EMPTY_DICT);
        self.save(intern!(py, "int").as_any().as_borrowed())?;
        self.save(number)?;
        self.encoder.opcode(op::SETITEM);
        self.encoder.opcode(op::BUILD);
        Ok(true)
    }

    pub(super) fn path(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        slot: usize,
        once: bool,
    ) -> Result<bool, Stop> {
        let parts = version::slot(object, slot).and_then(|parts| parts.cast_exact::<PyList>().ok());
        let Some(parts) = parts else {
            return Ok(false);
        };
        if !parts
            .iter()
            .all(|part| part.is_exact_instance_of::<PyString>())
        {
            return Ok(false);
        }
        self.class_of(class)?;
        self.encoder.opcode(op::MARK);
        let parts = parts.as_any().as_borrowed();
        for at in 0..look::list_len(parts) {
            if let Some(part) = look::list_item(parts, at) {
                self.item(part)?;
            }
        }
        self.encoder.opcode(op::TUPLE);
        self.called(object, once)?;
        Ok(true)
    }

    pub(super) fn member(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Result<bool, Stop> {
        let own = look::instance_dict(object);
        let value = own.and_then(|own| own.get_item(intern!(self.py, "_value_")).ok());
        let Some(value) = value else {
            return Ok(false);
        };
        self.class_of(class)?;
        self.open_tuples += 1;
        self.save(value.as_borrowed())?;
        self.open_tuples -= 1;
        self.encoder.opcode(op::TUPLE1);
        self.called(object, once)?;
        Ok(true)
    }

    /// A tuple's items as the arguments of its class.
    pub(super) fn named_tuple(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        self.class_of(class)?;
        let len = look::tuple_len(object);
        if len > 3 {
            self.encoder.opcode(op::MARK);
        }
        self.open_tuples += usize::from(!once);
        for at in 0..len {
            self.save(look::tuple_item(object, at))?;
        }
        self.open_tuples -= usize::from(!once);
        self.encoder.opcode(match len {
            0 => op::EMPTY_TUPLE,
            1 => op::TUPLE1,
            2 => op::TUPLE2,
            3 => op::TUPLE3,
            _ => op::TUPLE,
        });
        self.encoder.opcode(op::NEWOBJ);
        self.made(object, once).map(|_| ())
    }

    pub(super) fn default_dict(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        let factory = object.getattr(intern!(self.py, "default_factory"))?;
        self.class_of(class)?;
        if factory.is_none() {
            self.encoder.opcode(op::EMPTY_TUPLE);
        } else {
            self.open_tuples += usize::from(!once);
            self.save(factory.as_borrowed())?;
            self.open_tuples -= usize::from(!once);
            self.encoder.opcode(op::TUPLE1);
        }
        self.encoder.opcode(op::REDUCE);
        if !self.made(object, once)? {
            return Ok(());
        }
        if look::dict_len(object) > 0 {
            self.exact_dict_items(object)?;
        }
        Ok(())
    }

    /// Nothing is written where it has attributes, or keys whose hash would run code.
    pub(super) fn ordered_dict(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Result<bool, Stop> {
        let own = look::instance_dict(object);
        if own.is_some_and(|own| look::dict_len(own.as_borrowed()) > 0) {
            return Ok(false);
        }
        let mut items = look::DictItems::of(object);
        while let Some((key, _)) = items.next() {
            if !look::hashes_quietly(key) {
                return Ok(false);
            }
        }
        self.class_of(class)?;
        self.encoder.opcode(op::EMPTY_TUPLE);
        self.encoder.opcode(op::REDUCE);
        self.made(object, once)?;
        let len = look::dict_len(object);
        if len == 0 {
            return Ok(true);
        }
        self.encoder.opcode(op::MARK);
        for key in object.try_iter()? {
            let key = key?;
            let Some(value) = look::dict_get_borrowed(object, key.as_borrowed()) else {
                return Err(changed("OrderedDict mutated during iteration"));
            };
            self.save(key.as_borrowed())?;
            self.item(value)?;
        }
        self.encoder.opcode(op::SETITEMS);
        Ok(true)
    }

    pub(super) fn range(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        self.class_of(class)?;
        for name in [
            intern!(self.py, "start"),
            intern!(self.py, "stop"),
            intern!(self.py, "step"),
        ] {
            self.save(object.getattr(name)?.as_borrowed())?;
        }
        self.encoder.opcode(op::TUPLE3);
        self.called(object, once)
    }

    pub(super) fn deque(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        let most = object.getattr(intern!(self.py, "maxlen"))?;
        self.class_of(class)?;
        self.encoder.opcode(op::EMPTY_TUPLE);
        if !most.is_none() {
            self.save(most.as_borrowed())?;
            self.encoder.opcode(op::TUPLE2);
        }
        self.encoder.opcode(op::REDUCE);
        if !self.made(object, once)? {
            return Ok(());
        }
        self.list_items(&object.try_iter()?.into_any())?;
        Ok(())
    }

    /// A class and a dict of its items.
    pub(super) fn counter(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
        once: bool,
    ) -> Saved {
        self.class_of(class)?;
        self.encoder.opcode(op::EMPTY_DICT);
        self.open_tuples += usize::from(!once);
        if look::dict_len(object) > 0 {
            self.exact_dict_items(object)?;
        }
        self.open_tuples -= usize::from(!once);
        self.encoder.opcode(op::TUPLE1);
        self.called(object, once)
    }

    /// Asks an object whose answer runs no code, and keeps the answer as long as parts of it are remembered.
    pub(super) fn ask_quietly(
        &mut self,
        object: Object<'_, 'py>,
        class: &Bound<'py, PyType>,
    ) -> Saved {
        let reduced = self.ask(object, class)?;
        self.memo.keep(&reduced);
        if self.pure && reduced.cast::<PyString>().is_ok() {
            return Err(Stop::Impure);
        }
        self.reduced(object, &reduced)
    }
}
