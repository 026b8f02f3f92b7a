//! What the fuzz targets share: a builder that takes every opcode, and the bound on memory.

pub mod bound;
pub mod graph;
pub mod write;
