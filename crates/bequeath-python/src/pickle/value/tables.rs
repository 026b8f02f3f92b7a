//! What taking definitions apart and putting them together needs of the interpreter; looked up once.

use pyo3::prelude::*;

use crate::once::Once;

pub(super) struct Tables {
    pub(super) marshal_dumps: Py<PyAny>,
    pub(super) marshal_loads: Py<PyAny>,
    pub(super) import_module: Py<PyAny>,
    pub(super) getattr: Py<PyAny>,
    pub(super) vars: Py<PyAny>,
    pub(super) referents: Py<PyAny>,
    pub(super) set_class_attribute: Py<PyAny>,
    pub(super) delete_class_attribute: Py<PyAny>,
    pub(super) weak_reference: Py<PyAny>,
    pub(super) types: Py<PyAny>,
    pub(super) modules: Py<PyAny>,
    pub(super) dispatch_table: Py<PyAny>,
    pub(super) cell: Py<PyAny>,
    pub(super) function: Py<PyAny>,
    pub(super) method: Py<PyAny>,
    pub(super) member: Py<PyAny>,
    pub(super) getset: Py<PyAny>,
    pub(super) main_surely_has: Py<PyAny>,
}

static TABLES: Once<Tables> = Once::new();

impl Tables {
    pub(super) fn get(py: Python<'_>) -> PyResult<&Self> {
        TABLES.get_or_try_init(py, || Self::look_up(py))
    }

    fn look_up(py: Python<'_>) -> PyResult<Self> {
        let from = |module: &str, name: &str| -> PyResult<Py<PyAny>> {
            Ok(py.import(module)?.getattr(name)?.unbind())
        };
        let types = py.import("types")?;
        let of_type = |name: &str| py.get_type::<pyo3::types::PyType>().getattr(name);
        Ok(Self {
            marshal_dumps: from("marshal", "dumps")?,
            marshal_loads: from("marshal", "loads")?,
            import_module: from("importlib", "import_module")?,
            getattr: from("builtins", "getattr")?,
            vars: from("builtins", "vars")?,
            referents: from("gc", "get_referents")?,
            set_class_attribute: of_type("__setattr__")?.unbind(),
            delete_class_attribute: of_type("__delattr__")?.unbind(),
            weak_reference: from("_weakref", "ref")?,
            modules: from("sys", "modules")?,
            dispatch_table: from("copyreg", "dispatch_table")?,
            cell: types.getattr("CellType")?.unbind(),
            function: types.getattr("FunctionType")?.unbind(),
            method: types.getattr("MethodType")?.unbind(),
            member: types.getattr("MemberDescriptorType")?.unbind(),
            getset: types.getattr("GetSetDescriptorType")?.unbind(),
            types: types.into_any().unbind(),
            main_surely_has: from("bequeath._home", "main_surely_has")?,
        })
    }
}

/// The functions that rebuild; pickles name them as functions of the engine.
pub(super) struct Callables {
    pub(super) function: Py<PyAny>,
    pub(super) set_function: Py<PyAny>,
    pub(super) class: Py<PyAny>,
    pub(super) set_class: Py<PyAny>,
    pub(super) enumeration: Py<PyAny>,
    pub(super) code: Py<PyAny>,
    pub(super) cell: Py<PyAny>,
    pub(super) set_cell: Py<PyAny>,
    pub(super) namespace: Py<PyAny>,
    pub(super) main: Py<PyAny>,
    pub(super) module: Py<PyAny>,
    pub(super) set_module: Py<PyAny>,
    pub(super) cached: Py<PyAny>,
    pub(super) view: Py<PyAny>,
    pub(super) variable: Py<PyAny>,
    pub(super) weak: Py<PyAny>,
    pub(super) class_cell: Py<PyAny>,
}

static CALLABLES: Once<Callables> = Once::new();

impl Callables {
    pub(super) fn get(py: Python<'_>) -> PyResult<&Self> {
        CALLABLES.get_or_try_init(py, || {
            let engine = py.import("bequeath._engine")?;
            let named = |name: &str| engine.getattr(name).map(Bound::unbind);
            Ok(Self {
                function: named("rebuild_function")?,
                set_function: named("set_function")?,
                class: named("rebuild_class")?,
                set_class: named("set_class")?,
                enumeration: named("rebuild_enum")?,
                code: named("rebuild_code")?,
                cell: named("rebuild_cell")?,
                set_cell: named("set_cell")?,
                namespace: named("rebuild_namespace")?,
                main: named("rebuild_main")?,
                module: named("rebuild_module")?,
                set_module: named("set_module")?,
                cached: named("rebuild_cached")?,
                view: named("rebuild_view")?,
                variable: named("rebuild_type_variable")?,
                weak: named("rebuild_weak_reference")?,
                class_cell: named("set_class_cell")?,
            })
        })
    }
}
