#![allow(unsafe_code)]
//! How many threads the numeric libraries of this process compute with: OpenBLAS, MKL, BLIS, OpenMP.
//!
//! Variables like `OMP_NUM_THREADS` are read when a library is loaded. Where one is loaded already, as in a forked
//! child, its own function is called.
//!
//! # Safety invariants
//! - Names and handles from the dynamic loader are used while the loader's callback runs, or until the handle is closed; a
//!   library that was found loaded stays loaded.
//! - A function found under one of the documented names takes one C int and returns nothing, or an int that is not looked at.

use std::ffi::{c_int, c_void, CStr, CString};

use libc::{dl_phdr_info, RTLD_LAZY, RTLD_NOLOAD};

/// One of the libraries: its name here, how its files' names begin, and the functions that set the number of threads, of
/// which a build has one.
struct Library {
    name: &'static str,
    files: &'static [&'static str],
    functions: &'static [&'static CStr],
}

const LIBRARIES: [Library; 4] = [
    Library {
        name: "openblas",
        files: &["libopenblas", "libscipy_openblas", "libblas"],
        functions: &[
            c"openblas_set_num_threads",
            c"openblas_set_num_threads64_",
            c"openblas_set_num_threads_64_",
            c"scipy_openblas_set_num_threads",
            c"scipy_openblas_set_num_threads64_",
        ],
    },
    Library {
        name: "mkl",
        files: &["libmkl_rt", "mkl_rt"],
        functions: &[c"MKL_Set_Num_Threads"],
    },
    Library {
        name: "blis",
        files: &["libblis"],
        functions: &[c"bli_thread_set_num_threads"],
    },
    Library {
        name: "openmp",
        files: &["libgomp", "libomp", "libiomp"],
        functions: &[c"omp_set_num_threads"],
    },
];

/// Lets the loaded ones of the named libraries compute with so many threads. Returns which those were.
///
/// For OpenMP this is about the calling thread and what it will start.
///
/// # After fork
/// Valid in the child, and meant for it: the parent's number stays.
#[must_use]
pub fn limit(names: &[&str], threads: u32) -> Vec<&'static str> {
    let count = c_int::try_from(threads.max(1)).unwrap_or(c_int::MAX);
    let mut limited = Vec::new();
    for path in loaded() {
        let file = path.to_bytes().rsplit(|&byte| byte == b'/').next();
        let file = String::from_utf8_lossy(file.unwrap_or_default()).into_owned();
        let library = LIBRARIES.iter().find(|library| {
            names.contains(&library.name)
                && library.files.iter().any(|start| file.starts_with(start))
        });
        let Some(library) = library else {
            continue;
        };
        if set(&path, library.functions, count) && !limited.contains(&library.name) {
            limited.push(library.name);
        }
    }
    limited
}

/// The paths of the shared libraries that are loaded.
fn loaded() -> Vec<CString> {
    unsafe extern "C" fn note(info: *mut dl_phdr_info, _size: usize, into: *mut c_void) -> c_int {
        // SAFETY: the loader lends a whole structure for the time of this call.
        let name = unsafe { (*info).dlpi_name };
        if !name.is_null() {
            // SAFETY: a text that ends with zero, as long as this call lasts.
            let name = unsafe { CStr::from_ptr(name) };
            // SAFETY: the vector that `loaded` hands in, and nobody else uses meanwhile.
            let into = unsafe { &mut *into.cast::<Vec<CString>>() };
            into.push(name.to_owned());
        }
        0
    }
    let mut paths: Vec<CString> = Vec::new();
    // SAFETY: the function takes what it is given here, and does not unwind.
    unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut paths).cast()) };
    paths
}

/// Calls the first of the functions that the library has.
fn set(path: &CStr, functions: &[&CStr], count: c_int) -> bool {
    // SAFETY: a path that ends with zero; nothing is loaded that is not already.
    let handle = unsafe { libc::dlopen(path.as_ptr(), RTLD_LAZY | RTLD_NOLOAD) };
    if handle.is_null() {
        return false;
    }
    let found = functions.iter().find_map(|name| {
        // SAFETY: a handle that is open and a name that ends with zero.
        let function = unsafe { libc::dlsym(handle, name.as_ptr()) };
        (!function.is_null()).then_some(function)
    });
    if let Some(function) = found {
        // SAFETY: of this type by the library's documentation, see above.
        let function: unsafe extern "C" fn(c_int) = unsafe { std::mem::transmute(function) };
        // SAFETY: the same; the library takes any positive number.
        unsafe { function(count) };
    }
    // SAFETY: opened above, and closed once.
    unsafe { libc::dlclose(handle) };
    found.is_some()
}
