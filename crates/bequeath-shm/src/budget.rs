//! How much memory a session may use, when nobody says otherwise.
//!
//! `fallocate` does not fail at a control group's limit: the kernel kills. So the session refuses
//! first, at half of what the limits and the free memory leave when it is made.

use bequeath_os::limits;

use crate::layout::PAGE;

/// Environment variable with the limit: bytes, or a number with K, M, G or T behind it.
pub const LIMIT_VARIABLE: &str = "BEQUEATH_MEMORY_LIMIT";

/// Reads a limit such as `1500000`, `512M` or `2GiB`.
#[must_use]
pub fn parse_limit(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// The budget of a new session in an arena of `size` bytes.
pub(crate) fn default_limit(size: u64) -> u64 {
    let asked = std::env::var(LIMIT_VARIABLE)
        .ok()
        .and_then(|text| parse_limit(&text));
    asked
        .unwrap_or_else(|| {
            let ceilings = [
                limits::cgroup_memory(),
                limits::available_memory(),
                limits::address_space().soft,
            ];
            let room = ceilings.into_iter().flatten().min().unwrap_or(1 << 30);
            (room / 2).max(64 * PAGE)
        })
        .min(size)
}
