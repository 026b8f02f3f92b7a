#![allow(unsafe_code)]
//! Values of simple ctypes types, read and written without ctypes.
//!
//! What the short cut does not know for certain (a subclass, swapped bytes, a value that is not
//! exactly an int, float or bool) goes through ctypes, whose conversions and errors it then has.
//!
//! # Safety invariants
//! `address` is a ctypes object's own (`ctypes.addressof`) and aligned; the caller holds that object, and
//! with it its memory, as long as it uses the value. Others may change the bytes: one atomic access each.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicU8, Ordering::Relaxed};

use crate::once::Once;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyType};

use crate::intern;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Signed,
    Unsigned,
    Float,
}

/// Where a simple value is, and what it is.
pub(super) struct Simple {
    address: usize,
    size: u8,
    kind: Kind,
}

/// The very classes of ctypes with what they hold.
static CLASSES: Once<Vec<(Py<PyType>, Kind)>> = Once::new();

const NAMES: [(&str, Kind); 13] = [
    ("c_int", Kind::Signed),
    ("c_double", Kind::Float),
    ("c_bool", Kind::Bool),
    ("c_long", Kind::Signed),
    ("c_longlong", Kind::Signed),
    ("c_uint", Kind::Unsigned),
    ("c_ulong", Kind::Unsigned),
    ("c_ulonglong", Kind::Unsigned),
    ("c_float", Kind::Float),
    ("c_byte", Kind::Signed),
    ("c_ubyte", Kind::Unsigned),
    ("c_short", Kind::Signed),
    ("c_ushort", Kind::Unsigned),
];

impl Simple {
    /// The value of this ctypes object, if it is one of those that the short cut knows.
    pub(super) fn of(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let py = object.py();
        let ctypes = py.import(intern!(py, "ctypes"))?;
        let classes = CLASSES.get_or_try_init(py, || {
            let class = |(name, kind): (&str, Kind)| {
                Ok::<_, PyErr>((ctypes.getattr(name)?.cast_into::<PyType>()?.unbind(), kind))
            };
            NAMES.into_iter().map(class).collect::<PyResult<Vec<_>>>()
        })?;
        let class = object.get_type();
        let Some((_, kind)) = classes.iter().find(|(known, _)| known.is(&class)) else {
            return Ok(None);
        };
        let address: usize = ctypes
            .call_method1(intern!(py, "addressof"), (object,))?
            .extract()?;
        let size: u8 = ctypes
            .call_method1(intern!(py, "sizeof"), (object,))?
            .extract()?;
        let plain = matches!(size, 1 | 2 | 4 | 8) && address % usize::from(size) == 0;
        Ok(plain.then_some(Self {
            address,
            size,
            kind: *kind,
        }))
    }

    #[inline]
    fn load(&self) -> u64 {
        let address = self.address;
        match self.size {
            // SAFETY: mapped, aligned to its size, and as long as that (module's invariants).
            1 => u64::from(unsafe { AtomicU8::from_ptr(address as *mut u8) }.load(Relaxed)),
            // SAFETY: as above.
            2 => u64::from(unsafe { AtomicU16::from_ptr(address as *mut u16) }.load(Relaxed)),
            // SAFETY: as above.
            4 => u64::from(unsafe { AtomicU32::from_ptr(address as *mut u32) }.load(Relaxed)),
            // SAFETY: as above.
            _ => unsafe { AtomicU64::from_ptr(address as *mut u64) }.load(Relaxed),
        }
    }

    #[inline]
    fn store(&self, bits: u64) {
        let address = self.address;
        match self.size {
            // SAFETY: mapped, aligned to its size, and as long as that (module's invariants).
            1 => unsafe { AtomicU8::from_ptr(address as *mut u8) }.store(bits as u8, Relaxed),
            // SAFETY: as above.
            2 => unsafe { AtomicU16::from_ptr(address as *mut u16) }.store(bits as u16, Relaxed),
            // SAFETY: as above.
            4 => unsafe { AtomicU32::from_ptr(address as *mut u32) }.store(bits as u32, Relaxed),
            // SAFETY: as above.
            _ => unsafe { AtomicU64::from_ptr(address as *mut u64) }.store(bits, Relaxed),
        }
    }

    #[inline]
    pub(super) fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bits = self.load();
        let spare = 64 - 8 * u32::from(self.size);
        Ok(match (self.kind, self.size) {
            (Kind::Bool, _) => PyBool::new(py, bits != 0).to_owned().into_any(),
            (Kind::Signed, _) => (((bits << spare) as i64) >> spare)
                .into_pyobject(py)?
                .into_any(),
            (Kind::Unsigned, _) => bits.into_pyobject(py)?.into_any(),
            (Kind::Float, 4) => PyFloat::new(py, f32::from_bits(bits as u32).into()).into_any(),
            (Kind::Float, _) => PyFloat::new(py, f64::from_bits(bits)).into_any(),
        })
    }

    /// False when only ctypes knows what to make of `value`.
    #[inline]
    pub(super) fn set(&self, value: &Bound<'_, PyAny>) -> bool {
        let bits = match self.kind {
            Kind::Bool => value
                .cast_exact::<PyBool>()
                .ok()
                .map(|value| u64::from(value.is_true())),
            // As ctypes: what does not fit loses its high bits; beyond 64 bits ctypes may do that.
            Kind::Signed | Kind::Unsigned => {
                let value = value.cast_exact::<PyInt>().ok();
                value
                    .and_then(|value| value.extract::<i64>().ok())
                    .map(|value| value as u64)
            }
            Kind::Float => value.cast_exact::<PyFloat>().ok().map(|value| {
                if self.size == 4 {
                    u64::from((value.value() as f32).to_bits())
                } else {
                    value.value().to_bits()
                }
            }),
        };
        bits.map(|bits| self.store(bits)).is_some()
    }
}
