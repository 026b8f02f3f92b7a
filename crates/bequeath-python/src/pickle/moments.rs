#![allow(unsafe_code)]
//! Dates, times and deltas of `datetime`'s C implementation, as they lie in memory.
//!
//! # Safety invariants
//! Each function is given an object that is alive and of exactly the type that its name says; what it returns is borrowed
//! from that object, which does not change.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::Borrowed;

use super::look::Object;

/// The types of `datetime`'s C implementation.
#[derive(Clone, Copy)]
pub(super) struct Calendar {
    date: usize,
    time: usize,
    datetime: usize,
    delta: usize,
}

/// Which of them a type is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Date,
    Time,
    DateTime,
    Delta,
}

impl Calendar {
    /// Nothing where the implementation is missing.
    pub(super) fn look_up(py: Python<'_>) -> Option<Self> {
        // SAFETY: attached.
        unsafe { ffi::PyDateTime_IMPORT() };
        // SAFETY: set by the call above, or null.
        let api = unsafe { ffi::PyDateTimeAPI() };
        if api.is_null() {
            drop(PyErr::take(py));
            return None;
        }
        // SAFETY: lives as long as the interpreter.
        let api = unsafe { &*api };
        Some(Self {
            date: api.DateType as usize,
            time: api.TimeType as usize,
            datetime: api.DateTimeType as usize,
            delta: api.DeltaType as usize,
        })
    }

    pub(super) fn which(self, class: usize) -> Option<Moment> {
        [
            (self.date, Moment::Date),
            (self.time, Moment::Time),
            (self.datetime, Moment::DateTime),
            (self.delta, Moment::Delta),
        ]
        .into_iter()
        .find_map(|(address, moment)| (address == class).then_some(moment))
    }
}

pub(super) fn date_bytes(date: Object<'_, '_>) -> [u8; 4] {
    // SAFETY: an exact date.
    unsafe { (*date.as_ptr().cast::<ffi::PyDateTime_Date>()).data }
}

/// What a time is made of, with its fold in the highest bit, and its zone.
pub(super) fn time_parts<'a, 'py>(time: Object<'a, 'py>) -> ([u8; 6], Option<Object<'a, 'py>>) {
    let raw = time.as_ptr().cast::<ffi::PyDateTime_Time>();
    // SAFETY: an exact time.
    let mut data = unsafe { (*raw).data };
    // SAFETY: the same.
    let fold = unsafe { (*raw).fold };
    // SAFETY: the same.
    let zoned = unsafe { (*raw).hastzinfo };
    data[0] |= if fold == 0 { 0 } else { 0x80 };
    // SAFETY: the field is there where it says so.
    let zone = (zoned != 0).then(|| unsafe { (*raw).tzinfo });
    // SAFETY: borrowed from the time.
    (
        data,
        zone.map(|zone| unsafe { Borrowed::from_ptr(time.py(), zone) }),
    )
}

/// The same of a datetime.
pub(super) fn datetime_parts<'a, 'py>(
    datetime: Object<'a, 'py>,
) -> ([u8; 10], Option<Object<'a, 'py>>) {
    let raw = datetime.as_ptr().cast::<ffi::PyDateTime_DateTime>();
    // SAFETY: an exact datetime.
    let mut data = unsafe { (*raw).data };
    // SAFETY: the same.
    let fold = unsafe { (*raw).fold };
    // SAFETY: the same.
    let zoned = unsafe { (*raw).hastzinfo };
    data[2] |= if fold == 0 { 0 } else { 0x80 };
    // SAFETY: the field is there where it says so.
    let zone = (zoned != 0).then(|| unsafe { (*raw).tzinfo });
    // SAFETY: borrowed from the datetime.
    (
        data,
        zone.map(|zone| unsafe { Borrowed::from_ptr(datetime.py(), zone) }),
    )
}

/// Days, seconds and microseconds.
pub(super) fn delta_parts(delta: Object<'_, '_>) -> [i64; 3] {
    // SAFETY: an exact timedelta.
    let raw = unsafe { &*delta.as_ptr().cast::<ffi::PyDateTime_Delta>() };
    [raw.days, raw.seconds, raw.microseconds].map(i64::from)
}
