//! What a worker may use: processors, threads of numeric libraries; and whether the kernel killed for want of memory.

use bequeath_os::limits::{usable_processors_in, OomKills};
use bequeath_os::math_threads;
use pyo3::prelude::*;

/// How many processors this process can keep busy now, by affinity and the control groups' quota; at least one.
#[pyfunction]
#[must_use]
pub fn usable_processors(py: Python<'_>) -> u32 {
    py.detach(|| usable_processors_in(std::path::Path::new("/")))
}

/// How many processes of a process's control group (this one's) the kernel has killed for want of memory, or on the machine where
/// no group counts; None if nobody does. A worker that died by SIGKILL between two looks, the second of which is higher, was one.
#[pyfunction]
#[pyo3(signature = (pid = None))]
#[must_use]
pub fn oom_kills(py: Python<'_>, pid: Option<u32>) -> Option<u64> {
    py.detach(|| pid.map_or_else(OomKills::now, OomKills::of).count())
}

/// Lets the loaded ones of these numeric libraries compute with so many threads; tells which those were.
#[pyfunction]
#[must_use]
pub fn limit_math_threads(names: Vec<String>, threads: u32) -> Vec<&'static str> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    math_threads::limit(&names, threads)
}
