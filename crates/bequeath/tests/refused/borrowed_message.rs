//! A message is received as values of one's own, not as borrows of the sender's.
fn main() {
    let session = bequeath::Session::new().unwrap();
    let queue = session.queue::<(u32, &[u64])>(None).unwrap();
    let _ = queue.recv();
}
