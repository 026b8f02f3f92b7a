//! Classes and functions, written by the name under which their module has them.

use bequeath_pickle::opcode as op;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::look::Object;
use super::plain;
use super::reduction::Reduction;
use super::save::{Saved, Saver, Stop};
use super::tables::{dotted, follow, pickling_error, which_module, Tables};
use super::version::{HAS_MANGLED_NAMES, HAS_NOTES};
use crate::intern;

impl<'py> Saver<'_, 'py> {
    /// A class whose metaclass is `type`.
    pub(super) fn class(&mut self, object: Object<'_, 'py>) -> Saved {
        let py = self.py;
        let singletons: [Bound<'py, PyAny>; 3] = [
            py.None().into_bound(py),
            py.NotImplemented().into_bound(py),
            py.Ellipsis().into_bound(py),
        ];
        for instance in singletons {
            if object.is(instance.get_type()) {
                let arguments = PyTuple::new(py, [instance])?;
                let call = Reduction::call(py.get_type::<PyType>().into_any(), arguments);
                return self.full(|this| this.reduce(&call, Some(object)));
            }
        }
        self.global(object, None)
    }

    /// Writes an object by the name under which its module has it.
    pub(super) fn global(
        &mut self,
        object: Object<'_, 'py>,
        name: Option<Bound<'py, PyString>>,
    ) -> Saved {
        let py = self.py;
        let object = object.to_owned();
        if name.is_none() {
            // What can be seen to be there without running code needs no further proof.
            match plain::visible_name(&object)? {
                Some((module, name)) if self.may_name(&module, &name)? => {
                    return self.named(&object, &module, &name, &name, false);
                }
                _ if self.pure => return Err(Stop::impure()),
                _ => {}
            }
        }
        let name = match name {
            Some(name) => name.into_any(),
            None => match Self::attribute(&object, intern!(py, "__qualname__"))? {
                Some(name) => name,
                None => object.getattr(intern!(py, "__name__"))?,
            },
        };
        let name = name.cast_into::<PyString>().map_err(PyErr::from)?;
        let shown = repr(&object);
        let Ok(text) = name.to_str().map(str::to_owned) else {
            return self.global_without_text(&object, &name, &shown);
        };
        let (name, text) = match mangled(&text) {
            Some(text) => (PyString::new(py, &text), text),
            None => (name, text),
        };
        let path = dotted(&shown, &text).map_err(|cause| unreachable_name(&shown, &name, cause))?;
        let module = which_module(&object, &path)?;
        let module = module.cast_into::<PyString>().map_err(PyErr::from)?;
        let imported = py.import(&module).map_err(|cause| {
            let text = if HAS_NOTES {
                format!("Can't pickle {shown}: {}", cause.value(py))
            } else {
                let module = repr(module.as_any());
                format!("Can't pickle {shown}: import of module {module} failed")
            };
            because_of(cause, pickling_error(py, text))
        })?;
        let (found, parent) = follow(imported.as_any(), &path).map_err(|cause| {
            let text = if HAS_NOTES {
                format!("Can't pickle {shown}: it's not found as {module}.{text}")
            } else {
                format!("Can't pickle {shown}: attribute lookup {text} on {module} failed")
            };
            because_of(cause, pickling_error(py, text))
        })?;
        if !found.is(&object) {
            let text = format!("Can't pickle {shown}: it's not the same object as {module}.{text}");
            return Err(pickling_error(py, text).into());
        }
        let last = PyString::new(py, path.last().copied().unwrap_or_default());
        let inside = path.len() > 1 && !parent.is(imported.as_any());
        self.named(&object, &module, &name, &last, inside)
    }

    /// The same for a name that is no text of any encoding, and so has no parts.
    fn global_without_text(
        &mut self,
        object: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
        shown: &str,
    ) -> Saved {
        let module = object.getattr(intern!(self.py, "__module__"))?;
        let module = module.cast_into::<PyString>().map_err(PyErr::from)?;
        if !self.py.import(&module)?.getattr(name)?.is(object) {
            let text = format!("Can't pickle {shown}: it's not the same object as {module}.{name}");
            return Err(pickling_error(self.py, text).into());
        }
        self.named(object, &module, name, name, false)
    }

    /// Whether a pure walk may write a name. In a full one the policy has been asked for the object already.
    fn may_name(
        &self,
        module: &Bound<'py, PyString>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<bool> {
        match self.hooks.policy {
            Some(policy) if self.pure => policy.has_name(module, name),
            _ => Ok(true),
        }
    }

    /// Writes module and name; `inside` where the name has dots, and leads to an attribute of a class.
    pub(super) fn named(
        &mut self,
        object: &Bound<'py, PyAny>,
        module: &Bound<'py, PyString>,
        name: &Bound<'py, PyString>,
        last: &Bound<'py, PyString>,
        inside: bool,
    ) -> Saved {
        let py = self.py;
        let protocol = self.encoder.protocol();
        if protocol >= 2 {
            let registry = Tables::get(py)?.extension_registry.bind(py);
            if let Ok(registry) = registry.cast::<PyDict>() {
                if !registry.is_empty() {
                    if let Some(code) = registry.get_item((module, name))? {
                        let code = extension_code(&code)?;
                        self.encoder.extension(code);
                        return Ok(());
                    }
                }
            }
        }
        if protocol >= 4 {
            // The texts may have been made just now, and be gone before their places in memory are forgotten.
            for text in [module, name] {
                self.memo.keep(text.as_any()).map_err(PyErr::from)?;
            }
            self.save(module.as_any().as_borrowed())?;
            self.save(name.as_any().as_borrowed())?;
            self.encoder.opcode(op::STACK_GLOBAL);
        } else if inside {
            return self.nested(object, module, name);
        } else {
            self.lines(module, last)?;
        }
        self.remember(object.as_borrowed());
        Ok(())
    }

    /// A dotted name before protocol 4: `getattr(getattr(first, second), third)`. Written by names alone: a class
    /// can be an attribute of itself.
    fn nested(
        &mut self,
        object: &Bound<'py, PyAny>,
        module: &Bound<'py, PyString>,
        name: &Bound<'py, PyString>,
    ) -> Saved {
        let py = self.py;
        let text = name.to_str()?;
        let mut parts = text.split('.');
        let first = PyString::new(py, parts.next().unwrap_or_default());
        let parts: Vec<_> = parts.map(|part| PyString::new(py, part)).collect();
        let getattr = Tables::get(py)?.getattr.bind(py).clone();
        let old = self.encoder.protocol() < 2;
        for _ in &parts {
            self.save(getattr.as_borrowed())?;
            if old {
                self.encoder.opcode(op::MARK);
            }
        }
        self.lines(module, &first)?;
        for part in parts {
            self.save(part.as_any().as_borrowed())?;
            self.encoder
                .opcode(if old { op::TUPLE } else { op::TUPLE2 });
            self.encoder.opcode(op::REDUCE);
        }
        self.remember(object.as_borrowed());
        Ok(())
    }

    /// A global by two lines.
    fn lines(&mut self, module: &Bound<'py, PyString>, name: &Bound<'py, PyString>) -> Saved {
        let py = self.py;
        let protocol = self.encoder.protocol();
        let (module, name) = if self.hooks.fix_imports && protocol < 3 {
            name_of_python_2(module, name)?
        } else {
            (module.clone(), name.clone())
        };
        let spelled = |text: &Bound<'py, PyString>, what: &str| -> PyResult<Vec<u8>> {
            let spelling = text
                .to_str()
                .ok()
                .filter(|text| protocol >= 3 || text.is_ascii());
            if let Some(spelling) = spelling {
                return Ok(spelling.as_bytes().to_vec());
            }
            let shown = if HAS_NOTES {
                repr(text.as_any())
            } else {
                format!("'{text}'")
            };
            let error = pickling_error(
                py,
                format!("can't pickle {what} identifier {shown} using pickle protocol {protocol}"),
            );
            let encoding = if protocol >= 3 { "utf-8" } else { "ascii" };
            match text.call_method1(intern!(py, "encode"), (encoding,)) {
                Err(cause) => Err(because_of(cause, error)),
                Ok(_) => Err(error),
            }
        };
        let (module, name) = (spelled(&module, "module")?, spelled(&name, "global")?);
        self.encoder.global_lines(&module, &name);
        Ok(())
    }
}

/// The name of something private as the compiler spells it: `C.__x` is found under `C._C__x`.
fn mangled(text: &str) -> Option<String> {
    if !HAS_MANGLED_NAMES || !text.contains(".__") {
        return None;
    }
    let mut class = "";
    let spelled: Vec<_> = text
        .split('.')
        .map(|part| {
            let owner = std::mem::replace(&mut class, part).trim_start_matches('_');
            let is_private = part.starts_with("__") && !part.ends_with("__") && !owner.is_empty();
            if is_private {
                format!("_{owner}{part}")
            } else {
                part.to_owned()
            }
        })
        .collect();
    Some(spelled.join("."))
}

fn repr(object: &Bound<'_, PyAny>) -> String {
    object
        .repr()
        .map_or_else(|_| "?".to_owned(), |text| text.to_string())
}

/// An error that another one led to.
pub(super) fn because_of(cause: PyErr, error: PyErr) -> PyErr {
    Python::attach(|py| {
        let name = intern!(py, "__context__");
        // An exception can have a context: this cannot fail, and would change nothing.
        let _ = error.value(py).setattr(name, cause.value(py));
        error.set_cause(py, Some(cause));
        error
    })
}

/// What CPython raises for a name inside of a function, version by version.
fn unreachable_name(shown: &str, name: &Bound<'_, PyString>, cause: PyErr) -> PyErr {
    let py = name.py();
    if cfg!(Py_3_14) {
        let error = pickling_error(py, format!("Can't pickle local object {shown}"));
        return because_of(cause, error);
    }
    let cannot = if cfg!(Py_3_13) { "get" } else { "pickle" };
    let name = repr(name.as_any());
    PyAttributeError::new_err(format!("Can't {cannot} local object {name}"))
}

/// A registered code; what `copyreg` would not have registered raises what CPython raises.
fn extension_code(code: &Bound<'_, PyAny>) -> PyResult<u32> {
    let number: i64 = code.extract()?;
    match u32::try_from(number) {
        Ok(number) if number > 0 && i32::try_from(number).is_ok() => Ok(number),
        _ => Err(PyRuntimeError::new_err(format!(
            "extension code {number} is out of range"
        ))),
    }
}

/// What Python 2 called a module and a name in it.
fn name_of_python_2<'py>(
    module: &Bound<'py, PyString>,
    name: &Bound<'py, PyString>,
) -> PyResult<(Bound<'py, PyString>, Bound<'py, PyString>)> {
    let py = module.py();
    let tables = Tables::get(py)?;
    let names = tables.name_mapping_3_to_2.bind(py);
    if let Ok(found) = names.get_item((module, name)) {
        let pair: (Bound<'py, PyString>, Bound<'py, PyString>) = found.extract()?;
        return Ok(pair);
    }
    let modules = tables.import_mapping_3_to_2.bind(py);
    if let Ok(found) = modules.get_item(module) {
        return Ok((
            found.cast_into::<PyString>().map_err(PyErr::from)?,
            name.clone(),
        ));
    }
    Ok((module.clone(), name.clone()))
}
