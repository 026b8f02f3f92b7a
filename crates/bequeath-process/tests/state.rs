//! The plan that gives a child its starter's state.

use bequeath_process::state::{Environment, Plan, State};

#[test]
fn the_same_state_needs_nothing() {
    let own = State::capture().unwrap();
    assert_eq!(own.plan(&own, true), Ok(Plan::default()));
}

#[test]
fn what_differs_and_can_be_set_is_planned() {
    let own = State::capture().unwrap();
    let mut wanted = own.clone();
    wanted.settable.umask = own.settable.umask ^ 0o7;
    wanted.settable.nice = own.settable.nice + 1;
    wanted.settable.limits[7].0 = own.settable.limits[7].0 - 1;
    wanted.settable.blocked = own.settable.blocked | 1;
    let plan = own.plan(&wanted, true).unwrap();
    assert_eq!(plan.umask, Some(wanted.settable.umask));
    assert_eq!(plan.nice, Some(wanted.settable.nice));
    assert_eq!(plan.limits, [(7, wanted.settable.limits[7])]);
    assert_eq!(plan.blocked, Some(wanted.settable.blocked));
    assert_eq!(plan.affinity, None);
}

#[test]
fn signals_that_an_interpreter_always_ignores_are_left_to_it() {
    let own = State::capture().unwrap();
    let mut wanted = own.clone();
    wanted.settable.ignored = own.settable.ignored ^ (1 << 12) ^ (1 << 9);
    let plan = own.plan(&wanted, true).unwrap();
    assert_eq!(plan.ignore | plan.heed, 1 << 9);
}

#[test]
fn what_cannot_be_set_is_refused_by_name() {
    let own = State::capture().unwrap();
    let mut other = own.clone();
    other.fixed.session += 1;
    assert_eq!(own.plan(&other, true), Err("session"));
    let mut other = own.clone();
    other.fixed.users[1] += 1;
    assert_eq!(own.plan(&other, true), Err("user"));
    let mut other = own.clone();
    other.fixed.cgroup.push(b'x');
    assert_eq!(own.plan(&other, true), Err("control group"));
    let mut other = own.clone();
    other.fixed.root.1 += 1;
    assert_eq!(own.plan(&other, true), Err("root directory"));
}

#[test]
fn privileges_decide_what_may_be_raised() {
    let mut own = State::capture().unwrap();
    own.fixed.capabilities[2] = 0;
    own.settable.limits[7] = (100, 100);
    own.settable.oom_score_adj = 5;
    let mut wanted = own.clone();
    wanted.settable.limits[7] = (100, 200);
    assert!(own.plan(&wanted, true).is_err());
    wanted.settable.limits[7] = (50, 50);
    assert!(own.plan(&wanted, true).is_ok());
    wanted.settable.oom_score_adj = 4;
    assert!(own.plan(&wanted, true).is_err());
    wanted.settable.oom_score_adj = 6;
    assert!(own.plan(&wanted, true).is_ok());
}

#[test]
fn variables_that_are_read_once_must_be_the_same() {
    let block = |text: &str| Environment::from_block(text.replace(' ', "\0").into_bytes());
    let mut own = State::capture().unwrap();
    let mut wanted = own.clone();
    own.environment = block("HOME=/ LD_PRELOAD=a OMP_NUM_THREADS=1 ");
    wanted.environment = block("OMP_NUM_THREADS=1 LD_PRELOAD=a HOME=/elsewhere ");
    assert!(own.plan(&wanted, true).is_ok());
    wanted.environment = block("LD_PRELOAD=a OMP_NUM_THREADS=2 ");
    assert!(own.plan(&wanted, false).is_ok());
    assert!(own.plan(&wanted, true).is_err());
    wanted.environment = block("OMP_NUM_THREADS=1 ");
    assert!(own.plan(&wanted, false).is_err());
    assert_eq!(own.environment.get(b"HOME"), Some(&b"/"[..]));
}
