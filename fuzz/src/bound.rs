//! The bound on memory that every target is held to.

use std::alloc::System;

use cap::Cap;

/// What reading may cost whatever the input is: the least that tables are made for, and serde's first reserve of a
/// vector (a megabyte at most, once per level of the types asked for).
const FLOOR: usize = 8 << 20;
/// What each byte of input may cost besides. Opcodes of one byte make the most of it: a value of the builder's, a
/// place on the stack and one in the memo, in vectors that grow by doubling.
const PER_BYTE: usize = 2048;

/// Runs `body`, which reads `input` bytes. Beyond the bound there is no memory, and the process ends.
pub fn within<T>(allocator: &Cap<System>, input: usize, body: impl FnOnce() -> T) -> T {
    let limit = allocator.allocated() + FLOOR + input * PER_BYTE;
    allocator.set_limit(limit).expect("more than is allocated");
    let value = body();
    allocator.set_limit(usize::MAX).expect("no limit");
    value
}
