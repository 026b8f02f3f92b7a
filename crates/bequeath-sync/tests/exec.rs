//! A process that becomes another program while its threads use a cell leaves it free.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use bequeath_os::Deadline;
use bequeath_sync::{exec, Cell, Never};
use bequeath_testing::{wait_until, Peer};
use common::{guard, Shared};

const ROUNDS: usize = 40;

/// Threads that are inside the cell most of the time; then the process becomes `sleep`.
fn become_another_program(cell: &Cell<2>, prepare: fn()) {
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| loop {
                let mut guard = cell.lock();
                let state = guard.state();
                guard.stage([state[0] + 1, state[1]]);
                std::hint::black_box((0..3000).fold(0_u64, |sum, next| sum ^ next));
                guard.commit();
            });
        }
        wait_until("the cell is in use", || cell.lock().state()[0] > 100);
        prepare();
        let error = Command::new("sleep").arg("1000").exec();
        panic!("{error}");
    });
}

fn stuck(prepare: fn()) -> usize {
    let mut stuck = 0;
    for _ in 0..ROUNDS {
        let cell = Shared::<Cell<2>>::zeroed();
        let peer = Peer::spawn(|| become_another_program(&cell, prepare));
        let line = format!("/proc/{}/cmdline", peer.pid());
        wait_until("it is another program", || {
            std::fs::read(&line).is_ok_and(|line| line.starts_with(b"sleep"))
        });
        let soon = Deadline::after(Duration::from_millis(1100));
        stuck += usize::from(cell.lock_until(soon, &mut Never).is_err());
        peer.kill();
        peer.join();
    }
    stuck
}

#[test]
fn no_cell_stays_locked() {
    let _watchdog = guard();
    assert_eq!(stuck(exec::before), 0);
}

#[test]
fn without_the_preparation_one_does() {
    let _watchdog = guard();
    // A third of the threads' time is spent inside: so many rounds without a hit do not happen.
    assert!(stuck(|| ()) > 0);
}

#[test]
fn after_a_failed_exec_all_threads_go_on() {
    let _watchdog = guard();
    let cell = Cell::<2>::new();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            for _ in 0..200_000 {
                cell.lock().commit();
            }
        });
        while !other.is_finished() {
            exec::before();
            let _ = Command::new("/nonexistent/program").exec();
            cell.lock().commit();
        }
    });
}
