//! The library is for programs without Python: nothing of it may come along.
#![allow(clippy::unwrap_used)]

use std::process::Command;

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo prints text")
}

#[test]
fn no_python_is_in_the_dependency_tree() {
    let tree = cargo(&[
        "tree",
        "--offline",
        "--locked",
        "--package",
        "bequeath",
        "--prefix",
        "none",
        "--all-features",
    ]);
    let names: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(
        names.contains(&"bequeath-shm") && names.contains(&"rustix"),
        "{names:?}"
    );
    let python: Vec<_> = names
        .iter()
        .filter(|name| name.contains("pyo3") || name.contains("python"))
        .collect();
    assert!(python.is_empty(), "{python:?}");
}

#[test]
fn only_the_kernel_crate_names_the_kernel() {
    for package in [
        "bequeath",
        "bequeath-sync",
        "bequeath-shm",
        "bequeath-channel",
        "bequeath-process",
        "bequeath-inspect",
    ] {
        let tree = cargo(&[
            "tree",
            "--offline",
            "--locked",
            "--package",
            package,
            "--depth",
            "1",
            "--prefix",
            "none",
            "--edges",
            "normal",
        ]);
        let direct: Vec<&str> = tree
            .lines()
            .skip(1)
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert!(
            !direct.contains(&"libc") && !direct.contains(&"rustix"),
            "{package}: {direct:?}"
        );
    }
}
