//! The examples do what they say.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where this test's build has its examples. They are built here if only this test was asked for.
fn examples() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let test = std::env::current_exe().expect("this test is a program");
        let profile = test.ancestors().nth(2).expect("it lies in deps").to_owned();
        let target = profile.parent().expect("the folder of all profiles");
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args([
            "build",
            "--quiet",
            "--offline",
            "--package",
            "bequeath",
            "--examples",
        ]);
        build.arg("--target-dir").arg(target);
        // `cargo test` calls the folder of its own profile so, but for this one.
        let name = profile.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|name| *name != "debug") {
            build.args(["--profile", name]);
        }
        assert!(build.status().expect("cargo runs").success());
        profile.join("examples")
    })
}

/// Runs an example and returns what it printed.
fn run(example: &str, arguments: &[&str]) -> String {
    let output = Command::new(examples().join(example))
        .args(arguments)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("the example was built");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{example}: {said}{complaint}");
    said
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bequeath-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tree(name: &str) -> Folder {
    let folder = Folder::new(name);
    folder.write("a.py", b"one two_2 Two one\xff\xc3\xa9one\n");
    folder.write("deep/er/b.py", b"def one(): pass # one-two");
    folder.write("empty.py", b"");
    folder.write("not.txt", b"never never");
    folder.write("site-packages/c.py", b"never");
    folder.write("deep/__pycache__/d.py", b"never");
    std::os::unix::fs::symlink(folder.0.join("deep"), folder.0.join("linked")).unwrap();
    std::os::unix::fs::symlink(folder.0.join("a.py"), folder.0.join("z.py")).unwrap();
    folder
}

fn word_count(folder: &Path, more: &[&str]) -> String {
    let mut arguments = vec![folder.to_str().expect("a plain name")];
    arguments.extend(more);
    run("word_count", &arguments)
}

#[test]
fn word_count_counts_what_its_definition_says() {
    let folder = tree("count");
    let said = word_count(&folder.0, &["--workers", "2"]);
    assert!(
        said.contains("the counts are the sequential run's\n"),
        "{said}"
    );
    let counts = said.split_once("total: ").expect("the totals").1;
    assert_eq!(
        counts,
        "15 words, 6 different, in 4 files\n8 one\n2 Two\n2 two_2\n1 def\n1 pass\n1 two\n"
    );
}

#[test]
fn word_count_agrees_with_the_python_program() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/word_count.py");
    let folder = tree("agree");
    let python = Command::new("python3")
        .arg(&program)
        .arg(&folder.0)
        .args(["--workers", "2", "--start-method", "fork"])
        .output();
    let Some(python) = python
        .ok()
        .filter(|python| python.status.success() && program.exists())
    else {
        eprintln!("skipped: no python3 here");
        return;
    };
    let theirs = String::from_utf8_lossy(&python.stdout).into_owned();
    let ours = word_count(&folder.0, &["--workers", "2"]);
    let counts = |said: &str| {
        said.split_once("total: ")
            .map(|(_, counts)| counts.to_owned())
    };
    assert!(counts(&ours).is_some());
    assert_eq!(counts(&ours), counts(&theirs));
}

#[test]
fn word_count_ends_when_a_worker_is_killed_and_loses_its_file_at_most() {
    let folder = Folder::new("killed");
    // Half of them are more than the workers can be ahead when one is killed.
    for number in 0..600 {
        folder.write(&format!("{number}.py"), &b"some words here ".repeat(500));
    }
    let said = word_count(&folder.0, &["--workers", "3", "--kill-one"]);
    assert!(said.contains("died: killed by SIGKILL"), "{said}");
    assert!(said.matches("lost with its worker").count() <= 1, "{said}");
    assert!(
        said.contains("total: 900000 words, 3 different, in 600 files"),
        "{said}"
    );
}

#[test]
fn the_origin_questions_programs_run() {
    let said = run("origin", &[]);
    for expected in [
        "I'm being encoded!\n",
        "the worker got Foobar\n",
        "refused: Queue objects should only be shared between processes through inheritance",
        "passed: hello from the worker\n",
        "the worker made 7 of it\n",
    ] {
        assert!(
            said.contains(expected),
            "{expected:?} is missing in\n{said}"
        );
    }
}

#[test]
fn a_killed_worker_is_survived() {
    let said = run("killed_worker", &[]);
    assert!(
        said.starts_with("the holder of the lock died: worker-1 (pid "),
        "{said}"
    );
    assert!(said.contains("the account is whole: [1, 2]\n"), "{said}");
    assert!(said.contains("died: killed by SIGKILL\n"), "{said}");
}
