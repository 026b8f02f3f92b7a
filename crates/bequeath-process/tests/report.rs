//! A child's word to its starter.

use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_process::report::{tell, Heard, Report};

#[test]
fn a_word_is_heard_whole() {
    for length in [1, 64, 65, 40_000] {
        let report = Report::new().unwrap();
        let word = vec![7; length];
        assert!(tell(report.child_end().unwrap(), &word));
        assert_eq!(report.hear(Deadline::NEVER).unwrap(), Heard::Packet(word));
    }
}

#[test]
fn silence_is_told_from_an_end() {
    let mut report = Report::new().unwrap();
    let end = report.child_end().unwrap().try_clone_to_owned().unwrap();
    report.handed_over();
    drop(end);
    assert_eq!(report.hear(Deadline::NEVER).unwrap(), Heard::Nothing);
}

#[test]
fn who_is_late_learns_that_nobody_listens() {
    let report = Report::new().unwrap();
    let soon = Deadline::after(Duration::from_millis(1));
    assert_eq!(report.hear(soon).unwrap(), Heard::TooLate);
    assert!(!tell(report.child_end().unwrap(), b"too late"));
}
