//! The plain part of pickle as a serde format: what Rust and Python can both say without executing anything.
//!
//! | Rust | Python |
//! |---|---|
//! | `()`, unit structs, `Option::None` | `None` |
//! | `Some(x)`, newtype structs | `x` |
//! | `bool`, integers, floats, `char` and strings | `bool`, `int`, `float`, `str` |
//! | bytes (`serde_bytes`) | `bytes` |
//! | sequences | `list`; `tuple`, `set` and `frozenset` are read too |
//! | tuples, tuple structs | `tuple` |
//! | maps, structs | `dict`; a struct's keys are `str` |
//! | unit variants | `str` |
//! | other variants | `dict` of one key: `{"Variant": content}` |
//! | [`Call`]; [`Object`] | what a function of the package `bequeath` makes; what a pickle says of it |
//!
//! As in JSON, `Some(None)` and `Some(())` are `None`, and come back as `None`.

mod de;
mod nodes;
mod object;
mod ser;

pub use de::from_slice;
pub use object::{Call, Object, Part};
pub use ser::to_vec;

use crate::error::Error;

/// Deeper nesting is refused before the program's stack ends; by the writer too, so that the reader gets what was sent.
const MAX_DEPTH: usize = 256;

impl serde::ser::Error for Error {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

impl serde::de::Error for Error {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}
