#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod builder;
mod decode;
mod encode;
mod error;
mod escape;
mod memo;
pub mod opcode;
#[cfg(feature = "serde")]
mod plain;
mod source;

pub use builder::Builder;
pub use decode::Decoder;
pub use encode::Encoder;
pub use error::{Error, Result};
#[cfg(feature = "serde")]
pub use plain::{from_slice, to_vec, Call, Object, Part};
pub use source::{Slice, Source};

/// The newest protocol.
pub const HIGHEST_PROTOCOL: u8 = 5;
