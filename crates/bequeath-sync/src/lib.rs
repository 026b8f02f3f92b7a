//! Waiting and exclusion between processes that may die at any instruction.
