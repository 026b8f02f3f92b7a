//! Nor can a closure be part of a message.
fn main() {
    let session = bequeath::Session::new().unwrap();
    let queue = session.queue::<Box<dyn Fn(u32) -> u32>>(None).unwrap();
    let _ = queue.send(&(Box::new(|n| n + 1) as _));
}
