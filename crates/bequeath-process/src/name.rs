//! A process's name as the kernel shows it.

use std::ffi::CString;

/// Fifteen bytes, the kernel's limit; a name is not cut inside a character, and ends at a zero byte.
const LIMIT: usize = 15;

/// Gives this process (its main thread calls this) the name that `ps` shows.
pub fn set_process_name(name: &str) {
    let name = name.split('\0').next().unwrap_or_default();
    let mut end = name.len().min(LIMIT);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    if let Ok(name) = CString::new(&name[..end]) {
        // A decoration: a system that refuses it loses nothing else.
        let _ = bequeath_os::attributes::set_name(&name);
    }
}
