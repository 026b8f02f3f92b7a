//! The long form of tests, which `make faults` asks for.

/// Whether everything is to be tried, however long it takes: `BEQUEATH_FAULTS=long`.
#[must_use]
pub fn is_long() -> bool {
    let asked = std::env::var("BEQUEATH_FAULTS");
    asked.is_ok_and(|form| matches!(form.as_str(), "full" | "long"))
}

/// For what has a long form only: whether to do it; where not, a line says so.
#[must_use]
pub fn is_long_for(name: &str) -> bool {
    if !is_long() {
        println!("{name}: in the long form, `make faults`");
    }
    is_long()
}
