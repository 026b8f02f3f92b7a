//! Who locked must unlock: the right to a lock's value stays where it was acquired.
fn main() {
    let session = bequeath::Session::new().unwrap();
    let lock = session.lock(0_u64).unwrap();
    let queue = session.queue(None).unwrap();
    let guard = lock.lock().unwrap();
    let _ = queue.send(&guard);
}
