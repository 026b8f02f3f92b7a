//! What must not cross does not compile: closures, borrowed data, `Rc`, raw pointers, lock guards.
//!
//! What the compiler says stands beside each program and is compared with the compiler that it was
//! written with; others word it differently, and there only the refusal itself is checked. After an
//! update: `TRYBUILD=overwrite cargo test -p bequeath --test refused`, and the version below.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The compiler whose words are compared.
const WORDED_BY: &str = "rustc 1.95.";

#[test]
fn what_must_not_cross_does_not_compile() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refused");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let programs = if version.starts_with(WORDED_BY) {
        programs
    } else {
        without_words(&programs)
    };
    trybuild::TestCases::new().compile_fail(programs.join("*.rs"));
}

/// Copies of the programs, beside which the compiler's words are written down instead of compared.
fn without_words(programs: &Path) -> PathBuf {
    let copies = Path::new(env!("CARGO_TARGET_TMPDIR")).join("refused");
    std::fs::create_dir_all(&copies).unwrap();
    for entry in std::fs::read_dir(programs).unwrap().flatten() {
        if entry
            .path()
            .extension()
            .is_some_and(|ending| ending == "rs")
        {
            std::fs::copy(entry.path(), copies.join(entry.file_name())).unwrap();
        }
    }
    std::env::set_var("TRYBUILD", "overwrite");
    copies
}
