//! The extension module `bequeath._engine`: the export list and nothing else.

use pyo3::prelude::*;

mod packed;
mod transfer;

/// bequeath's engine; the public names live in the modules of the package.
#[pymodule]
mod _engine {
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use crate::packed::{pack, unpack, Packed};
    #[pymodule_export]
    use crate::transfer::{
        export_descriptor, import_descriptor, transfer_active, transfer_is_start,
    };
}
