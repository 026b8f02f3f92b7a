//! The extension module `bequeath._engine`: the export list and nothing else.

use pyo3::prelude::*;

/// bequeath's engine; the public names live in the modules of the package.
#[pymodule]
mod _engine {
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
