#![allow(unsafe_code)]
//! Functions and code objects: what they have, and where their instructions stand in the source.
//!
//! # Safety invariants
//! Fields are read of functions that are alive, with the layout that PyO3 declares for this interpreter.

#[cfg(Py_3_11)]
use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::Borrowed;

use super::super::look::Object;

/// A place in a code object: line, last line, first column, last column; -1 for what is not known.
pub(crate) type Position = (i32, i32, i32, i32);

/// Where the source of an instruction stands; nothing before 3.11, where code objects know no columns.
#[cfg(Py_3_11)]
pub(crate) fn code_position(code: &Bound<'_, PyAny>, instruction: i32) -> Option<Position> {
    extern "C" {
        fn PyCode_Addr2Location(
            code: *mut ffi::PyObject,
            instruction: c_int,
            line: *mut c_int,
            column: *mut c_int,
            end_line: *mut c_int,
            end_column: *mut c_int,
        ) -> c_int;
    }
    if !code.is_exact_instance_of::<pyo3::types::PyCode>() {
        return None;
    }
    let (mut line, mut column, mut end_line, mut end_column) = (-1, -1, -1, -1);
    // SAFETY: a code object, alive; an instruction outside of it is answered with "unknown"; four places to write to.
    let known = unsafe {
        PyCode_Addr2Location(
            code.as_ptr(),
            instruction,
            &mut line,
            &mut column,
            &mut end_line,
            &mut end_column,
        )
    };
    (known != 0).then_some((line, end_line, column, end_column))
}

/// The same for versions that know nothing.
#[cfg(not(Py_3_11))]
pub(crate) fn code_position(_code: &Bound<'_, PyAny>, _instruction: i32) -> Option<Position> {
    None
}

/// The table of positions of a code object of so many units that all stand in one place, as code objects have it since 3.11.
pub(crate) fn position_table(units: usize, first_line: i32, place: Position) -> Vec<u8> {
    const LONG: u8 = 14;
    const WITHOUT_COLUMNS: u8 = 13;
    const MOST_UNITS: usize = 8;
    let (line, end_line, column, end_column) = place;
    let has_columns = end_line >= line && column >= 0 && end_column >= 0;
    let kind = if has_columns { LONG } else { WITHOUT_COLUMNS };
    let mut table = Vec::new();
    let mut step = line.wrapping_sub(first_line);
    let mut left = units;
    while left > 0 {
        let covered = left.min(MOST_UNITS);
        table.push(0x80 | kind << 3 | (covered as u8 - 1));
        let sign = u32::from(step < 0);
        put_number(&mut table, step.unsigned_abs() << 1 | sign);
        if has_columns {
            put_number(&mut table, end_line.abs_diff(line));
            put_number(&mut table, column.unsigned_abs() + 1);
            put_number(&mut table, end_column.unsigned_abs() + 1);
        }
        step = 0;
        left -= covered;
    }
    table
}

/// Six bits a byte, lowest first; all but the last one marked.
fn put_number(table: &mut Vec<u8>, mut number: u32) {
    while number >= 1 << 6 {
        table.push(1 << 6 | (number & 0x3f) as u8);
        number >>= 6;
    }
    table.push(number as u8);
}

/// What a Python function has, as the descriptors of its class would show it; nothing for None.
pub(in super::super) struct OfFunction<'a, 'py> {
    pub(in super::super) code: Object<'a, 'py>,
    pub(in super::super) globals: Object<'a, 'py>,
    pub(in super::super) name: Option<Object<'a, 'py>>,
    pub(in super::super) qualname: Option<Object<'a, 'py>>,
    pub(in super::super) doc: Option<Object<'a, 'py>>,
    pub(in super::super) module: Option<Object<'a, 'py>>,
    pub(in super::super) closure: Option<Object<'a, 'py>>,
    pub(in super::super) defaults: Option<Object<'a, 'py>>,
    pub(in super::super) keyword_defaults: Option<Object<'a, 'py>>,
    pub(in super::super) attributes: Option<Object<'a, 'py>>,
    /// Since 3.12.
    pub(in super::super) type_parameters: Option<Object<'a, 'py>>,
    /// Since 3.14: the function that works its annotations out.
    pub(in super::super) annotate: Option<Object<'a, 'py>>,
    pub(in super::super) has_annotations: bool,
}

/// What an exact Python function has.
#[cfg(not(Py_3_16))]
pub(in super::super) fn of_function<'a, 'py>(function: Object<'a, 'py>) -> OfFunction<'a, 'py> {
    let py = function.py();
    // SAFETY: a function that is alive, see above.
    let raw = unsafe { &*function.as_ptr().cast::<ffi::PyFunctionObject>() };
    // SAFETY: a field of the function: an object that it holds, or null.
    let maybe = |field: *mut ffi::PyObject| unsafe { Borrowed::from_ptr_or_opt(py, field) };
    let some = |field| maybe(field).filter(|value: &Object<'a, 'py>| !value.is_none());
    // SAFETY: the same, which is never null.
    let one = |field: *mut ffi::PyObject| unsafe { Borrowed::from_ptr(py, field) };
    #[cfg(Py_3_12)]
    let type_parameters = some(raw.func_typeparams);
    #[cfg(not(Py_3_12))]
    let type_parameters = None;
    #[cfg(Py_3_14)]
    let annotate = some(raw.func_annotate);
    #[cfg(not(Py_3_14))]
    let annotate = None;
    OfFunction {
        code: one(raw.func_code),
        globals: one(raw.func_globals),
        name: some(raw.func_name),
        qualname: some(raw.func_qualname),
        doc: some(raw.func_doc),
        module: some(raw.func_module),
        closure: some(raw.func_closure),
        defaults: some(raw.func_defaults),
        keyword_defaults: some(raw.func_kwdefaults),
        attributes: some(raw.func_dict),
        type_parameters,
        annotate,
        has_annotations: !raw.func_annotations.is_null(),
    }
}
