//! Every public item of this crate says how it is used, and every shared type what a fork and a
//! death do to it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// Types that live in one process only.
const LOCAL: [&str; 8] = [
    "Error",
    "DeadProcess",
    "LockError",
    "Abandoned",
    "Message",
    "Bytes",
    "Result",
    "Any",
];

/// Each public item with the documentation above it.
fn public_items() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut items = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap();
        let mut documentation = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(said) = line.strip_prefix("///") {
                documentation.push_str(said);
                documentation.push('\n');
            } else if !line.starts_with("#[") {
                let kinds = [
                    "pub fn ",
                    "pub const fn ",
                    "pub struct ",
                    "pub enum ",
                    "pub trait ",
                ];
                if let Some(rest) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) {
                    let name =
                        rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
                    let name = name.into_iter().next().unwrap_or_default().to_owned();
                    items.push((name, documentation.clone()));
                }
                documentation.clear();
            }
        }
    }
    assert!(items.len() > 80, "only {} items were found", items.len());
    items
}

#[test]
fn every_public_item_has_an_example() {
    let without: Vec<_> = public_items()
        .into_iter()
        .filter(|(_, documentation)| !documentation.contains("```"))
        .map(|(name, _)| name)
        .collect();
    assert!(without.is_empty(), "no example: {without:?}");
}

#[test]
fn every_shared_type_says_what_a_fork_and_a_death_do() {
    for (name, documentation) in public_items() {
        let is_type = name.starts_with(char::is_uppercase);
        if is_type && !LOCAL.contains(&name.as_str()) {
            for heading in ["# After fork", "# If a peer dies"] {
                assert!(
                    documentation.contains(heading),
                    "{name} has no heading {heading}"
                );
            }
        }
    }
}
