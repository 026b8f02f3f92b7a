//! Hostile bytes read as Rust values of several shapes: an error or a value, within the bound on memory; a value comes
//! back as it is when it is written and read again.
#![no_main]

use std::alloc::System;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use bequeath_fuzz::bound;
use bequeath_pickle::{from_slice, to_vec};
use cap::Cap;
use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Task {
    name: String,
    sizes: Vec<u32>,
    parts: Option<Box<Task>>,
    rest: BTreeMap<String, i64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    Stop,
    Wait(f32),
    Move(i8, i128),
    Call { name: char, with: Vec<Step> },
}

/// Whatever describes itself.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Any {
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Any>),
    Dict(BTreeMap<String, Any>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nested(Vec<Nested>);

fn read<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) {
    let value = bound::within(&ALLOCATOR, bytes.len(), || from_slice::<T>(bytes));
    if let Ok(value) = value {
        let written = to_vec(&value).expect("what was read can be written");
        let again = from_slice::<T>(&written).expect("what was written can be read");
        // Only a NaN is not itself.
        assert!(again == value || format!("{value:?}").contains("NaN"), "{value:?} {again:?}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    read::<Task>(bytes);
    read::<Step>(bytes);
    read::<Any>(bytes);
    read::<Nested>(bytes);
    read::<Vec<String>>(bytes);
    read::<Vec<(u8, Option<i64>, f64)>>(bytes);
    read::<HashMap<u64, Vec<u8>>>(bytes);
    read::<(i128, u128)>(bytes);
});
