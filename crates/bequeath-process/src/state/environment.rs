//! The environment, as one block of entries; and which of its variables are read only once.

use bequeath_os::attributes;

/// The environment of a process: `NAME=value` entries, each ended by a zero byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(Vec<u8>);

/// Variables that a process reads when it starts: the loader's, the allocator's, the C library's
/// and the interpreter's. A template has read them long before the child is forked.
const READ_AT_START: [&str; 8] = [
    "LD_",
    "MALLOC_",
    "GLIBC_TUNABLES",
    "PYTHON",
    "LC_",
    "LANG",
    "ASAN_",
    "UBSAN_",
];

/// Variables that libraries read when they are loaded; they matter where a template has loaded any.
const READ_AT_LOAD: [&str; 18] = [
    "OMP_",
    "KMP_",
    "GOMP_",
    "OPENBLAS_",
    "GOTO_",
    "MKL_",
    "BLIS_",
    "NUMEXPR_",
    "VECLIB_",
    "CUDA_",
    "NVIDIA_",
    "NCCL_",
    "HIP_",
    "ROCR_",
    "TF_",
    "XLA_",
    "NPY_",
    "NUMBA_",
];

impl Environment {
    /// This process's.
    #[must_use]
    pub fn current() -> Self {
        Self(attributes::environment())
    }

    /// From a block.
    #[must_use]
    pub const fn from_block(block: Vec<u8>) -> Self {
        Self(block)
    }

    /// The block.
    #[must_use]
    pub fn as_block(&self) -> &[u8] {
        &self.0
    }

    /// Its entries, without the zero bytes.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split(|byte| *byte == 0)
            .filter(|entry| !entry.is_empty())
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.entries()
            .find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
    }

    /// The entries that a template must have had when it was started to stand for an exec: those read
    /// at an interpreter's start, and with `loaded` those that libraries read at load; sorted.
    #[must_use]
    pub fn read_once(&self, loaded: bool) -> Vec<&[u8]> {
        let load: &[&str] = if loaded { &READ_AT_LOAD } else { &[] };
        let mut entries: Vec<&[u8]> = self
            .entries()
            .filter(|entry| {
                let mut prefixes = READ_AT_START.iter().chain(load);
                prefixes.any(|prefix| entry.starts_with(prefix.as_bytes()))
            })
            .collect();
        entries.sort_unstable();
        entries
    }
}
