//! What the tests of this crate share: a harness whose `main` starts with `bequeath::init()`, so that
//! started copies of the test program become workers. One test at a time, each with a watchdog and
//! a look at what it left behind.

use std::process::ExitCode;
use std::time::Duration;

use bequeath::Session;
use bequeath_testing::{Leftovers, Watchdog};
use libtest_mimic::{Arguments, Failed, Trial};

/// A test by its name.
pub type Test = (&'static str, fn());

/// Runs the tests; called first in `main`.
pub fn run(tests: &[Test]) -> ExitCode {
    bequeath::init();
    make_what_a_process_keeps();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = tests
        .iter()
        .map(|&(name, test)| Trial::test(name, move || guarded(test)))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What is made once in a process and stays: the board, the parent's end of ties.
fn make_what_a_process_keeps() {
    let session = Session::new().expect("a session");
    let child = session
        .worker()
        .daemon(true)
        .spawn(|_: ()| (), ())
        .expect("a worker");
    child.result().expect("its result");
}

fn guarded(test: fn()) -> Result<(), Failed> {
    let asked = std::env::var("BEQUEATH_TEST_SECONDS").ok();
    let seconds = asked.and_then(|text| text.parse().ok()).unwrap_or(50);
    let watchdog = Watchdog::new(Duration::from_secs(seconds));
    let before = Leftovers::snapshot();
    test();
    before.check();
    drop(watchdog);
    Ok(())
}

/// All the tests of a file, by their names.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        fn main() -> std::process::ExitCode {
            support::run(&[$((stringify!($name), $name)),*])
        }
    };
}
