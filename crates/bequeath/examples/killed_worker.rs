//! A worker is killed while it holds a lock: the others are told, and go on.
//!
//!     cargo run --example killed_worker

use bequeath::{Error, Event, Lock, Session};

/// Two numbers that belong together: the second is always twice the first.
type Account = [u64; 2];

fn change_and_hang((account, changed): (Lock<Account>, Event)) {
    let mut guard = account.lock().expect("the lock is free");
    *guard = [1, 2];
    drop(guard);
    let mut guard = account.lock().expect("the lock is free");
    guard[0] = 1000; // and before the second follows
    changed.set();
    loop {
        std::thread::park();
    }
}

fn main() -> Result<(), Error> {
    bequeath::init();
    let session = Session::new()?;
    let account = session.lock::<Account>([0, 0])?;
    let changed = session.event()?;

    let worker = session
        .worker()
        .name("worker-1")
        .spawn(change_and_hang, (account.clone(), changed.clone()))?;
    changed.wait()?;
    worker.kill()?;

    let mut guard = match account.lock() {
        Ok(_) => unreachable!("the worker was killed with the lock held"),
        Err(abandoned) => {
            println!("{abandoned}");
            abandoned.recover()?
        }
    };
    println!("the account is whole: {:?}", *guard);
    *guard = [2, 4];
    drop(guard);
    println!("and goes on: {:?}", *account.lock()?);

    match worker.result() {
        Err(error @ Error::Died { .. }) => println!("{error}"),
        other => println!("unexpected: {other:?}"),
    }
    Ok(())
}
