//! An address means nothing elsewhere.
fn main() {
    let session = bequeath::Session::new().unwrap();
    let queue = session.queue::<*const u8>(None).unwrap();
    let _ = queue.send(&std::ptr::null());
}
