//! Lets `cfg(Py_3_13)` and its kin be used: some calls of the interpreter were renamed.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
