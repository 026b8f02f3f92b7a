//! What stands in an object's place: a call that makes it again, and what is done with what that makes.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::look;
use super::notes::type_name;
use super::tables::pickling_error;
use super::version;

/// What must be is something else: since 3.14 it is said what.
pub(super) fn but_not(text: &str, found: &Bound<'_, PyAny>) -> String {
    if version::HAS_NOTES {
        format!("{text}, not {}", type_name(found.as_borrowed()))
    } else {
        text.to_owned()
    }
}

/// A call that makes an object again, and what is done with what it makes.
pub(crate) struct Reduction<'py> {
    pub(super) callable: Bound<'py, PyAny>,
    pub(super) arguments: Bound<'py, PyTuple>,
    pub(super) state: Option<Bound<'py, PyAny>>,
    pub(super) list_items: Option<Bound<'py, PyAny>>,
    pub(super) dict_items: Option<Bound<'py, PyAny>>,
    pub(super) state_setter: Option<Bound<'py, PyAny>>,
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

    /// A call, and a second one that gives what was made its state.
    pub(super) fn call_and_set(
        callable: Bound<'py, PyAny>,
        arguments: Bound<'py, PyTuple>,
        state: Bound<'py, PyAny>,
        setter: Option<Bound<'py, PyAny>>,
    ) -> Self {
        Self {
            state: Some(state),
            state_setter: setter,
            ..Self::call(callable, arguments)
        }
    }

    /// Arguments and state.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Bound<'py, PyAny>> {
        std::iter::once(self.arguments.as_any()).chain(&self.state)
    }

    /// What a `__reduce__` would return.
    pub(super) fn into_tuple(self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let Self {
            callable,
            arguments,
            state,
            list_items,
            dict_items,
            state_setter,
        } = self;
        if state.is_none() {
            return (callable, arguments).into_pyobject(py);
        }
        (
            callable,
            arguments,
            state,
            list_items,
            dict_items,
            state_setter,
        )
            .into_pyobject(py)
    }

    /// What `__reduce__` returned, checked.
    pub(super) fn of(tuple: &Bound<'py, PyTuple>) -> PyResult<Self> {
        let py = tuple.py();
        let len = tuple.len();
        if !(2..=6).contains(&len) {
            let text = "tuple returned by __reduce__ must contain 2 through 6 elements";
            return Err(pickling_error(py, text));
        }
        let all = tuple.as_any().as_borrowed();
        let item = |at: usize| look::tuple_item(all, at).to_owned();
        let optional = |at: usize| (at < len).then(|| item(at)).filter(|item| !item.is_none());
        let callable = item(0);
        if !callable.is_callable() {
            let text = "first item of the tuple returned by __reduce__ must be callable";
            return Err(pickling_error(py, but_not(text, &callable)));
        }
        let second = item(1);
        let Ok(arguments) = second.cast::<PyTuple>() else {
            let text = "second item of the tuple returned by __reduce__ must be a tuple";
            return Err(pickling_error(py, but_not(text, &second)));
        };
        let arguments = arguments.clone();
        let which_item = if version::HAS_NOTES {
            "item"
        } else {
            "element"
        };
        let iterator = |at: usize, which: &str| -> PyResult<Option<Bound<'py, PyAny>>> {
            let Some(item) = optional(at) else {
                return Ok(None);
            };
            if item.cast::<pyo3::types::PyIterator>().is_err() {
                let name = item.get_type().name()?;
                return Err(pickling_error(
                    py,
                    format!("{which} {which_item} of the tuple returned by __reduce__ must be an iterator, not {name}"),
                ));
            }
            Ok(Some(item))
        };
        let state_setter = optional(5);
        if let Some(setter) = state_setter.as_ref().filter(|setter| !setter.is_callable()) {
            let name = setter.get_type().name()?;
            let callable = if version::HAS_NOTES {
                "callable"
            } else {
                "a function"
            };
            return Err(pickling_error(
                py,
                format!("sixth {which_item} of the tuple returned by __reduce__ must be {callable}, not {name}"),
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

/// What is written in an object's place.
pub(crate) enum Reduced<'py> {
    /// What its `__reduce__`, or a reducer of the program, returned.
    Said(Bound<'py, PyAny>),
    /// A call that was made for this pickle: nobody else has its tuples.
    Fresh(Reduction<'py>),
}

impl<'py> Reduced<'py> {
    /// As a `__reduce__` would have returned it.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn into_value(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Said(value) => Ok(value),
            Self::Fresh(reduction) => Ok(reduction.into_tuple(py)?.into_any()),
        }
    }
}
